# Everything a person does with this project: `make help`.

SHELL := /bin/bash
ENVIRONMENT := .venv
READY := $(ENVIRONMENT)/.ready
MXNET := .venv-mxnet
SBOM := .venv-sbom
IN := PATH="$(CURDIR)/$(ENVIRONMENT)/bin:$$PATH"
INSTALL := $(ENVIRONMENT)/bin/python tools/install.py
# What a run imports most of is compiled by all cores, a third of all there is; Python compiles the rest when somebody
# imports it. Some packages have files for other Pythons only.
IMPORTED := alembic dulwich dvc fastapi keras matplotlib mlflow narwhals networkx numpy pandas pydantic scipy sklearn \
	sqlalchemy tensorflow
COMPILE = $(ENVIRONMENT)/bin/python -m compileall -qq -j 0 -x '/tests?/' \
	$(addprefix $(ENVIRONMENT)/lib/python*/site-packages/,$(1)) || true
# DVC runs what it finds in its site cache: nobody else may write there. An absolute path, as `dvc exp run --temp` and a
# call in a subfolder need; so it is not in .dvc/config.
OWN_SITE_CACHE := mkdir -p .dvc-site-cache/repo && chmod 700 .dvc-site-cache \
	&& $(IN) dvc config --local core.site_cache_dir "$(CURDIR)/.dvc-site-cache"
# The page of `dvc plots` has its library inside, which DVC's own would load from the network. By a path from .dvc/ on.
OWN_PLOTS_PAGE := $(IN) python -c 'from keras_pipeline.comparison import interactive; print(interactive.dvc_page())' \
	> $(ENVIRONMENT)/plots.html && $(IN) dvc config --local plots.html_template ../$(ENVIRONMENT)/plots.html

RUN_DVC := $(IN) python tools/run_dvc.py

.DEFAULT_GOAL := help

.PHONY: help
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 15

.PHONY: setup
setup: $(READY)  ## create the environment in .venv from the pinned, hash-checked requirements (PYTHON=python3.12: of that one)

$(READY): requirements.lock requirements-uv.lock pyproject.toml
	@python=$$(for name in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
		command -v $$name >/dev/null && $$name -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$name && break; \
	done) && [ -n "$$python" ] || { echo "Python 3.11, 3.12 or 3.13 with its venv module is needed (on Debian: apt-get install python3-venv)." >&2; exit 6; }; \
	echo "setup: $$python, environment in $(ENVIRONMENT) (about 3 GB, a minute or two)"; \
	$$python -m venv $(ENVIRONMENT)
	@$(INSTALL) --require-hashes -r requirements.lock
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@$(call COMPILE,$(IMPORTED))
	@$(OWN_SITE_CACHE)
	@$(OWN_PLOTS_PAGE)
	@touch $@

.PHONY: run
run: $(READY)  ## fetch, normalize, train, evaluate and track with params.yaml; ends with the result
	@$(RUN_DVC)
# Before DVC, which reads files that may never end.
	@$(IN) keras-pipeline params check
	@$(OWN_SITE_CACHE)
	@$(IN) keras-pipeline fetch --download-only; code=$$?; case $$code in \
	0) $(RUN_DVC) repro;; \
	4) printf '\n%s\n' \
		'!!! The dataset of params.yaml cannot be had here (see above).' \
		'!!! This run uses the 1,797 digits inside scikit-learn instead: fetch.dataset=digits,' \
		'!!! and batches of 32, since there are few of them.' \
		'!!! Its name, reports and tags say so; params.yaml is changed by it.' ''; \
	   export GIT_COMMITTER_NAME="$${GIT_COMMITTER_NAME:-$$(git config user.name || echo nobody)}" \
	          GIT_COMMITTER_EMAIL="$${GIT_COMMITTER_EMAIL:-$$(git config user.email || echo nobody@localhost)}"; \
	   $(RUN_DVC) exp run -S fetch.dataset=digits -S train.batch_size=32;; \
	*) exit $$code;; esac
	@echo; $(IN) keras-pipeline status
	@echo 'runs:     make ui'

.PHONY: ui
ui: $(READY)  ## look at all runs in MLflow's page
	@$(IN) keras-pipeline ui

.PHONY: lint
lint: $(READY)  ## style and types
	@$(IN) ruff check .
	@$(IN) ruff format --check .
	@$(IN) mypy

# Files are shared out whole, in their order: what a file's tests have in common is made once.
TWO := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: test
test: test-fast  ## every test, the fast ones first
	@$(IN) pytest -m slow $(TWO)

.PHONY: test-fast
test-fast: $(READY)  ## the fast tests, in less than a minute
	@$(IN) pytest -m 'not slow and not proof' $(TWO)

.PHONY: proofs
proofs: $(READY)  ## what takes too long for `make test`, kills and the whole conformance table; its result into docs/proofs.md
	@$(IN) pytest -v -m proof tests/proofs --record docs/proofs.md

.PHONY: faults
faults: $(READY)  ## every test that proves what happens when something goes wrong; its result into docs/faults.md
	@$(IN) pytest tests --faults docs/faults.md $(TWO)

.PHONY: docs-check
docs-check: $(READY)  ## the commands of README.md and docs/, as they are written, in a fresh clone (half an hour)
	@$(IN) python tests/support/commands_in_docs.py

.PHONY: test-optional
test-optional: $(READY)  ## the tests that `make test` skips for lack of something optional: make jax, torch, browser, mxnet
	@$(IN) pytest -m '(needs_jax or needs_torch or needs_browser or needs_mxnet) and not proof' $(TWO)

.PHONY: benchmark
benchmark: $(READY) jax  ## how fast this machine trains, beside Keras, PyTorch and JAX (three quarters of an hour; see docs/speed.md)
	@$(IN) python benchmarks/epochs.py
	@$(IN) python benchmarks/pipeline.py
	@$(IN) python benchmarks/experiment.py
	@$(IN) python benchmarks/checkpoint_cost.py

.PHONY: studies
studies: $(READY) jax torch  ## every study in studies/, its report into docs/studies/ (what is known is not done again)
# One run at a time where seconds are compared.
	@$(IN) keras-pipeline study run frameworks --jobs 1 --output docs/studies
	@$(IN) bash -c 'set -e; for study in studies/*.yaml; do \
		keras-pipeline study run "$$(basename "$$study" .yaml)" --output docs/studies; done'

.PHONY: schemas
schemas: $(READY)  ## schemas/ and docs/params.md, from the code that checks the files
	@for file in params partial study search dataset; do $(IN) keras-pipeline schema $$file > schemas/$$file.json || exit; done
	@$(IN) keras-pipeline schema table > docs/params.md

.PHONY: pictures
pictures: $(READY)  ## the README's pictures, taken anew from real runs (some minutes; needs make browser)
	@$(IN) python tools/pictures.py

.PHONY: jax
jax: $(READY)  ## JAX, for train.backend: jax (its tests are skipped without)
	@$(ENVIRONMENT)/bin/python -c 'import jax' 2>/dev/null || { \
		$(INSTALL) --no-deps --require-hashes -r requirements-jax.lock \
		&& { $(call COMPILE,jax jaxlib); }; }

.PHONY: torch
torch: $(READY)  ## PyTorch, a big package, for train.backend: torch (its tests are skipped without)
	@$(ENVIRONMENT)/bin/python -c 'import torch' 2>/dev/null || { \
		$(ENVIRONMENT)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --no-build-isolation -e '.[torch]' \
		&& { $(call COMPILE,torch sympy); }; }

.PHONY: mxnet
mxnet: $(MXNET)/.ready  ## MXNet, retired in 2023, in an environment of its own, for benchmarks/frameworks.py alone

$(MXNET)/.ready: requirements-mxnet.lock
	@rm -rf $(MXNET)
	@python=$$(for name in python3.11 python3.10 python3 $(ENVIRONMENT)/bin/python; do \
		command -v $$name >/dev/null && $$name -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in ((3, 10), (3, 11)))' 2>/dev/null && echo $$name && break; \
	done) && [ -n "$$python" ] || { echo "MXNet is not installed: it needs Python 3.10 or 3.11 with its venv module. Nothing else needs MXNet." >&2; exit 6; }; \
	$$python -m venv $(MXNET) \
		&& $(MXNET)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r $< \
		&& $(MXNET)/bin/python -c 'import mxnet' \
		&& touch $@ \
		|| { rm -rf $(MXNET); echo "MXNet is not installed: see above. It is for Linux, and for macOS on Intel. Nothing else needs MXNet." >&2; exit 6; }

.PHONY: sbom
sbom: $(SBOM)/.ready  ## a software bill of materials (CycloneDX) of requirements.lock into dist/sbom.json
	@mkdir -p dist
	@$(SBOM)/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible \
		--output-format JSON --output-file dist/sbom.json

$(SBOM)/.ready: requirements-sbom.lock $(READY)
	@rm -rf $(SBOM)
	@$(ENVIRONMENT)/bin/python -m venv $(SBOM)
	@$(SBOM)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r $<
	@touch $@

.PHONY: browser
browser:  ## Debian's Chromium, with which a test looks at MLflow's page (skipped without; needs root)
	@command -v chromium >/dev/null || { apt-get update -q && apt-get install -y -q --no-install-recommends chromium; } >/dev/null

.PHONY: clean
clean:  ## remove the environments (data, models and runs stay)
	rm -rf $(ENVIRONMENT) $(MXNET) $(SBOM)

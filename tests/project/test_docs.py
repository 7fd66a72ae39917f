"""The pages in docs/ against the code they speak of."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import fault_catalogue
from keras_pipeline.checks.params import REFUSED
from keras_pipeline.distribution import cluster
from keras_pipeline.distribution.strategies import STRATEGIES
from places import ROOT

DOCS = ROOT / "docs"
TEXT = (DOCS / "strategies.md").read_text()


def test_every_strategy_has_a_row_with_its_backends() -> None:
    for name, row in STRATEGIES.items():
        cells = re.search(rf"(?m)^\| `{name}` \| ([^|]*) \|", TEXT)
        assert cells, name
        assert cells[1].split(", ") == list(row.backends)


def test_every_refusal_stands_there_with_its_reason() -> None:
    for name, reason in REFUSED.items():
        assert f"| `{name}` | {reason}. |" in TEXT


def test_the_variables_of_several_machines_are_those_that_are_read() -> None:
    for strategy, names in cluster.VARIABLES.items():
        row = re.search(rf"(?m)^\| `{strategy}` \| (`.*`.*) \|$", TEXT)
        assert row
        assert all(name in row[1] for name in names)
        environ = {name: value.rstrip("`,") for name, value in re.findall(r"`([A-Z_]+)=([^`]*)`", row[1])}
        place = cluster.cluster_from_environment(strategy, environ)
        assert place is not None
        assert (place.rank, place.count, place.addresses[0], place.roll_call) == (0, 2, "a:3000", "a:3001")


def test_the_kubernetes_manifest_starts_what_is_read() -> None:
    (manifest,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    service, job = YAML(typ="safe", pure=True).load_all(manifest)
    assert service["metadata"]["name"] == job["spec"]["template"]["spec"]["subdomain"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    script = container["args"][0].replace("$JOB_COMPLETION_INDEX", "1")
    environ = dict(re.findall(r"([A-Z_]+)=(\S+)", script))
    place = cluster.cluster_from_environment("data_parallel", environ)
    assert place is not None
    assert (place.rank, place.count) == (1, job["spec"]["completions"])


def test_the_slurm_script_gives_each_task_its_place(tmp_path: Path) -> None:
    (script,) = [one for one in re.findall(r"```bash[^\n]*\n(.*?)```", TEXT, re.DOTALL) if "#SBATCH" in one]
    script = script.replace("cd /path/to/the/checkout && source .venv/bin/activate\n", "")
    tools = {
        "scontrol": "printf 'one\\ntwo\\n'",
        "srun": 'for rank in 0 1; do SLURM_PROCID=$rank "$@"; done',
        "keras-pipeline": 'echo "$TF_CONFIG"',
    }
    for name, body in tools.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_NODELIST": "x", "SLURM_NTASKS": "2"}
    done = subprocess.run(["bash"], input=script, env=environ, capture_output=True, text=True, check=True, timeout=60)
    for rank, line in enumerate(done.stdout.splitlines()):
        assert json.loads(line)
        place = cluster.cluster_from_environment("multi_worker", {"TF_CONFIG": line})
        assert place is not None
        assert (place.rank, place.addresses) == (rank, ("one:3000", "two:3000"))
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "code"), [(None, 0), ("a: &a [x]\nb: [*a, *a]\n", 2), ("seed: 1\n<<<<<<< HEAD\n", 2), ("a" * 10**7, 2)]
)
def test_ci_checks_a_stranger_s_files_as_it_is_told_to(text: str | None, code: int, tmp_path: Path) -> None:
    (command,) = re.findall(r"(?m)^\(ulimit .*\)$", (DOCS / "ci.md").read_text())
    command = command.replace("../check/bin/python", sys.executable).replace("../pull", str(tmp_path))
    (tmp_path / "params.yaml").write_text(text or (ROOT / "params.yaml").read_text())
    (tmp_path / "json.py").write_text("raise SystemExit('hijacked')\n")
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr
    if code:
        assert done.stderr.startswith(f"{tmp_path}/params.yaml:")


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_no_line_is_left_open(page: Path) -> None:
    for begin in re.findall(r"<!-- (conformance: \w+) -->", page.read_text()):
        between = page.read_text().partition(f"<!-- {begin} -->")[2].partition(f"<!-- end of {begin} -->")[0]
        assert "|---|" in between, f"{page.name}: {begin} was never written"


def test_the_page_of_model_files_has_every_row_and_tests_that_exist() -> None:
    text = (DOCS / "model-files.md").read_text()
    assert re.findall(r"(?m)^\| (J\d+) \|", text) == [name for name in fault_catalogue.rows() if name.startswith("J")]
    there = {name for path in (ROOT / "tests").rglob("test_*.py") for name in
             [path.name, *re.findall(r"(?m)^def (test_\w+)", path.read_text())]}  # fmt: skip
    assert set(re.findall(r"`(test_\w+(?:\.py)?)`", text)) - there == set()

"""What is done with the settings of the frameworks that are not in params.yaml."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from keras_pipeline.models import settings


def sources(package: str) -> Iterator[str]:
    """The text of every module of an installed package, without its tests."""
    spec = find_spec(package)
    assert spec
    assert spec.origin
    for path in Path(spec.origin).parent.rglob("*.py"):
        if "test" not in path.name:
            yield path.read_text("utf-8")


def test_every_variable_that_keras_reads_is_set_or_taken_away() -> None:
    lines = [line for text in sources("keras") for line in text.splitlines() if "environ" in line or "getenv" in line]
    found = set(re.findall(r"[\"']((?:KERAS|TF)_[A-Z0-9_]+)[\"']", "\n".join(lines)))
    assert found >= {"KERAS_HOME", "KERAS_MAX_EPOCHS", "KERAS_NNX_ENABLED", "KERAS_TORCH_DEVICE"}
    workers = {name for name in found if name.startswith("KERAS_DISTRIBUTION_")}  # read by `initialize` alone
    memory = {"TF_FORCE_GPU_ALLOW_GROWTH"}
    assert {name for name in found if settings.kind_of(name) not in ("set", "taken away")} == workers | memory


@pytest.mark.needs_jax
def test_every_setting_of_jax_is_taken_away_but_where_it_computes() -> None:
    pattern = re.compile(r"(?:_state|_flag)\(\s*(?:name=)?[\"'](\w+)[\"']")  # jax._src.config reads NAME of each
    found = {name.upper() for text in sources("jax") for name in pattern.findall(text)}
    assert found >= {"JAX_ENABLE_X64", "JAX_DEFAULT_MATMUL_PRECISION", "EAGER_CONSTANT_FOLDING"}
    assert len(found) > 100
    assert {name for name in found if settings.kind_of(name) != "taken away"} == {"JAX_PLATFORMS"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("KERAS_BACKEND", "set"),
        ("KERAS_OF_TOMORROW", "taken away"),
        ("KERAS_PIPELINE_MIRRORS", None),
        ("TF_USE_LEGACY_KERAS", "taken away"),
        ("TF_USE_CUBLASLT", "recorded"),
        ("TF_CONFIG", "kept"),
        ("TF_CPP_MIN_LOG_LEVEL", "kept"),
        ("TF_VAR_password", None),  # Terraform's
        ("TF_TOKEN_app_terraform_io", None),
        ("OMP_NUM_THREADS", "recorded"),
        ("ONEDNN_MAX_CPU_ISA", "recorded"),
        ("ONEDNN_DEFAULT_FPMATH_MODE", "taken away"),
        ("PYTORCH_CUDA_ALLOC_CONF", "kept"),
        ("PATH", None),
    ],
)
def test_the_longest_beginning_decides(name: str, kind: settings.Kind | None) -> None:
    assert settings.kind_of(name) == kind


def test_an_environment_has_what_params_say_and_what_counts_for_no_result() -> None:
    hostile = {
        "PATH": "/bin", "KERAS_BACKEND": "torch", "KERAS_HOME": "/home/a", "KERAS_MAX_EPOCHS": "1", "XLA_FLAGS": "--a",
        "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu", "TORCH_LOGS": "x", "TF_USE_LEGACY_KERAS": "1",
    }  # fmt: skip
    assert settings.environment("jax", hostile) == {
        "PATH": "/bin",
        "KERAS_BACKEND": "jax",
        "KERAS_HOME": "/dev/null",
        "XLA_FLAGS": "--a",
        "JAX_PLATFORMS": "cpu",
    }


def test_a_line_of_settings_is_read_again_but_for_what_is_none() -> None:
    named = {"XLA_FLAGS": "--a --b='c d'", "OMP_NUM_THREADS": "1"}
    line = settings.as_text(named)
    assert settings.from_text(line) == named
    assert settings.from_text(f"{line} LD_PRELOAD=/evil.so PYTHONPATH=/evil KERAS_HOME=/evil x") == named
    with pytest.raises(ValueError, match="No closing quotation"):
        settings.from_text("A='")


@pytest.mark.parametrize("variable", ["HOME", "KERAS_HOME"])
def test_the_file_that_keras_would_read_is_found(tmp_path: Path, variable: str) -> None:
    folder = tmp_path / ".keras" if variable == "HOME" else tmp_path
    assert settings.keras_file({variable: str(tmp_path)}) is None
    folder.mkdir(exist_ok=True)
    (folder / "keras.json").mkdir()  # also where it could not be read
    assert settings.keras_file({variable: str(tmp_path)}) == folder / "keras.json"

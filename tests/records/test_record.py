"""What a record says of the machine's settings."""

import os

import pytest

from keras_pipeline.core.errors import DataError
from keras_pipeline.models import settings
from keras_pipeline.records import record


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings.left(os.environ):
        monkeypatch.delenv(name)


def test_every_setting_that_can_change_the_last_bits_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = record.describe_machine()
    assert plain["settings"] == "default"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("NPY_DISABLE_CPU_FEATURES", "AVX2 FMA3")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")  # changes none
    assert record.describe_machine() == {
        **plain,
        "threads": "3",
        "settings": "NPY_DISABLE_CPU_FEATURES='AVX2 FMA3' NVIDIA_TF32_OVERRIDE=0",
    }


def test_they_can_be_set_again_as_they_were_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {**record.describe_machine(), "threads": "2", "settings": "KMP_AFFINITY='a b' LD_PRELOAD=/evil.so"}
    monkeypatch.setenv("MKL_CBWR", "AVX2")
    monkeypatch.setenv("XLA_FLAGS", "--here")
    monkeypatch.setenv("TF_CONFIG", "kept")
    again = record.settings_of(there)
    assert {name: again[name] for name in again if settings.kind_of(name)} == {
        "OMP_NUM_THREADS": "2", "KMP_AFFINITY": "a b", "TF_CONFIG": "kept",
    }  # fmt: skip
    assert again.get("LD_PRELOAD") == os.environ.get("LD_PRELOAD")
    old = {name: value for name, value in there.items() if name != "settings"}
    assert record.settings_of(old)["MKL_CBWR"] == "AVX2"  # an older version did not record it


def test_settings_that_cannot_be_read_are_the_record_s_fault() -> None:
    with pytest.raises(DataError, match=r"settings \"A='\" \(No closing quotation\)"):
        record.settings_of({"settings": "A='"})

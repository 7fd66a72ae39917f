"""`keras-pipeline edge`: each LiteRT export as a small device runs it, and the header; what was changed is not run."""

import re
from pathlib import Path

import pytest

import made_litert
from keras_pipeline.core.errors import ModelFileError, ParamsError
from keras_pipeline.export.edge import report, timing


def test_each_export_has_its_time_memory_and_operators_and_int8_its_header(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = made_litert.exported_folder(tmp_path / "export", "litert_float32", "litert_int8", "onnx")
    report.check_edge(tmp_path / "export", tmp_path / "edge" / "model.h")
    lines = capsys.readouterr().out.splitlines()
    for name in ("float32", "int8"):
        told = [line for line in lines if line.startswith(f"edge: model.{name}.tflite: ")]
        assert len(told) == 2
        found = re.search(r"bytes; one input in ([\d,]+) µs, 99 of 100 in ([\d,]+) µs, .* ([\d.]+) MB", told[0])
        assert found
        assert told[1].endswith("FULLY_CONNECTED, RESHAPE")
    assert (
        f"static const unsigned char model_bytes[MODEL_LENGTH] = {{\n{content[0]},"
        in (tmp_path / "edge" / "model.h").read_text()
    )


def test_without_int8_there_is_no_header_and_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_litert.exported_folder(tmp_path / "export", "litert_float32")
    report.check_edge(tmp_path / "export", tmp_path / "model.h")
    assert "no header for microcontrollers: add litert_int8 to export.formats" in capsys.readouterr().out
    assert not (tmp_path / "model.h").exists()


def test_without_litert_nothing_is_done(tmp_path: Path) -> None:
    made_litert.exported_folder(tmp_path / "export", "onnx")
    with pytest.raises(ParamsError, match=r"got the formats onnx\. Expected: one of litert_float32, .*`dvc repro`"):
        report.check_edge(tmp_path / "export", tmp_path / "model.h")


def test_a_file_of_another_digest_is_not_even_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_litert.exported_folder(tmp_path / "export", "litert_int8")
    path = tmp_path / "export" / "model.int8.tflite"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    monkeypatch.setattr(report.litert_files, "describe", lambda content: pytest.fail("it was parsed"))
    with pytest.raises(ModelFileError, match=r"model\.int8\.tflite: got .* bytes with the digest"):
        report.check_edge(tmp_path / "export", tmp_path / "model.h")
    assert not (tmp_path / "model.h").exists()


def test_the_time_of_one_input_is_taken_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "MOST", 100)
    taken = timing.time_one_input(made_litert.content)
    assert 0 < taken["median"] <= taken["p99"] < 1e6
    assert 0 <= taken["memory"] < 50e6

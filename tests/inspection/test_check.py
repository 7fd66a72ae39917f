"""`dataset check` on datasets of files with planted faults: each is found and named, and nothing else is."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keras_pipeline.cli import main
from keras_pipeline.inspection.check import Report, check_dataset
from keras_pipeline.sources.dataset_file import read_dataset
from made_images import as_jpeg, clean_images, write_pictures

pytestmark = pytest.mark.usefixtures("project")


def checked(name: str = "photos", path: str = "photos") -> Report:
    assert main.main(["dataset", "add", name, path]) == 0
    return check_dataset(name, read_dataset(Path("datasets", f"{name}.yaml")), Path("downloads"))


def found(report: Report) -> dict[str, list[list[str]]]:
    return {one.check: [list(group) for group in one.examples] for one in report.findings}


def test_a_clean_dataset_has_no_finding() -> None:
    write_pictures(*clean_images(30))
    report = checked()
    assert report.findings == []
    assert report.facts[0] == "90 images, 3 classes"


def test_every_planted_fault_is_found_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = clean_images(30, side=48)
    labels[[3, 70]] = labels[[70, 3]]
    paths = write_pictures(images, labels)
    for copy in ("a.png", "b.png"):
        Image.fromarray(images[40]).save(Path("photos/square", copy))
    Image.fromarray(images[41]).save("photos/disc/other.png")
    Image.fromarray(as_jpeg(images[10])).save("photos/disc/near.png")
    Image.new("RGB", (48, 48), (9, 90, 200)).save("photos/disc/blank.png")
    content = paths[20].read_bytes()
    Path("photos/disc/cut.png").write_bytes(content[: len(content) // 2])
    Path("photos/stripes/empty.png").write_bytes(b"")
    report = checked()
    assert report.refused
    of = found(report)
    assert [group[0].split(" ")[0] for group in of["damaged"]] == ["photos/disc/cut.png", "photos/stripes/empty.png"]
    assert [[name.rpartition("/")[2] for name in group] for group in of["duplicates"]] == [
        ["040.png", "a.png", "b.png"]
    ]
    assert [[name.rpartition("/")[2] for name in group] for group in of["two_labels"]] == [
        ["041.png (square)", "other.png (disc)"]
    ]
    near = {**of, "near_duplicates": of.get("near_duplicates", of.get("near_train_and_test"))}["near_duplicates"]
    assert [[name.rpartition("/")[2].split(" ")[0] for name in group] for group in near] == [["010.png", "near.png"]]
    assert [[name.rpartition("/")[2] for name in group] for group in of["blank"]] == [["blank.png"]]
    wrong = {group[0].rpartition("/")[2] for group in of["labels"]}
    assert {"003.png (stripes, looks like disc)", "070.png (disc, looks like stripes)"} <= wrong
    assert wrong <= {"003.png (stripes, looks like disc)", "070.png (disc, looks like stripes)",
                     "other.png (disc, looks like square)"}  # fmt: skip
    capsys.readouterr()
    assert main.main(["dataset", "check", "photos", "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["refused"]
    assert {one["check"] for one in told["findings"]} == set(of)
    assert main.main(["dataset", "check", "photos"]) == 3
    said = capsys.readouterr().out
    assert "refused: 2 images that cannot be read, refused by fetch: mend or remove them" in said


def test_damaged_pictures_are_a_warning_where_they_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    write_pictures(*clean_images(12))
    Path("photos/disc/cut.png").write_bytes(Path("photos/disc/000.png").read_bytes()[:80])
    assert main.main(["dataset", "add", "photos", "photos"]) == 0
    with Path("datasets/photos.yaml").open("a") as file:
        file.write("damaged: skip\n")
    assert main.main(["dataset", "check", "photos"]) == 0
    assert "warning: 1 image that cannot be read, left out" in capsys.readouterr().out


def test_the_same_picture_in_train_and_test() -> None:
    images, labels = clean_images(20)
    write_pictures(images[::2], labels[::2], "photos/train")
    write_pictures(images[1::2], labels[1::2], "photos/test")
    Image.fromarray(images[0]).save("photos/test/disc/again.png")
    [group] = found(checked())["train_and_test"]
    assert sorted(name.rpartition("/")[2] for name in group) == ["000.png (train)", "again.png (test)"]


def test_classes_with_too_few_images_and_none_in_a_split() -> None:
    images, labels = clean_images(12)
    few = np.concatenate([np.arange(24), [24, 25]])
    write_pictures(images[few], labels[few], "photos/train")
    write_pictures(images[12:24], labels[12:24], "photos/test")
    texts = [one.line() for one in checked().findings if one.check == "few_examples"]
    assert texts == [
        "1 class of fewer than 10 images: stripes (2)",
        "2 classes without any image in the test split: disc; stripes",
    ]


def test_what_fetch_refuses_is_a_finding_with_its_reason() -> None:
    images, labels = clean_images(12)
    np.savez("arrays.npz", x_train=images, y_train=labels)
    assert main.main(["dataset", "add", "arrays", "arrays.npz"]) == 0
    labels[5] = 9
    np.savez("arrays.npz", x_train=images, y_train=labels)
    report = check_dataset("arrays", read_dataset(Path("datasets/arrays.yaml")), Path("downloads"))
    assert report.refused
    assert "9" in report.findings[0].text


def table(path: str, **more: Any) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 120)
    columns = {"height": random.normal(3 * labels, 1).round(4), "weight": random.normal(size=120).round(4), **more}
    with Path(path).open("w") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "label"])
        writer.writerows(zip(*columns.values(), np.array(["no", "yes"])[labels], strict=True))


def test_a_clean_table_has_no_finding() -> None:
    table("rows.csv")
    assert checked("rows", "rows.csv").findings == []


def test_planted_faults_of_a_table() -> None:
    labels = np.random.default_rng(0).integers(0, 2, 120)
    table("rows.csv", constant=["x"] * 120, answer=labels * 2.5 + 1, weak=[""] * 90 + [3, 5] * 15)
    lines = Path("rows.csv").read_text().splitlines()
    Path("rows.csv").write_text(
        "\n".join([*lines, lines[7], lines[9].replace("no", "?").replace("yes", "no").replace("?", "yes")])
    )
    assert main.main(["dataset", "add", "rows", "rows.csv"]) == 0
    file = Path("datasets/rows.yaml")
    file.write_text(file.read_text().replace("columns:\n", "columns:\n  constant: category\n"))
    of = found(check_dataset("rows", read_dataset(file), Path("downloads")))
    assert of["constant_columns"] == [["constant"]]
    assert of["missing_values"] == [["weak (75%)"]]
    assert of["duplicates"] == [["row 7", "row 121"]]
    assert [[name.split(" (")[0] for name in group] for group in of["two_labels"]] == [["row 9", "row 122"]]
    assert of["gives_target_away"] == [["answer"]]

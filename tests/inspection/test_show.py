"""`dataset show`: from data/raw where that holds the dataset as it is now, else from its files; what check found."""

from pathlib import Path

import pytest

from keras_pipeline.cli import main
from keras_pipeline.sources.kinds.images import PictureFiles
from made_images import clean_images, write_pictures

pytestmark = pytest.mark.usefixtures("project")


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    assert main.main(["dataset", "show", "own"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "own: data/pages/own.html"
    return Path("data/pages/own.html").read_text()


@pytest.fixture
def own(project: Path) -> Path:
    images, labels = clean_images(15, 12)
    write_pictures(images, labels, "photos")
    assert main.main(["dataset", "add", "own", "photos", "--title", "Shapes <b>"]) == 0
    return project


@pytest.mark.usefixtures("own")
def test_the_page_is_the_same_from_the_files_and_from_data_raw(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = shown(capsys)
    assert "Shapes &lt;b&gt;" in page
    assert page.count("<img ") == 3
    assert "Findings" not in page
    text = Path("params.yaml").read_text().replace("dataset: mnist ", "dataset: own ")
    Path("params.yaml").write_text(text)
    assert main.main(["fetch"]) == 0

    def read(self: object, source: object) -> None:
        raise AssertionError("the files were read")

    monkeypatch.setattr(PictureFiles, "read", read)
    assert shown(capsys) == page


@pytest.mark.usefixtures("own")
def test_the_findings_of_the_last_check_are_shown_until_the_files_change(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["dataset", "check", "own"]) == 0
    assert "Nothing was found to be wrong." in shown(capsys)
    Path("photos/disc/copy.png").write_bytes(Path("photos/disc/003.png").read_bytes())
    assert "Findings" not in shown(capsys)
    assert main.main(["dataset", "check", "own"]) == 0
    assert "photos/disc/003.png = photos/disc/copy.png" in shown(capsys)


@pytest.mark.usefixtures("own")
def test_the_page_goes_where_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["dataset", "show", "own", "--output", "a page.html"]) == 0
    assert Path("a page.html").read_text().startswith("<!doctype html>")


@pytest.mark.usefixtures("own")
def test_a_dataset_that_cannot_be_read_has_no_page(capsys: pytest.CaptureFixture[str]) -> None:
    Path("photos/disc/cut.png").write_bytes(b"\x89PNG")
    assert main.main(["dataset", "show", "own"]) == 3
    assert "photos/disc/cut.png" in capsys.readouterr().err.replace("photos: ", "photos/")
    assert not Path("data/pages").exists()

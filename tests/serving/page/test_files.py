"""The page as a folder of files: what is written, what is in it, and what it may load."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from exported import CLASSES, exported_folder
from keras_pipeline.cli import main
from keras_pipeline.core.errors import ModelFileError
from keras_pipeline.serving.page import files as page_files
from page_scripts import Scripts, linear_network

DANGEROUS = rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
NETWORK = linear_network(np.zeros((10, 784), np.float32), np.zeros(10, np.float32))


class Page(HTMLParser):
    """Every element with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


INDEX = Page((page_files.FOLDER / "index.html").read_text(encoding="utf-8"))


def test_the_page_and_its_network_are_written_and_other_files_stay(tmp_path: Path) -> None:
    exports = exported_folder(tmp_path / "export", NETWORK)
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "notes.txt").write_text("mine")
    written = page_files.write_page(exports, tmp_path / "page")
    assert written[0] == tmp_path / "page" / "index.html"
    assert {path.name for path in written} == {*page_files.page_files(), "network.js", "predict.js"}
    assert (tmp_path / "page" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "page" / "network.js").read_bytes() == NETWORK["javascript/network.js"]
    assert "script-src 'self' file:; style-src 'self' file:;" in written[0].read_text()
    text = (tmp_path / "page" / "model.js").read_text()
    assert json.loads(text.partition("globalThis.model = ")[2].rstrip(";\n")) == {
        key: value for key, value in CLASSES.items() if key != "formats"
    }


def test_without_the_export_it_says_how_to_get_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported_folder(tmp_path / "models" / "export", {"model.onnx": b"x"})
    arguments = ["page", str(tmp_path / "page"), "--models", str(tmp_path / "models")]
    assert main.main(arguments) == 7
    said = capsys.readouterr().err
    assert "Add it to export.formats in params.yaml" in said
    assert "dvc repro export" in said
    assert not (tmp_path / "page").exists()


def test_a_file_in_the_way_is_named_and_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported_folder(tmp_path / "models" / "export", NETWORK)
    (tmp_path / "page").write_text("mine")
    assert main.main(["page", str(tmp_path / "page"), "--models", str(tmp_path / "models")]) == 6
    assert f"{tmp_path / 'page'}: File exists" in capsys.readouterr().err
    assert (tmp_path / "page").read_text() == "mine"


def test_a_network_that_is_not_the_exported_one_is_not_taken(tmp_path: Path) -> None:
    exports = exported_folder(tmp_path / "export", NETWORK)
    (exports / "javascript" / "network.js").write_bytes(b"alert(1)")
    with pytest.raises(ModelFileError, match=r"network\.js: got 8 bytes"):
        page_files.write_page(exports, tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_the_page_loads_its_own_files_and_nothing_else() -> None:
    """No text of it is a program or a style, so that a policy without exceptions holds."""
    loaded = [value for _, attributes in INDEX.elements for key, value in attributes.items() if key in ("src", "href")]
    assert {*loaded} == {*page_files.page_files(), "data:,"} - {"index.html"}
    for tag, attributes in INDEX.elements:
        assert tag != "style"
        assert not [key for key in attributes if key.startswith("on") or key == "style"]
    for name, content in page_files.page_files().items():
        addresses = re.findall(rb"(?:https?:)?//[\w.-]+\.\w+", content)
        assert addresses == [], name
        assert not re.search(DANGEROUS, content), name


def test_the_page_says_the_policy_itself() -> None:
    (policy,) = [one["content"] for tag, one in INDEX.elements if tag == "meta" and "http-equiv" in one]
    assert policy == page_files.POLICY
    assert "unsafe" not in page_files.POLICY


def test_every_file_beside_the_code_is_part_of_the_page() -> None:
    """And has a media type: an icon or a font would not be served without a word."""
    beside = {path.name for path in page_files.FOLDER.iterdir() if path.suffix != ".py" and path.is_file()}
    assert set(page_files.page_files()) == beside


@pytest.fixture
def newest() -> Scripts:
    """newest.js with a clock that tests move."""
    scripts = Scripts()
    scripts.do(
        """
        let now = 0, next = 1;
        const timers = new Map();
        globalThis.setTimeout = (run, after) => { timers.set(next, [now + after, run]); return next++; };
        globalThis.clearTimeout = (number) => timers.delete(number);
        globalThis.pass = (after) => {
          now += after;
          for (const [number, [due, run]] of [...timers]) if (due <= now) { timers.delete(number); run(); }
        };
        """
    )
    scripts.run("newest.js")
    return scripts


def test_of_many_questions_the_newest_is_asked_and_no_older_answer_is_shown(newest: Scripts) -> None:
    newest.do(
        """
        globalThis.asked = [];
        globalThis.shown = [];
        const ask = (about) => new Promise((done) => asked.push({about, done}));
        globalThis.asker = newest.asker(ask, (answer) => shown.push(answer), () => {}, () => shown.push("slow"));
        for (let number = 0; number < 20; number++) asker.ask(number);
        """
    )
    assert newest.do("return asked.map((one) => one.about);") == [0]
    newest.do('asked[0].done("of 0");')
    assert newest.do("return asked.map((one) => one.about);") == [0, 19]
    newest.do("pass(2000); asker.withdraw();")
    newest.do('asked[1].done("of 19");')
    assert newest.do("return shown;") == ["of 0", "slow"]


def test_what_failed_is_asked_again_later_and_later_until_something_newer_is(newest: Scripts) -> None:
    newest.do(
        """
        globalThis.count = 0;
        globalThis.told = [];
        const ask = async (about) => { count += 1; throw Object.assign(new Error(), {again: about !== "refused"}); };
        const failed = (error, seconds) => told.push(seconds);
        globalThis.asker = newest.asker(ask, () => told.push("shown"), failed, () => told.push("slow"));
        asker.ask("x");
        """
    )
    for _ in range(3):
        newest.do("pass(60000);")
    assert newest.do("return [count, ...told];") == [4, 1, 2, 4, 8]
    newest.do('asker.ask("refused");')
    newest.do("pass(600000);")
    assert newest.do("return [count, ...told];") == [5, 1, 2, 4, 8, None]
    newest.do("asker.again();")
    assert newest.do("return count;") == 6


def test_what_spoke_for_an_answer_is_what_it_hangs_on() -> None:
    """A network that looks at one pixel alone; black squares are never covered, for that would change nothing."""
    page = Scripts("occlusion.js")
    page.do(
        """
        const input = new Uint8Array(784).fill(0);
        for (let y = 8; y < 20; y++) for (let x = 8; x < 20; x++) input[28 * y + x] = 200;
        const answer = (one) => ({ probabilities: one[28 * 10 + 12] ? [0.1, 0.9] : [0.9, 0.1] });
        globalThis.asked = 0;
        globalThis.found = null;
        const backend = { atOnce: 10, predict: async (some) => { asked += some.length; return some.map(answer); } };
        const keep = (map) => { found = map && { ...map, pixels: Array.from(map.pixels) }; };
        const shape = { height: 28, width: 28, channels: 1 };
        globalThis.ask = (wanted) =>
          void occlusion.map(input, shape, 1, answer(input), backend, wanted).then(keep);
        ask(() => true);
        """
    )
    found = page.do("return found;")
    assert found["most"] == pytest.approx(2 * np.log(9), rel=1e-6)
    held = np.array(found["pixels"]).reshape(28, 28)
    rows, columns = np.nonzero(held)
    assert held.argmax() in (28 * 10 + 12, 28 * 10 + 13, 28 * 11 + 12, 28 * 11 + 13)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 13, 10, 15)
    assert page.do("return asked;") == 49  # of 196 places
    page.do("asked = 0; let often = 0; ask(() => ++often < 2);")
    assert page.do("return [asked, found];") == [20, None]


def test_the_outputs_of_every_task_are_read_as_they_are_meant() -> None:
    page = Scripts("backends.js")

    def answered(task: str, outputs: list[float | str]) -> object:
        page.do(
            f"""
            globalThis.said = null;
            const network = {{ predict: () => Float64Array.from({json.dumps(outputs)}, Number) }};
            const manifest = {{ task: "{task}", input: {{ kind: "images", dtype: "|u1", low: 0, high: 255 }} }};
            const tell = (answers) => {{ said = answers[0]; }};
            backends.inPage(manifest, network).predict([null]).then(tell, (error) => {{ said = error.message; }});
            """
        )
        return page.do("return said;")

    assert answered("classes", [0.25, 0.5, 0.25]) == {"probabilities": [0.25, 0.5, 0.25]}
    assert answered("binary", [0.75]) == {"probabilities": [0.25, 0.75]}
    assert answered("regression", [-3.5]) == {"value": -3.5}
    assert answered("regression", ["none"]) == "The network gives no finite number for this."

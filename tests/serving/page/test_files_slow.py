"""The page in Chromium, from a folder and from a server: hands, keys, screens, and a service that fails."""

import io
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import served
from drawn_digits import png
from exported import CLASSES, DRAWINGS, NUMBERS, image_input
from fault_server import in_turn, status, whole
from keras_pipeline.sources.files import formats
from page_browser import (
    ARGUMENTS,
    DIGITS,
    about,
    as_json,
    class_means,
    draw,
    of_each,
    seen,
    serving,
    sure_of,
    written_page,
)
from page_scripts import Scripts, linear_network
from places import SHIPPED
from served_network import write_network

pytestmark = [pytest.mark.slow, pytest.mark.needs_browser]
SEVEN = [[0.28, 0.2, 0.5, 0.2, 0.72, 0.2, 0.6, 0.45, 0.5, 0.65, 0.44, 0.85]]


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written_page(tmp_path_factory.mktemp("digits"), class_means())


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    """Opens pages; what a page says to its console, and every address that it asks, is in `said` and `asked`."""
    contexts = []

    def opened(address: str, **screen: Any) -> Any:
        context = browser.new_context(**screen)
        contexts.append(context)
        page = context.new_page()
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()


def label(page: Any, text: str | re.Pattern[str]) -> None:
    from playwright.sync_api import expect

    expect(page.locator("#label")).to_have_text(text, timeout=20_000)


def state(page: Any, text: str | re.Pattern[str] | None) -> None:
    from playwright.sync_api import expect

    if text is None:
        expect(page.get_by_role("status").first).to_be_hidden(timeout=20_000)
    else:
        expect(page.get_by_role("status").first).to_contain_text(text, timeout=20_000)


def told(page: Any, selector: str, text: str) -> None:
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_contain_text(text, timeout=20_000)


def inked(page: Any, x: float, y: float) -> bool:
    """Whether the pad shows ink at this place, from 0 to 1."""
    return bool(
        page.evaluate(
            "([x, y]) => { const canvas = document.getElementById('pad');"
            " return canvas.getContext('2d').getImageData(canvas.width * x, canvas.height * y, 1, 1).data[3]; }",
            [x, y],
        )
    )


def test_a_digit_is_drawn_seen_answered_explained_and_cleared(opened: Any, address: str) -> None:
    page = opened(address)
    label(page, "Nothing drawn")
    assert page.locator("#details").is_hidden()
    draw(page, SEVEN)
    label(page, "7")
    page.locator("#spoke-title", has_text="What spoke for “7”").wait_for()
    told(page, "#spoke-text", "Occlusion")
    page.locator("#spoken", has_text=re.compile(r"^7, \d+ percent$")).wait_for(state="attached")
    bars = page.locator("#bars li")
    assert bars.count() == 10
    shares = [float(text.strip("<> %")) for text in page.locator("#bars .number").all_inner_texts()]
    assert abs(sum(shares) - 100) < 1
    page.get_by_role("button", name="Undo").click()
    draw(page, [[0.5, 0.5]])  # a dot
    label(page, re.compile(r"^\d$"))
    page.get_by_role("button", name="Clear").click()
    label(page, "Nothing drawn")
    assert page.locator("#details").is_hidden()
    told(page, "footer", "keras-pipeline serve")
    assert page.said == []
    assert {one.partition(":")[0] for one in page.asked} == {"file"}


def test_probabilities_move_while_the_pen_is_down(opened: Any, address: str) -> None:
    page = opened(address)
    box = page.locator("#pad").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 60)
    page.mouse.down()
    versions = set()
    for step in range(1, 6):
        page.mouse.move(box["x"] + 100, box["y"] + 60 + 50 * step)
        page.wait_for_timeout(60)
        versions.add((page.locator("#answer").get_attribute("data-version"), page.locator("#share").inner_text()))
    page.mouse.up()
    assert len(versions) >= 4


@pytest.mark.parametrize(
    "screen",
    [
        {"viewport": {"width": 1100, "height": 900}},
        {"viewport": {"width": 1100, "height": 900}, "device_scale_factor": 2},
        {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 3},
    ],
)
def test_the_network_sees_the_same_on_every_screen(opened: Any, address: str, screen: Any) -> None:
    """What preprocess.js makes of the strokes; a mouse stands on whole pixels, a third of a hundredth of the pad. Nor
    does a window that is resized change what was drawn."""
    from playwright.sync_api import expect

    page = opened(address, **screen)
    draw(page, SEVEN)
    label(page, "7")
    expected = Scripts("preprocess.js").do(
        f"return Array.from(preprocess.drawing({SEVEN}, {json.dumps(DIGITS['drawing'])}, 28, 28));"
    )
    made = seen(page)
    assert abs(made.reshape(-1).astype(int) - np.array(expected)).mean() < 6
    assert inked(page, *SEVEN[-1][-2:])
    assert not inked(page, 0.02, 0.5)
    page.set_viewport_size({"width": 500, "height": 500})
    share = page.locator("#share").inner_text()
    expect(page.locator("#share")).to_have_text(share)
    assert np.array_equal(seen(page), made)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_finger_draws_and_does_not_scroll(opened: Any, address: str) -> None:
    """Beside the pad it does: else the test could not fail. A second finger changes nothing."""
    page = opened(address, viewport={"width": 360, "height": 500}, has_touch=True, is_mobile=True)
    box = page.locator("#pad").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 40
    touch = page.context.new_cdp_session(page)

    def finger(kind: str, *points: tuple[float, float]) -> None:
        at = [{"x": one, "y": other, "id": number} for number, (one, other) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    finger("touchStart", (x, y + 200))
    for step in range(20):
        finger("touchMove", (x, y + 200 - 10 * step))
    finger("touchMove", (x, y), (x + 60, y + 50))
    finger("touchEnd")
    label(page, "1")
    assert page.evaluate("scrollY") == 0
    made = seen(page)
    assert np.count_nonzero(made.any(axis=0)) < 10
    touch.send("Input.synthesizeScrollGesture", {"x": 6, "y": y, "yDistance": -200, "speed": 4000})
    assert page.evaluate("scrollY") > 50
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_a_pen_draws(opened: Any, address: str) -> None:
    page = opened(address)
    box = page.locator("#pad").bounding_box()
    pen = page.context.new_cdp_session(page)
    for kind, step in [("mousePressed", 0), *(("mouseMoved", step) for step in range(1, 20)), ("mouseReleased", 19)]:
        place = {"x": box["x"] + 200, "y": box["y"] + 80 + 10 * step, "button": "left", "buttons": 1, "clickCount": 1}
        pen.send("Input.dispatchMouseEvent", {"type": kind, "pointerType": "pen", "force": 0.5, **place})
    label(page, "1")


def test_keys_alone_draw_undo_and_clear(opened: Any, address: str) -> None:
    page = opened(address)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "pad"
    assert page.get_by_role("application", name="Drawing pad").count() == 1
    page.keyboard.press("Space")
    page.locator("#spoken", has_text="Pen down").wait_for(state="attached")
    for _ in range(16):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    label(page, "1")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    made = seen(page)
    page.keyboard.press("Enter")
    page.keyboard.press("PageUp")
    page.keyboard.press("Enter")
    assert not np.array_equal(seen(page), made)
    page.keyboard.press("Control+z")
    label(page, "1")
    assert np.array_equal(seen(page), made)
    page.keyboard.press("Delete")
    label(page, "Nothing drawn")
    names = []
    for _ in range(3):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.id"))
    assert names == ["undo", "clear", "file"]


def test_without_javascript_it_says_so(browser: Any, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert "JavaScript, which is switched off" in page.locator("body").inner_text()
    assert page.locator("#pad").is_hidden()
    context.close()


def test_what_is_missing_in_the_folder_is_named(opened: Any, tmp_path: Path) -> None:
    address = written_page(tmp_path, linear_network(np.zeros((10, 784), np.float32), np.zeros(10, np.float32)))
    (tmp_path / "page" / "network.js").unlink()
    state(opened(address), "network.js is missing in this folder. Make it anew: keras-pipeline page")
    (tmp_path / "page" / "model.js").write_text("globalThis.model = null;")
    state(opened(address), "There is no network in this folder")


def test_hostile_names_are_text_and_no_script_runs_that_is_not_the_page_s(opened: Any, tmp_path: Path) -> None:
    hostile = "<img src=x onerror=\"document.title='run'\">"
    names = [f"{number}{hostile}" for number in range(10)]
    network = linear_network(np.zeros((10, 784), np.float32), np.arange(10).astype(np.float32))
    page = opened(written_page(tmp_path, network, {**DIGITS, "class_names": names}))
    draw(page, SEVEN)
    label(page, names[9])
    page.locator("#spoke-title", has_text=hostile).wait_for()
    assert page.locator("img").count() == 0
    page.evaluate("const s = document.createElement('script'); s.text = 'document.title = 1'; document.body.append(s)")
    assert page.title() == "Draw one of 10 · keras-pipeline"
    assert len(page.said) == 1  # the policy refused it
    assert "Content Security Policy" in page.said[0]


def test_for_other_images_a_picture_is_chosen_or_dropped(opened: Any, tmp_path: Path) -> None:
    """Of the very size of the input the pixels arrive as they are; a file that is no picture is refused in words."""
    names = [f"garment {one}" for one in range(10)]
    drawing = DRAWINGS["fashion_mnist"]
    described = {**CLASSES, "dataset": "fashion_mnist", "class_names": names, "drawing": drawing}
    page = opened(written_page(tmp_path, class_means(), described))
    label(page, "No picture yet")
    assert page.get_by_role("button", name="Undo").is_hidden()
    image = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    choose = page.locator("#file")
    choose.set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": content.getvalue()})
    label(page, re.compile(r"^garment \d$"))
    assert np.array_equal(seen(page), image)
    choose.set_input_files({"name": "b.png", "mimeType": "image/png", "buffer": b"no picture"})
    state(page, "“b.png” is no picture that this browser can read")
    assert np.array_equal(seen(page), image)
    large = png(SEVEN, 1400, 90)
    page.evaluate(
        """(bytes) => {
          const moved = new DataTransfer();
          moved.items.add(new File([Uint8Array.from(bytes)], "c.png", {type: "image/png"}));
          document.getElementById("frame").dispatchEvent(new DragEvent("drop", {dataTransfer: moved, bubbles: true}));
        }""",
        list(large),
    )
    state(page, None)
    page.locator("#answer[data-version='2']").wait_for()
    assert np.median(seen(page)) == 0 < seen(page).max()  # it was dark on light


def test_a_network_of_photographs_takes_colours_and_names_of_many_classes(opened: Any, tmp_path: Path) -> None:
    """It answers which channel is the brightest; the classes are many, and no square of black is left out."""
    height, width = 20, 30
    weights = np.zeros((40, height * width * 3), np.float32)
    for channel in range(3):
        weights[channel, channel::3] = 1e-4
    names = ["red", "green", "blue", *(f"a class of a long name, number {one}" for one in range(37))]
    described = {
        **CLASSES, "dataset": "photographs", "class_names": names, "outputs": 40, "drawing": None,
        "input": image_input(height, width, 3),
        "preparation": {"height": height, "width": width, "fit": "crop", "colour": "rgb", "background": "white"},
    }  # fmt: skip
    page = opened(written_page(tmp_path, linear_network(weights, np.zeros(40, np.float32)), described))
    label(page, "No picture yet")
    assert page.get_by_role("heading", name="Which of 40 is it?").count() == 1
    for index, name in enumerate(names[:3]):
        colour = [0, 0, 0]
        colour[index] = 250
        content = io.BytesIO()
        Image.new("RGB", (80, 90), tuple(colour)).save(content, "PNG")
        page.locator("#file").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": content.getvalue()})
        label(page, name)
    values = page.evaluate(
        "() => { const canvas = document.getElementById('seen');"
        " return [canvas.width, canvas.height, ...canvas.getContext('2d').getImageData(3, 4, 1, 1).data]; }"
    )
    assert values == [width, height, 0, 0, 250, 255]
    page.locator("#spoke-title", has_text="What spoke for “blue”").wait_for()
    told(page, "#seen-text", "30 × 20 pixels, cut to this shape around its middle.")
    told(page, "#spoke-text", "a square of 2 × 2 pixels")
    assert page.locator("#bars li").count() == 10
    assert page.said == []


def test_numbers_are_typed_where_the_network_takes_a_table(opened: Any, tmp_path: Path) -> None:
    network = linear_network(np.array([[2.0]], np.float32), np.array([1.0], np.float32))
    page = opened(written_page(tmp_path, network, NUMBERS))
    label(page, "Numbers are missing")
    assert page.get_by_role("heading", name="What is y?").count() == 1
    field = page.get_by_label("x")
    field.fill("0.25")
    label(page, "1.5")
    field.fill("1e39")  # no number of 32 bits
    label(page, "Numbers are missing")
    field.fill("")
    label(page, "Numbers are missing")


# From a service.


def test_the_service_answers_and_shows_its_candidate_its_neighbours_and_keeps_what_was_drawn(opened: Any) -> None:
    training = [{"label": str(one), "distance": one, "pixels": [[one] * 28] * 28} for one in range(8)]
    kept: list[bytes] = []

    def keep(handler: Any) -> None:
        kept.append(handler.body)
        handler.start(201, {"Content-Type": "application/json"})
        handler.wfile.write(b'{"drawn": 12}')

    answers = {
        "model": as_json(about(candidate={"name": "digits", "version": "4"}, neighbours=True, drawn=True)),
        "predict": lambda handler: of_each(lambda: sure_of(1 if "candidate" in handler.path else 7))(handler),
        "neighbours": as_json({"neighbours": training}),
        "drawn": keep,
    }
    with serving(answers) as server:
        page = opened(f"{server.url}/")
        draw(page, SEVEN)
        label(page, "7")
        page.locator("#compared", has_text="champion (3): 7 · candidate (4): 1, 91.0 %").wait_for()
        page.locator("#nearest li").nth(7).wait_for()
        assert page.locator("#nearest").inner_text().split() == list("01234567")
        seven = page.locator("#classes").get_by_role("button", name="7")
        assert seven.is_disabled()
        page.get_by_label("Keep my drawing").check()
        seven.click()
        page.locator("#kept", has_text="Kept as “7”. 12 kept in all.").wait_for()
        assert seven.is_disabled()  # once
        told(page, "footer", f"service at {server.url.removeprefix('http://')}")
        pixels = [list(map(int, row)) for row in seen(page)]
    (body,) = kept
    assert json.loads(body) == {"pixels": pixels, "label": "7", "consent": True}
    assert page.said == []
    assert {one.partition("/predict")[0] for one in page.asked if "predict" in one} == {server.url}


def test_the_real_service_answers_on_its_page_keeps_what_it_may_and_is_framed_by_nobody(
    opened: Any, tmp_path: Path
) -> None:
    """A folder of a checkout, so that it can keep drawings. The frame would show it, were it allowed: as it does what
    has no such header."""
    shutil.copy(SHIPPED, tmp_path / "params.yaml")
    write_network(tmp_path / "models" / "export")
    with served.serving(folder=tmp_path) as service:
        url = f"http://127.0.0.1:{service.port}/"
        page = opened(url)
        draw(page, SEVEN)
        page.locator("#answer[data-version]").wait_for()
        made = seen(page)
        page.wait_for_timeout(600)
        label(page, service.predict(made.tobytes()).content["predictions"][0]["label"])
        assert not (tmp_path / "data").exists()  # nothing is kept unasked
        page.get_by_label("Keep my drawing").check()
        page.locator("#classes").get_by_role("button", name="7").click()
        page.locator("#kept", has_text="Kept as “7”. 1 kept in all.").wait_for()
        assert page.said == []
        (tmp_path / "frame.html").write_text(f'<iframe src="{url}"></iframe><iframe srcdoc="shown"></iframe>')
        outside = opened((tmp_path / "frame.html").as_uri())
        outside.frame_locator("iframe >> nth=1").get_by_text("shown").wait_for()
        assert outside.frame_locator("iframe >> nth=0").locator("#title").count() == 0
        assert "frame-ancestors" in " ".join(outside.said)
    drawn = tmp_path / "data" / "drawn"
    images, labels = (
        formats.read_idx((drawn / name).read_bytes(), name)
        for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
    )
    assert np.array_equal(images, made[None])
    assert labels.tolist() == [7]


WRONG = [
    (status(503, Retry_After="60", Content_Length="0"), "The service is busy"),  # the button alone asks in time
    (whole(b"<html>"), "something else than this page expects"),
    (as_json({"predictions": [{"probabilities": [2.0] * 10}]}), "something else than this page expects"),
    (as_json({"predictions": []}), "something else than this page expects"),
    (lambda handler: handler.connection.close(), "The service does not answer"),
    (status(500, Content_Length="0"), "The service refused (500)"),
]


@pytest.mark.parametrize(("wrong", "said"), WRONG)
def test_a_service_that_fails_is_said_and_the_drawing_kept_and_asked_again(opened: Any, wrong: Any, said: str) -> None:
    right = of_each(lambda: sure_of(7))
    answers = {"model": as_json(about()), "predict": wrong}
    with serving(answers) as server:
        page = opened(f"{server.url}/")
        label(page, "Nothing drawn")
        place = page.locator("#pad").bounding_box()
        draw(page, SEVEN[:1])
        state(page, said)
        assert page.locator("#pad").bounding_box() == place  # nothing moves under the pen
        state(page, "Nothing that you have done here is lost. Asking again in")
        assert "old" in str(page.locator("#answer").get_attribute("class"))
        made = seen(page)
        server.answers = {**server.answers, "predict": right}
        page.locator("#again", has_text="Ask again").dispatch_event("click")  # it may have asked again by itself
        label(page, "7")
        state(page, None)
        assert np.array_equal(seen(page), made)
        assert page.locator("#answer").get_attribute("class") == ""


def test_a_service_that_is_not_there_yet_is_asked_until_it_is(opened: Any) -> None:
    with serving({"model": in_turn(status(503, Content_Length="0"), as_json(about()))}) as server:
        page = opened(f"{server.url}/")
        state(page, "The service is busy. Asking again in 1 s.")
        label(page, "Nothing drawn")
        state(page, None)


def test_a_slow_service_is_said_to_be_and_no_old_answer_comes_over_a_newer_state(opened: Any) -> None:
    """Cleared while it is asked: the answer that comes then is nobody's."""

    def slow(handler: Any) -> None:
        time.sleep(1.8)
        of_each(lambda: sure_of(7))(handler)

    with serving({"model": as_json(about()), "predict": slow}) as server:
        page = opened(f"{server.url}/")
        draw(page, [[0.5, 0.2, 0.5, 0.8]])
        state(page, "Waiting for the service, which is slow")
        page.get_by_role("button", name="Clear").click()
        label(page, "Nothing drawn")
        page.wait_for_timeout(800)
        label(page, "Nothing drawn")


def test_twenty_changes_a_second_are_asked_one_after_the_other_and_the_newest_wins(opened: Any) -> None:
    asking, most, numbers = 0, 0, iter(range(10**6))

    def predict(handler: Any) -> None:
        nonlocal asking, most
        alone = len(handler.body) == 784  # not one of those of which pixels are covered
        asking += alone
        most = max(most, asking)
        number = next(numbers)
        time.sleep(0.12 if number % 2 else 0.02)
        asking -= alone
        # What was asked for is in the answer: how much ink there is.
        ink = sum(handler.body[:784])
        shares = [ink % 100 / 1000] + [0.0] * 8 + [0.9]
        answer = {**sure_of(9), "predictions": [{"label": "9", "probabilities": shares}] * (len(handler.body) // 784)}
        as_json(answer)(handler)

    with serving({"model": as_json(about()), "predict": predict}) as server:
        page = opened(f"{server.url}/")
        for number in range(20):
            draw(page, [[0.2 + number / 40, 0.2, 0.3 + number / 50, 0.5 + number / 50]])
        page.locator("#answer[data-version]").wait_for()
        page.wait_for_timeout(800)
        expected = f"{int(seen(page).astype(int).sum()) % 100 / 10:.1f} %"
        assert page.locator("#bars .number").first.inner_text() == expected
    assert most == 1


def test_a_service_with_a_token_is_asked_with_it(opened: Any) -> None:
    def model(handler: Any) -> None:
        right = handler.headers.get("Authorization") == "Bearer secret of mine"
        (as_json(about()) if right else status(401, Content_Length="0"))(handler)

    with serving({"model": model}) as server:
        page = opened(f"{server.url}/")
        state(page, "The service wants its token.")
        page.get_by_label("Token").fill("secret of mine")
        page.get_by_role("button", name="Go on").click()
        label(page, "Nothing drawn")
        state(page, None)


def test_another_champion_is_shown_as_soon_as_it_answers(opened: Any) -> None:
    new = {**about(), "model": {**about()["model"], "version": "4"}}
    answer = {**sure_of(7), "model": {"name": "digits", "version": "4", "run": DIGITS["run"]}}
    with serving({"model": in_turn(as_json(about()), as_json(new)), "predict": of_each(lambda: answer)}) as server:
        page = opened(f"{server.url}/")
        told(page, "footer", "version 3")
        draw(page, SEVEN)
        label(page, "7")
        page.locator("footer", has_text="version 4").wait_for()

"""`captcha-ocr label`, used by keyboard alone."""

import csv
import itertools
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests import stripes
from tests.cli.command import COMMAND, environment

COUNT = 50
TEXTS = ["".join(symbols) for symbols in itertools.permutations("abcd")][:24]
TEXTS = [*TEXTS, *(f"{text[:2]} {text[2:]}" for text in TEXTS), "bb", "cc"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Fifty pictures whose names do not tell their texts."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, text in enumerate(TEXTS):
        (folder / f"{number:04}.png").write_bytes(stripes.picture(text))
    return folder


@contextmanager
def labelling(
    folder: Path, model: Path, port: int = 0
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Runs the command; gives its process and the address of its page."""
    with subprocess.Popen(
        [*COMMAND, "label", str(folder), "--model", str(model), "--port", str(port)],
        env=environment(), stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            yield process, line.partition(" at ")[2].split()[0]
        finally:
            process.kill()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that must raise no error."""
    errors: list[str] = []
    page = browser.new_page(viewport={"width": 900, "height": 800})
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert errors == []


def labels_of(folder: Path) -> dict[str, str]:
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        found = [(row["path"], row["label"]) for row in csv.DictReader(file)]
    assert len(dict(found)) == len(found)
    return dict(found)


def answer(page: Page, number: int) -> tuple[str, str]:
    """Accepts the proposed label, or types another one; gives path and label."""
    path = page.locator("#name").inner_text()
    label = page.locator("#label").input_value()
    if number % 5 == 4:  # corrects the proposal
        label = label[::-1] + "a"
        page.keyboard.type(label)
    page.keyboard.press("Enter")
    expect(page.locator("#name")).not_to_have_text(path)
    return path, label


def test_no_label_is_lost_when_the_command_is_killed(
    page: Page, folder: Path, stripe_model: Path
) -> None:
    """All fifty labels are in the file, also those entered while the command was not running."""
    given: dict[str, str] = {}
    with labelling(folder, stripe_model) as (process, address):
        page.goto(address)
        expect(page.locator("#label")).to_be_focused()
        for number in range(20):
            path, label = answer(page, number)
            given[path] = label
        expect(page.locator("#status")).to_contain_text("20 of 50 labelled")
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert labels_of(folder) == given
        for number in range(20, 23):
            path, label = answer(page, number)
            given[path] = label
        expect(page.locator("#problem")).to_contain_text("3 not stored yet")
        port = int(address.rpartition(":")[2])
    with labelling(folder, stripe_model, port):
        expect(page.locator("#status")).to_contain_text("23 of 50 labelled")
        assert labels_of(folder) == given
        page.reload()  # continues with the pictures without a label
        expect(page.locator("#status")).to_contain_text("23 of 50 labelled")
        for number in range(23, COUNT - 1):
            path, label = answer(page, number)
            assert path not in given
            given[path] = label
        given[page.locator("#name").inner_text()] = page.locator("#label").input_value()
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_contain_text("50 of 50 labelled · all done")
    assert labels_of(folder) == given
    assert len(given) == COUNT


def test_escape_skips_a_picture_and_arrows_move_between_pictures(
    page: Page, folder: Path, stripe_model: Path
) -> None:
    """Escape skips a picture. Arrows move between pictures, or within a text being typed."""
    name, label = page.locator("#name"), page.locator("#label")
    with labelling(folder, stripe_model) as (_, address):
        page.goto(address)
        expect(label).to_be_focused()
        first = name.inner_text()
        page.keyboard.press("Escape")
        expect(name).not_to_have_text(first)
        second = name.inner_text()
        page.keyboard.press("ArrowLeft")
        expect(name).to_have_text(first)
        page.keyboard.press("ArrowRight")
        expect(name).to_have_text(second)
        page.keyboard.type("ac")
        page.keyboard.press("ArrowLeft")
        page.keyboard.type("b")
        expect(label).to_have_value("abc")
        page.keyboard.press("Enter")
        expect(name).not_to_have_text(second)
        page.keyboard.press("ArrowUp")
        expect(name).to_have_text(second)
        expect(label).to_have_value("abc")
        page.keyboard.type("cba")  # replaces the old label, which is selected
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_contain_text("1 of 50 labelled")
        expect(name).not_to_have_text(second)
        label.fill("")
        page.keyboard.press("Enter")
        expect(page.locator("#problem")).to_contain_text("skip it with Escape")
    assert labels_of(folder) == {second: "cba"}


def test_the_least_confident_picture_comes_first(
    page: Page, folder: Path, stripe_model: Path
) -> None:
    """Pictures are sorted by confidence, but a copy of another picture comes last."""
    unsure = stripes.draw("abcd").point(lambda level: level + 31)
    (folder / "unsure.png").write_bytes(stripes.encode(unsure.resize((80, 16))))
    (folder / "zz.png").write_bytes(stripes.encode(stripes.draw("abcd").convert("RGB")))
    with labelling(folder, stripe_model) as (_, address):
        page.goto(address)
        expect(page.locator("#name")).to_have_text("unsure.png")
        listed = page.request.get(f"{address}/pictures").json()["pictures"]
    assert listed[-1]["path"] == "zz.png"
    confidences = [one["confidence"] for one in listed[:-1]]
    assert confidences == sorted(confidences)


def test_a_label_from_another_browser_is_not_overwritten_silently(
    page: Page, browser: Browser, folder: Path, stripe_model: Path
) -> None:
    """The page shows the label that the other browser has stored, and the person decides."""
    name, label, problem = (page.locator(f"#{part}") for part in ("name", "label", "problem"))
    other = browser.new_page()
    with labelling(folder, stripe_model) as (_, address):
        for one in (page, other):
            one.goto(address)
            expect(one.locator("#label")).to_be_focused()
        first, proposal = name.inner_text(), label.input_value()
        for text in ("bcd", "cda"):
            other.keyboard.type(text)
            other.keyboard.press("Enter")
        expect(other.locator("#status")).to_contain_text("2 of 50 labelled")
        page.keyboard.press("Enter")
        expect(problem).to_contain_text(
            f"{first} was labelled “bcd” meanwhile; your “{proposal}” is not stored"
        )
        expect(name).to_have_text(first)
        expect(label).to_have_value("bcd")
        assert labels_of(folder)[first] == "bcd"
        page.keyboard.type("cab")  # replaces the other label
        page.keyboard.press("Enter")
        expect(name).not_to_have_text(first)
        expect(problem).to_be_hidden()
        second = name.inner_text()
        page.keyboard.press("Enter")
        expect(problem).to_contain_text(f"{second} was labelled “cda” meanwhile")
        page.keyboard.press("Enter")  # keeps the other label
        expect(name).not_to_have_text(second)
        expect(problem).to_be_hidden()
        expect(page.locator("#status")).to_contain_text("2 of 50 labelled")
    other.close()
    assert labels_of(folder) == {first: "cab", second: "cda"}


def test_a_label_of_another_browser_does_not_disturb_typing(
    page: Page, folder: Path, stripe_model: Path
) -> None:
    """The picture of that label comes next. The page says that all are done only after the person
    has decided about that picture.
    """
    name, label, problem = (page.locator(f"#{part}") for part in ("name", "label", "problem"))
    for picture in sorted(folder.iterdir())[2:]:
        picture.unlink()
    with labelling(folder, stripe_model) as (_, address):
        page.goto(address)
        expect(label).to_be_focused()
        first = name.inner_text()
        page.request.post(f"{address}/labels", data={"path": first, "label": "bcd"})
        held: list[Route] = []
        page.route("**/labels", lambda route: held.append(route))
        with page.expect_request("**/labels"):
            page.keyboard.press("Enter")
        page.keyboard.type("ca")
        held[0].continue_()
        page.unroute("**/labels")
        expect(problem).to_contain_text(f"{first} was labelled “bcd” meanwhile")
        expect(label).to_have_value("ca")
        second = name.inner_text()
        assert second != first
        page.keyboard.type("b")
        page.keyboard.press("Enter")
        expect(name).to_have_text(first)
        expect(page.locator("#status")).to_contain_text("2 of 2 labelled")
        expect(page.locator("#status")).not_to_contain_text("all done")
        page.keyboard.press("Escape")  # keeps the other label
        expect(page.locator("#status")).to_contain_text("2 of 2 labelled · all done")
    assert labels_of(folder) == {first: "bcd", second: "cab"}

"""`make data` warns of readable pictures and labels that may cause problems."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from tests.training.data.conftest import texts
from training.data.contact_sheet import font
from training.data.prepare import prepare
from training.exceptions import DataError

Warned = Callable[..., str]


def text_picture(
    lines: Sequence[str],
    size: tuple[int, int] = (120, 40),
    paper: str = "white",
    ink: str = "black",
) -> bytes:
    """A PNG with lines of text below each other."""
    image = Image.new("RGB", size, paper)
    pen = ImageDraw.Draw(image)
    high = size[1] / len(lines)
    letters = font(max(6, round(0.6 * high)))
    for row, line in enumerate(lines):
        pen.text((3, row * high + 2), line, ink, font=letters)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def warned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Warned:
    """A function that prepares pictures with their labels and returns the printed text."""

    def printed(pictures: Sequence[tuple[str, bytes]], **options: Any) -> str:
        rows = ["path\tlabel"]
        for number, (label, picture) in enumerate(pictures):
            (tmp_path / f"{number}.png").write_bytes(picture)
            rows.append(f"{number}.png\t{label}")
        (tmp_path / "labels.tsv").write_text("\n".join(rows), encoding="utf-8")
        prepare(tmp_path / "labels.tsv", tmp_path / "data", **options)
        return capsys.readouterr().out

    return printed


def usual(count: int = 12) -> list[tuple[str, bytes]]:
    return [(text, text_picture([text])) for text in texts(count)]


def test_text_that_only_colour_shows_is_reported(warned: Warned) -> None:
    """Pictures with such a text are blank in gray; the warning comes before any training."""
    pictures = [(text, text_picture([text], paper="#006800", ink="#cc0000")) for text in texts(12)]
    printed = warned(pictures)
    assert "blank in gray, with a text that only colour shows: 12 pictures, 0.png" in printed
    assert "a model needs three channels" in printed


def test_a_blank_picture_is_named(warned: Warned) -> None:
    """One blank picture among many causes no advice about colour."""
    printed = warned([*usual(), ("ab", text_picture([" "]))])
    assert "warning: blank in gray: 1 picture, 12.png" in printed
    assert "channels" not in printed


def test_stacked_letters_are_reported(warned: Warned) -> None:
    """A model cannot read two lines of text, or letters above each other."""
    printed = warned([(text, text_picture([text, text[::-1]])) for text in texts(12)])
    assert "100% of the pictures seem to have letters above each other" in printed
    printed = warned([(text, text_picture(text, (20, 60))) for text in texts(12)])
    assert "most pictures are taller than wide (20×60)" in printed
    assert "above each other" not in warned(usual())


def test_narrow_characters_are_reported(warned: Warned) -> None:
    """The pictures have six characters in 24 pixels."""
    printed = warned([(f"{n:06}", text_picture([str(n)], (24, 16))) for n in (3, 123, 47, 89)])
    assert "a character is about 4 pixels wide" in printed


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (9, "too few pictures: training needs at least 10"),
        (40, "too few pictures for a test: 4 are held back"),
    ],
)
def test_too_few_pictures_are_reported(count: int, words: str, warned: Warned) -> None:
    """A set may be too small for training, or for a meaningful test split."""
    assert words in warned(usual(count))


def test_labels_near_the_limit_of_time_steps_are_reported(warned: Warned) -> None:
    """The time steps hardly suffice for such labels."""
    labels = [text + "ab" * 70 for text in texts(12)]
    printed = warned([(label, text_picture([label[:4]], (900, 40))) for label in labels])
    assert "near the limit of 160 time steps, and hard to learn: 12 labels, 0.png" in printed


def test_a_picture_of_unusual_size_is_named(warned: Warned) -> None:
    """The unusual picture is a photo among small crops."""
    printed = warned([*usual(), ("x", text_picture(["x"], (1000, 750)))])
    assert "of quite another size or shape than most, 120×40" in printed
    assert "1 picture, 12.png (1000×750)" in printed
    assert "takes them as 200×50" in printed


def test_an_unusually_long_label_is_named(warned: Warned) -> None:
    """The unusual label is a line of text among words."""
    assert "much longer than most: 1 label, 12.png ('abababababab')" in warned(
        [*usual(), ("ab" * 6, text_picture(["x"]))]
    )


def test_leading_zeros_that_a_spreadsheet_dropped_are_reported(warned: Warned) -> None:
    """Some labels of digits are shorter than the others, and none begins with 0."""
    labels = ["1234", "2345", "3456", "4567", "5678", "6789", "7890", "8901", "9012", "123"]
    pictures = [(label, text_picture([label])) for label in labels]
    assert "of fewer digits than most: 1 label, such as '123'" in warned(pictures)
    assert "fewer digits" not in warned([*pictures, ("0123", text_picture(["0"]))])


def test_rare_symbols_are_reported(warned: Warned) -> None:
    """Symbols that are in no training picture are reported, too."""
    printed = warned([*usual(), *((sign, text_picture([sign])) for sign in "XYZ")])
    assert "in fewer than 3 labels, too few to be learned: 3 symbols, X, Y, Z" in printed
    singles = [(chr(0x4E00 + n), text_picture([str(n)])) for n in range(12)]
    assert "in no training picture, by chance: " in warned(singles)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("a\u00a0b", "U+00A0 NO-BREAK SPACE, 1 ×: cannot be seen"),
        ("a b", "U+0020 SPACE, 1 ×: a space"),
        ("a\u200bb", "U+200B ZERO WIDTH SPACE, 1 ×: cannot be seen"),
        ("\u0430b", "U+0430 CYRILLIC SMALL LETTER A, 1 ×: of a script that few letters have"),
        ("x²", "U+00B2 SUPERSCRIPT TWO, 1 ×: a form of '2'"),
    ],
)
def test_odd_characters_are_reported(label: str, words: str, warned: Warned) -> None:
    """The warning has the code point and the Unicode name."""
    assert f"warning: odd character {words}" in warned(
        [*usual(30), (label, text_picture(["x"]))], accept=True
    )


def test_the_alphabet_is_listed_by_script(warned: Warned) -> None:
    """Letters are listed by script and case; digits and signs have their own lines."""
    labels = ["aB1", "cD2", "жЖ", "中文", "-+"]
    printed = warned([(label, text_picture([str(n)])) for n, label in enumerate(labels)])
    for line in (
        "digits, 2: 12", "Latin capital letters, 2: BD", "Latin small letters, 2: ac",
        "Cyrillic capital letters, 1: Ж", "Cyrillic small letters, 1: ж", "CJK letters, 2: 中文",
        "punctuation and signs, 2: +-",
    ):  # fmt: skip
        assert f"  {line}\n" in printed


@pytest.mark.parametrize(
    ("labels", "doubt"),
    [
        (["same"] * 4, "all 4 pictures have the label 'same'"),
        (["Ã©a", "bÃ¼", "cd"], r"2 labels, such as 'Ã©a', look like 'éa' in UTF-8"),
        (["├⌐a", "cd"], r"1 label, such as '├⌐a', look like 'éa'"),
        (["a\ufffdb", "cd"], r"1 label with U\+FFFD"),
        (["a%2Fb", "cd"], r"1 label, such as 'a%2Fb', look like 'a/b'"),
        (["a&lt;b", "cd"], r"1 label, such as 'a&lt;b', look like 'a<b'"),
        (["NaN", "None", "cd"], r"2 labels, such as 'NaN' of 0\.png, stand for labels that are"),
        (["אב", "cd"], r"1 label, such as 'אב', of letters that are written from right to left"),
        (["1.0", "12.0", "7.0"], r"3 labels, such as '1\.0', were turned into numbers"),
        (["1.23E+05", "12345"], r"1 label, such as '1\.23E\+05', were turned into numbers"),
    ],
)
def test_damaged_labels_are_refused(labels: list[str], doubt: str, warned: Warned) -> None:
    """Nothing is stored until the user accepts the labels."""
    pictures = [(label, text_picture([str(n)])) for n, label in enumerate(labels)]
    with pytest.raises(DataError, match=doubt):
        warned(pictures)
    assert f"accepted: {doubt.split(',')[0]}".replace("\\", "") in warned(pictures, accept=True)


def test_letters_with_accents_are_accepted(warned: Warned) -> None:
    """Accents are not mistaken for labels that were read in the wrong encoding."""
    printed = warned([(one, text_picture([str(n)])) for n, one in enumerate(["é", "ü", "Ã", "ñ"])])
    assert "UTF-8" not in printed


def test_percent_signs_and_ampersands_are_accepted(warned: Warned) -> None:
    """Pictures may show these signs. A single letter has no direction, so `א` is accepted, too."""
    labels = ["5%", "10%", "a&b", "א"]
    warned([(one, text_picture([str(n)])) for n, one in enumerate(labels)])


def test_a_label_that_may_stand_for_a_missing_one_is_named(warned: Warned) -> None:
    """One such label among many may be right, so `make data` only warns."""
    printed = warned([*usual(30), ("null", text_picture(["x"]))])
    assert "what programs write for a missing label: 1 label, 30.png ('null')" in printed

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.augmentation.operations import OPERATIONS
from training.augmentation.policy import Augmentation
from training.data.contact_sheet import Cell, draw_sheet, shortened
from training.exceptions import DataError
from training.reports import preview
from training.reports.preview import draw_preview, read_pictures


def sheet_of(colours: list[str], columns: int, width: int, height: int) -> np.ndarray:
    cells = [Cell(Image.new("RGB", (10, 5), colour), colour) for colour in colours]
    return np.asarray(draw_sheet(cells, columns, width, height))


def centres(sheet: np.ndarray, rows: int, columns: int) -> list[tuple[int, ...]]:
    """The colours in the middle of every picture, of 10×5 pixels each, row by row."""
    places = [
        (8 + row * 29 + 2, 8 + column * 18 + 5) for row in range(rows) for column in range(columns)
    ]
    return [tuple(int(level) for level in sheet[place]) for place in places]


def test_a_sheet_shows_its_pictures_row_by_row() -> None:
    """Pictures keep their order; places after the last picture stay white."""
    sheet = sheet_of(["red", "lime", "blue"], columns=2, width=10, height=5)
    red, lime, blue, nothing = centres(sheet, 2, 2)
    assert (red, lime, blue) == ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    assert nothing == (255, 255, 255)


@pytest.mark.parametrize("size", [(1, 1), (4000, 3), (3, 4000), (200, 50)])
def test_a_picture_of_any_shape_stays_in_its_cell(size: tuple[int, int]) -> None:
    """The size of a sheet depends only on the cells."""
    sheet = draw_sheet([Cell(Image.new("L", size), "x" * 10_000)], 5, 100, 40)
    assert sheet.size == (8 + 108, 8 + 64)
    assert np.asarray(sheet)[8:48, 8:108].min() == 0, "the picture cannot be seen"


def test_long_captions_are_shortened() -> None:
    """A shortened caption ends in an ellipsis."""
    assert shortened("abc", 100) == "abc"
    assert shortened("a" * 100, 50).endswith("a…")
    assert shortened("abc", 1) == "…"


def test_a_preview_has_every_operation_at_three_strengths() -> None:
    """At full strength, an operation changes the picture unless the amount is 0."""
    ink = np.ones((20, 60), np.float32)
    ink[5:15, 10:50:4] = 0.2
    sheet = draw_preview([ink], Augmentation(inversion=0.0), seed=0)
    columns, step = 4, 104
    assert sheet.width == 8 + columns * step
    down = 24 + 16 + 8
    rows = (sheet.height - 8) // down
    assert rows == len(OPERATIONS) + 8
    pixels = np.asarray(sheet.convert("L")).astype(int)
    for row, name in enumerate(OPERATIONS):
        upper = 8 + row * down
        first, last = (pixels[upper : upper + 24, x : x + 96] for x in (8, 8 + 3 * step))
        assert np.array_equal(first, last) == (name == "inversion"), name


def test_the_preview_command_takes_a_data_set_or_a_folder(data: Path, tmp_path: Path) -> None:
    """The command also takes settings of the augmentation, and writes PNG without a suffix."""
    out = tmp_path / "new" / "preview.png"
    arguments = ["--pictures", str(data), "--out", str(out), "--augmentation.blur", "9"]
    preview.main(arguments)
    with Image.open(out) as sheet:
        assert sheet.width > 0
    preview.main(["--pictures", str(data), "--out", str(tmp_path / "unsuffixed")])
    with Image.open(tmp_path / "unsuffixed") as sheet:
        assert sheet.format == "PNG"
    Image.new("L", (5, 5)).save(tmp_path / "one.PNG")
    assert len(read_pictures(tmp_path, 10)) == 1
    with pytest.raises(DataError, match="holds no pictures"):
        read_pictures(tmp_path / "nothing", 10)

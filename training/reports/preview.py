"""`make preview`: a contact sheet of every distortion of training at three strengths."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from service.ocr.formats import SUFFIXES
from service.ocr.preprocessing import FloatArray, decode_gray
from training.augmentation.operations import OPERATIONS
from training.augmentation.policy import Augmentation
from training.data.contact_sheet import Cell, draw_sheet
from training.data.dataset import Dataset
from training.exceptions import DataError
from training.fit.config import add_config_options, config_of
from training.settings import Parser
from training.synthetic.levels import image_of

STRENGTHS = (1 / 3, 2 / 3, 1.0)
_WHOLE_ROWS = 8
_LARGEST = (240, 160)


def draw_preview(
    pictures: Sequence[FloatArray], augmentation: Augmentation, seed: int
) -> Image.Image:
    """A row for each operation and, at the end, rows with all operations as in training.

    Every row has a picture without distortion and at the three `STRENGTHS`; the captions give the
    amounts in the units of the settings.

    Args:
        pictures: at least one picture, float32 `(height, width)`, 0 black to 1 white; the rows use
            them in turn.
    """
    cells = []
    for number, (name, operation) in enumerate(OPERATIONS.items()):
        picture = pictures[number % len(pictures)]
        cells.append(_cell(picture, name.replace("_", " ")))
        for strength in STRENGTHS:
            # The same seed for all strengths, so that only the amount differs along a row.
            generator = np.random.default_rng((seed, number))
            amount = getattr(augmentation, name) * strength
            rough = operation(picture, amount, generator) if amount else picture
            cells.append(_cell(rough, f"{amount:.3g}" if amount else "left out"))
    for number in range(_WHOLE_ROWS):
        picture = pictures[number % len(pictures)]
        cells.append(_cell(picture, "all together"))
        for strength in STRENGTHS:
            generator = np.random.default_rng((seed, len(OPERATIONS) + number))
            rough = augmentation.apply(picture, strength, generator)
            cells.append(_cell(rough, f"strength {strength:.2f}"))
    width = min(max(picture.shape[1] for picture in pictures), _LARGEST[0])
    height = min(max(picture.shape[0] for picture in pictures), _LARGEST[1])
    return draw_sheet(cells, 1 + len(STRENGTHS), max(width, 96), max(height, 24))


def _cell(picture: FloatArray, caption: str) -> Cell:
    return Cell(image_of(picture), caption)


def read_pictures(source: Path, count: int) -> list[FloatArray]:
    """The first pictures of a folder of picture files or of a prepared data set.

    Raises:
        DataError: there are no pictures.
    """
    if (source / "labels.csv").exists() and (source / "pictures").is_dir():
        dataset = Dataset(source)
        files = [dataset.read(sample) for sample in dataset.samples[:count]]
    else:
        paths = sorted(path for path in source.glob("*") if path.suffix.lower() in SUFFIXES)
        files = [path.read_bytes() for path in paths[:count]]
    if not files:
        raise DataError(f"{source} holds no pictures: neither <name>.png files nor a data set.")
    return [decode_gray(data) for data in files]


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser("preview", __doc__)
    parser.add_argument(
        "--pictures", type=Path, default=Path("examples"),
        help="a folder of pictures, or a data set of `make data`; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=Path("report/preview.png"), help="default: %(default)s"
    )
    add_config_options(parser, "robust")
    arguments = parser.parse_args(argv)
    config = config_of(arguments)
    pictures = read_pictures(arguments.pictures, len(OPERATIONS))
    sheet = draw_preview(pictures, config.augmentation, config.seed)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(arguments.out, "PNG")  # with any suffix
    print(f"{len(OPERATIONS)} operations on {len(pictures)} pictures: {arguments.out}")

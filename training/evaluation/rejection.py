"""`make evaluate-rejection`: measures whether a model recognises pictures without a text.

The threshold is the confidence that 98 % of the clean pictures of a split reach. A picture without
text is flagged if its reading is empty or has a lower confidence.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from service.ocr.preprocessing import FloatArray
from service.ocr.recognizer import Recognizer
from training.evaluation.evaluate import read_samples_with
from training.evaluation.metrics import wilson_interval
from training.evaluation.target import add_target_options, open_target
from training.settings import Parser
from training.synthetic.generate import draw
from training.synthetic.glyphs import font
from training.synthetic.levels import levels_of
from training.synthetic.negatives import KINDS

ACCEPTED_SHARE = 0.98
_EACH = 25
_SEED = 1000
_LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _rings(width: int, height: int, generator: np.random.Generator) -> FloatArray:
    rows, columns = np.indices((height, width))
    x, y = generator.uniform(0, width), generator.uniform(0, height)
    distance = np.hypot(rows - y, columns - x)
    return (0.5 + 0.5 * np.sin(distance * generator.uniform(0.2, 1.2))).astype(np.float32)


def _barcode(width: int, height: int, generator: np.random.Generator) -> FloatArray:
    bars = np.repeat(generator.integers(0, 2, width), generator.integers(1, 5))[:width]
    return np.tile(bars, (height, 1)).astype(np.float32)


def _mosaic(width: int, height: int, generator: np.random.Generator) -> FloatArray:
    """Black and white modules, like a QR code."""
    side = int(generator.integers(2, 6))
    modules = generator.integers(0, 2, (height // side + 1, width // side + 1))
    return np.kron(modules, np.ones((side, side)))[:height, :width].astype(np.float32)


def _icon(width: int, height: int, generator: np.random.Generator) -> FloatArray:
    """An emoji-like face in the middle of a flat picture."""
    image = Image.new("L", (width, height), int(generator.integers(200, 256)))
    pen = ImageDraw.Draw(image)
    radius = height * generator.uniform(0.25, 0.45)
    x, y = width * generator.uniform(0.3, 0.7), height / 2
    level = int(generator.integers(0, 150))
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=level, width=2)
    for side in (-0.4, 0.4):
        eye = x + side * radius
        pen.ellipse((eye - 2, y - radius / 3 - 2, eye + 2, y - radius / 3 + 2), fill=level)
    mouth = (x - radius / 2, y - radius / 4, x + radius / 2, y + radius / 2)
    pen.arc(mouth, 20, 160, fill=level, width=2)
    return levels_of(image)


def _symbols(width: int, height: int, generator: np.random.Generator) -> FloatArray:
    image = Image.new("L", (width, height), 255)
    pen = ImageDraw.Draw(image)
    text = "".join(generator.choice(list("→←↑↓★☂☎♠♣♥♦✂✈✉∑∫√∞≈≠±§¶@#&%"), 6))
    size = int(height * generator.uniform(0.4, 0.7))
    pen.text((10, height * 0.1), text, font=font("DejaVuSans", size), fill=0)
    return levels_of(image)


UNSEEN_KINDS = {
    "rings": _rings,
    "barcode": _barcode,
    "mosaic": _mosaic,
    "icon": _icon,
    "symbols": _symbols,
}
"""Kinds that training does not use, in addition to those of `training.synthetic.negatives`."""


def textless(width: int, height: int, alphabet: str) -> Iterator[tuple[str, FloatArray]]:
    """Pictures without a text of the alphabet, `_EACH` of each kind, with the name of the kind."""
    generator = np.random.default_rng(_SEED)
    for kind, drawer in {**KINDS, **UNSEEN_KINDS}.items():
        for _ in range(_EACH):
            yield kind, drawer(width, height, generator).clip(0, 1)
    foreign = [symbol for symbol in _LATIN if symbol not in alphabet.upper()]
    if foreign:
        for _ in range(_EACH):
            text = "".join(generator.choice(foreign, generator.integers(4, 7)))
            image = draw(text, width, height, generator).image
            yield "other letters", levels_of(image)


def accepting_threshold(clean_confidences: Sequence[float]) -> float:
    """The confidence that `ACCEPTED_SHARE` of the pictures with a text reach."""
    return float(np.quantile(clean_confidences, 1 - ACCEPTED_SHARE))


def evaluate_rejection(
    recognizer: Recognizer, clean_confidences: Sequence[float]
) -> dict[str, Any]:
    """The threshold, and the number of pictures of each kind that are flagged at it."""
    threshold = accepting_threshold(clean_confidences)
    metadata = recognizer.metadata
    flagged: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for kind, picture in textless(metadata.width, metadata.height, metadata.alphabet):
        tensor = np.repeat(picture.T[np.newaxis, :, :, np.newaxis], metadata.channels, axis=3)
        reading = recognizer.decoder.decode(recognizer.infer(tensor.astype(np.float32))[0])
        count[kind] += 1
        flagged[kind] += not reading.text or reading.confidence < threshold
    low, high = wilson_interval(flagged.total(), count.total())
    return {
        "threshold": threshold,
        "pictures": count.total(),
        "flagged": flagged.total(),
        "flagged_share": flagged.total() / count.total(),
        "interval": [low, high],
        "kinds": {kind: [flagged[kind], count[kind]] for kind in count},
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser("rejection", __doc__)
    add_target_options(parser)
    arguments = parser.parse_args(argv)
    target = open_target(arguments)
    results = read_samples_with(target.recognizer, target.dataset, target.samples)
    summary = evaluate_rejection(target.recognizer, [r.reading.confidence for r in results])
    (target.folder / f"rejection-{target.split}.json").write_text(json.dumps(summary, indent=2))
    for kind, (found, count) in summary["kinds"].items():
        print(f"{kind:>14}: {found}/{count} flagged")
    print(
        f"{summary['flagged']}/{summary['pictures']} = {summary['flagged_share']:.4f} flagged at "
        f"confidence {summary['threshold']:.4f}, which {ACCEPTED_SHARE:.0%} of clean pictures reach"
    )

"""Pictures without any text of the alphabet, which a model must read as an empty text."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from service.ocr.preprocessing import FloatArray
from training.synthetic.glyphs import curve, font
from training.synthetic.levels import levels_of

_OTHER_SCRIPTS = "ДЖИЛФЦЧШЩЭЮЯБГΔΘΛΞΣΦΨΩאבגדהחטלמקشضطظعغკლმნოპჟრ"
_PROSE = (
    "the quick brown fox jumps over a lazy dog while seven wizards make toxic brew and nobody "
    "counts how often the bell has rung since early morning"
)

Drawer = Callable[[int, int, np.random.Generator], FloatArray]


def draw_background(width: int, height: int, generator: np.random.Generator) -> FloatArray:
    """Draws one picture of a random kind: float32 `(height, width)`, 0 black to 1 white."""
    kind = KINDS[str(generator.choice(list(KINDS)))]
    return kind(width, height, generator).clip(0, 1).astype(np.float32)


def _flat(width: int, height: int, generator: np.random.Generator) -> FloatArray:
    return np.full((height, width), generator.random(), np.float32)


def _gradient(width: int, height: int, generator: np.random.Generator) -> FloatArray:
    columns = np.linspace(generator.random(), generator.random(), width)
    rows = np.linspace(generator.uniform(-0.3, 0.3), generator.uniform(-0.3, 0.3), height)
    return (columns + rows[:, np.newaxis]).astype(np.float32)


def _white_noise(width: int, height: int, generator: np.random.Generator) -> FloatArray:
    noise = generator.normal(generator.random(), generator.uniform(0.05, 0.5), (height, width))
    return noise.astype(np.float32)


def _smooth_noise(width: int, height: int, generator: np.random.Generator) -> FloatArray:
    """Noise at several scales, like clouds, foliage or cloth."""
    picture = np.zeros((height, width), np.float32)
    for cells in (2, 4, 8, 16):
        coarse = generator.random((cells, 2 * cells), np.float32) * 255
        layer = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        picture += np.asarray(layer) / np.float32(255 * cells**0.7)
    return (picture - picture.min()) / (picture.max() - picture.min())


def _strokes_alone(width: int, height: int, generator: np.random.Generator) -> FloatArray:
    paper = _gradient(width, height, generator) * 0.3 + 0.7
    for _ in range(generator.integers(1, 5)):
        paper = paper * (1 - curve(width, height, sorted(generator.random(4)), generator))
    return paper


def _shapes(width: int, height: int, generator: np.random.Generator) -> FloatArray:
    """Overlapping discs, boxes and triangles: an icon, or a scene of flat surfaces."""
    image = Image.new("L", (width, height), int(generator.integers(256)))
    pen = ImageDraw.Draw(image)
    for _ in range(generator.integers(1, 12)):
        level = int(generator.integers(256))
        x, y = generator.uniform(-10, width), generator.uniform(-10, height)
        size = generator.uniform(5, height)
        box = (x, y, x + size * generator.uniform(0.5, 3), y + size)
        match generator.integers(3):
            case 0:
                pen.ellipse(box, fill=level)
            case 1:
                pen.rectangle(box, fill=level)
            case _:
                pen.polygon((box[0], box[3], box[2], box[3], (x + box[2]) / 2, y), fill=level)
    return levels_of(image)


def _photograph(width: int, height: int, generator: np.random.Generator) -> FloatArray:
    """Surfaces under uneven light, with texture."""
    light = _smooth_noise(width, height, generator)
    return 0.6 * _shapes(width, height, generator) * (0.5 + light) + 0.3 * _smooth_noise(
        width, height, generator
    )


def _checkerboard(width: int, height: int, generator: np.random.Generator) -> FloatArray:
    rows, columns = np.indices((height, width)) // generator.integers(2, 16)
    low, high = generator.random(2)
    return np.where((rows + columns) % 2, low, high).astype(np.float32)


def _stripes(width: int, height: int, generator: np.random.Generator) -> FloatArray:
    rows, columns = np.indices((height, width))
    turn = generator.uniform(0, np.pi)
    along = rows * np.sin(turn) + columns * np.cos(turn)
    return (0.5 + 0.5 * np.sin(along * generator.uniform(0.1, 1.5))).astype(np.float32)


def _dots(width: int, height: int, generator: np.random.Generator) -> FloatArray:
    image = Image.new("L", (width, height), 255)
    pen = ImageDraw.Draw(image)
    for _ in range(generator.integers(5, 120)):
        x, y = generator.uniform(0, width), generator.uniform(0, height)
        radius = generator.uniform(0.5, 4)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=0)
    return levels_of(image)


def _prose(width: int, height: int, generator: np.random.Generator) -> FloatArray:
    """Many lines of text, far more than one short label."""
    image = Image.new("L", (width, height), 255)
    pen = ImageDraw.Draw(image)
    size = int(generator.integers(7, max(8, height // 4)))
    for top in range(int(generator.integers(-size, 2)), height, round(size * 1.25)):
        line = " ".join(generator.choice(_PROSE.split(), 14))
        pen.text((generator.uniform(-20, 4), top), line, font=font("DejaVuSans", size), fill=0)
    return levels_of(image)


def _other_script(width: int, height: int, generator: np.random.Generator) -> FloatArray:
    """A short text in letters that no Latin alphabet has."""
    image = Image.new("L", (width, height), int(generator.integers(180, 256)))
    pen = ImageDraw.Draw(image)
    text = "".join(generator.choice(list(_OTHER_SCRIPTS), generator.integers(3, 7)))
    size = int(height * generator.uniform(0.45, 0.75))
    position = (generator.uniform(0, width * 0.3), generator.uniform(0, height * 0.2))
    pen.text(position, text, font=font("DejaVuSans-Bold", size), fill=int(generator.integers(90)))
    return levels_of(image)


KINDS: dict[str, Drawer] = {
    "flat": _flat,
    "gradient": _gradient,
    "white noise": _white_noise,
    "smooth noise": _smooth_noise,
    "strokes": _strokes_alone,
    "shapes": _shapes,
    "photograph": _photograph,
    "checkerboard": _checkerboard,
    "stripes": _stripes,
    "dots": _dots,
    "prose": _prose,
    "other script": _other_script,
}

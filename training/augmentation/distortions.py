"""Distortions of pictures, each by a stated amount.

Every function takes a picture and returns one of the same size: float32 `(height, width)`, 0 black
to 1 white, or `(height, width, 3)` in RGB. No function draws a random amount; a distortion that is
random otherwise takes a generator. `operations` draws amounts for training, `conditions` fixes them
for evaluation.
"""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from service.ocr.preprocessing import FloatArray
from training.synthetic.levels import LUMA, image_of, levels_of

Level = float | FloatArray
"""A gray level, 0 black to 1 white, or the three levels of a colour."""

_BILINEAR = Image.Resampling.BILINEAR


def _colour(image: Image.Image, level: Level) -> int | tuple[int, ...]:
    """The level as a colour of Pillow, for an image of one band or three."""
    bands = (np.broadcast_to(level, (len(image.getbands()),)) * 255).round().astype(int).tolist()
    return bands[0] if len(bands) == 1 else tuple(bands)


def _like(picture: FloatArray, values: FloatArray) -> FloatArray:
    """Adds an axis to values per pixel or column, so that they broadcast over the channels."""
    return values if picture.ndim == 2 else values[..., np.newaxis]


def affine(
    picture: FloatArray,
    rotation: float = 0.0,
    shear: float = 0.0,
    scale_x: float = 1.0,
    scale_y: float = 1.0,
    shift_x: float = 0.0,
    shift_y: float = 0.0,
    fill: Level = 1.0,
) -> FloatArray:
    """Turns, slants, scales and shifts about the centre.

    Args:
        rotation: degrees, counter-clockwise.
        shear: columns by which a row moves per row above the centre.
        scale_x, scale_y: factors; 2 doubles the size of the content.
        shift_x, shift_y: shift to the right as a share of the width, and downwards as a share of
            the height.
        fill: level of the area that comes into view.
    """
    height, width = picture.shape[:2]
    cosine, sine = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    forward = (
        np.array(((cosine, sine), (-sine, cosine)))
        @ np.array(((1.0, -shear), (0.0, 1.0)))
        @ np.diag((scale_x, scale_y))
    )
    inverse = np.linalg.inv(forward)
    centre = np.array((width / 2, height / 2))
    offset = centre - inverse @ (centre + np.array((shift_x * width, shift_y * height)))
    coefficients = (*inverse[0], offset[0], *inverse[1], offset[1])
    return _transformed(picture, Image.Transform.AFFINE, coefficients, fill)


def perspective(picture: FloatArray, corners: FloatArray, fill: Level = 1.0) -> FloatArray:
    """Moves the corners of the picture, as a view from the side does.

    Args:
        corners: `(4, 2)`, the move of each corner as shares of the width and the height (top left,
            top right, bottom right, bottom left).
    """
    height, width = picture.shape[:2]
    size = np.array((width, height))
    target = np.array(((0, 0), (1, 0), (1, 1), (0, 1))) * size
    source = target + corners * size
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
        values += [u, v]
    coefficients = np.linalg.solve(np.array(rows, float), np.array(values, float))
    return _transformed(picture, Image.Transform.PERSPECTIVE, tuple(coefficients), fill)


def _transformed(
    picture: FloatArray,
    transform: Image.Transform,
    coefficients: tuple[float, ...],
    fill: Level,
) -> FloatArray:
    image = image_of(picture)
    colour = _colour(image, fill)
    return levels_of(
        image.transform(
            image.size, transform, coefficients, Image.Resampling.BICUBIC, fillcolor=colour
        )
    )


def wave(picture: FloatArray, amplitude: float, period: float, phase: float = 0.0) -> FloatArray:
    """Shifts columns up and down along a sine; amplitude and period in pixels, phase in turns."""
    height, width = picture.shape[:2]
    columns = np.arange(width)
    shift = amplitude * np.sin(2 * np.pi * (columns / period + phase))
    rows = np.arange(height)[:, np.newaxis] + shift
    below = np.floor(rows).astype(int)
    share = _like(picture, (rows - below).astype(np.float32))
    upper = picture[below.clip(0, height - 1), columns]
    lower = picture[(below + 1).clip(0, height - 1), columns]
    return upper * (1 - share) + lower * share


def pad(
    picture: FloatArray, left: float, top: float, right: float, bottom: float, fill: Level = 1.0
) -> FloatArray:
    """Puts a border around the picture and scales the result to the old size.

    Args:
        left, top, right, bottom: width of the border as a share of the picture's width or
            height; a negative share is cut off.
        fill: level of the border.
    """
    height, width = picture.shape[:2]
    x0, x1 = round(-left * width), width + round(right * width)
    y0, y1 = round(-top * height), height + round(bottom * height)
    image = image_of(picture)
    canvas = Image.new(image.mode, (x1 - x0, y1 - y0), _colour(image, fill))
    canvas.paste(image, (-x0, -y0))
    return levels_of(canvas.resize((width, height), _BILINEAR))


def blur(picture: FloatArray, radius: float) -> FloatArray:
    """Gaussian blur; the radius is the standard deviation in pixels."""
    return levels_of(image_of(picture).filter(ImageFilter.GaussianBlur(radius)))


def motion_blur(picture: FloatArray, length: int) -> FloatArray:
    """The mean over `length` neighbouring columns."""
    before = length // 2
    around = ((0, 0), (before, length - 1 - before), (0, 0))[: picture.ndim]
    padded = np.pad(picture, around, "edge")
    return np.lib.stride_tricks.sliding_window_view(padded, length, axis=1).mean(
        axis=-1, dtype=np.float32
    )


def sharpen(picture: FloatArray, percent: int) -> FloatArray:
    """Unsharp mask with a radius of 2 pixels."""
    return levels_of(image_of(picture).filter(ImageFilter.UnsharpMask(2, percent, 0)))


def rescale(picture: FloatArray, factor: float, method: Image.Resampling = _BILINEAR) -> FloatArray:
    """Scales down or up by the factor and back again, like a resized upload."""
    height, width = picture.shape[:2]
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    return levels_of(image_of(picture).resize(small, method).resize((width, height), method))


def jpeg(picture: FloatArray, quality: int) -> FloatArray:
    """Compresses as JPEG; quality 1 to 95."""
    file = io.BytesIO()
    image_of(picture).save(file, "JPEG", quality=quality)
    return levels_of(Image.open(file))


def gaussian_noise(
    picture: FloatArray, deviation: float, generator: np.random.Generator
) -> FloatArray:
    """Adds noise to every pixel; its standard deviation is a share of the gray range."""
    noise = generator.standard_normal(picture.shape, np.float32) * np.float32(deviation)
    return (picture + noise).clip(0, 1)


def salt_and_pepper(
    picture: FloatArray, share: float, generator: np.random.Generator
) -> FloatArray:
    """Turns a share of the pixels black or white, half of the share each."""
    chance = _like(picture, generator.random(picture.shape[:2], np.float32))
    salted = np.where(chance < share / 2, np.float32(0), picture)
    return np.where(chance > 1 - share / 2, np.float32(1), salted)


def brightness(picture: FloatArray, amount: float) -> FloatArray:
    """Adds the amount, -1 to 1, to every gray level."""
    return (picture + np.float32(amount)).clip(0, 1)


def contrast(picture: FloatArray, factor: float, pivot: float = 0.5) -> FloatArray:
    """Multiplies every level's distance from the pivot; 1 changes nothing."""
    return ((picture - np.float32(pivot)) * np.float32(factor) + np.float32(pivot)).clip(0, 1)


def gamma(picture: FloatArray, exponent: float) -> FloatArray:
    """Raises every level to the exponent: above 1 darkens, below 1 brightens."""
    return picture ** np.float32(exponent)


def tint(picture: FloatArray, ink: FloatArray, paper: FloatArray) -> FloatArray:
    """Prints the picture in another ink on another paper, both RGB from 0 to 1.

    In a gray picture, the two colours become their luma.
    """
    if picture.ndim == 3:
        return ink + picture * (paper - ink)
    dark, light = float(ink @ LUMA), float(paper @ LUMA)
    return np.float32(dark) + picture * np.float32(light - dark)


def invert(picture: FloatArray) -> FloatArray:
    """Inverts the levels: black text becomes white."""
    return 1 - picture


def shade(picture: FloatArray, left: float, right: float) -> FloatArray:
    """Uneven light: multiplies the levels by a factor that goes from left to right."""
    light = np.linspace(left, right, picture.shape[1], dtype=np.float32)
    return (picture * _like(picture, light)).clip(0, 1)


def posterize(picture: FloatArray, levels: int) -> FloatArray:
    """Reduces the picture to this number of gray levels."""
    steps = np.float32(levels - 1)
    return (np.round(picture * steps) / steps).astype(np.float32)


def strokes(
    picture: FloatArray, count: int, width: int, level: Level, generator: np.random.Generator
) -> FloatArray:
    """Draws straight lines of `width` pixels across the picture."""
    image = image_of(picture)
    pen = ImageDraw.Draw(image)
    for _ in range(count):
        x = generator.uniform((0.0, 0.5), (0.5, 1.0)) * image.width
        y = generator.uniform(0.0, 1.0, 2) * image.height
        pen.line((x[0], y[0], x[1], y[1]), fill=_colour(image, level), width=width)
    return levels_of(image)


def occlude(
    picture: FloatArray, count: int, side: int, level: Level, generator: np.random.Generator
) -> FloatArray:
    """Covers squares of `side` pixels at random places."""
    covered = picture.copy()
    height, width = picture.shape[:2]
    for _ in range(count):
        x, y = generator.integers(0, (max(1, width - side), max(1, height - side)))
        covered[y : y + side, x : x + side] = level
    return covered


def thicken(picture: FloatArray) -> FloatArray:
    """Dilates dark areas: every pixel takes the darkest level within 3×3 pixels."""
    return levels_of(image_of(picture).filter(ImageFilter.MinFilter(3)))


def thin(picture: FloatArray) -> FloatArray:
    """Erodes dark areas: every pixel takes the lightest level within 3×3 pixels."""
    return levels_of(image_of(picture).filter(ImageFilter.MaxFilter(3)))

"""Families of pictures, drawn by generators of other projects.

Each function draws one picture of a family. Its randomness comes from `random`, `numpy.random`,
`secrets` and OpenCV, which `draw.py` seeds anew for each picture, so a picture depends on its
family and its index only. Runs in the environment of `requirements.in` beside this file.
"""

import io
import random
import string
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import trdg as trdg_package
from captcha import image as captcha_image
from captcha.image import ImageCaptcha
from claptcha import Claptcha
from gvcode import VFCode
from multicolorcaptcha import CaptchaGenerator
from PIL import Image, ImageFilter
from trdg.generators import GeneratorFromStrings

from benchmarks.families.isolated import photographs

NPM = Path(__file__).parent / "npm"
ALPHANUMERIC = string.digits + string.ascii_uppercase

TRDG_FONTS = [
    str(Path(trdg_package.__file__).parent / "fonts" / "latin" / f"{name}.ttf")
    for name in (
        "Aller_Rg",
        "DroidSans-Bold",
        "Lato-Italic",
        "OpenSans-Semibold",
        "Raleway-Medium",
        "Sansation-Regular",
    )
]

Drawn = tuple[str, bytes]
"""A text, and the bytes of the PNG or JPEG that shows it."""


def text_of(symbols: str, shortest: int, longest: int) -> str:
    """Draw a text of `shortest` to `longest` of the symbols."""
    return "".join(random.choices(symbols, k=random.randint(shortest, longest)))


def png(image: Image.Image) -> bytes:
    """Give the bytes of a picture as PNG."""
    stored = io.BytesIO()
    image.save(stored, "png")
    return stored.getvalue()


@cache
def font(package: str, name: str) -> str:
    """Give the path of a font file in a package of the npm environment."""
    return str(NPM / "node_modules" / package / name)


def _slab() -> str:
    return font("@fontsource/roboto-slab", "files/roboto-slab-latin-700-normal.woff2")


def _condensed() -> str:
    return font("@fontsource/ubuntu-condensed", "files/ubuntu-condensed-latin-400-normal.woff2")


def captcha_160x60() -> Drawn:
    """PyPI `captcha` with its defaults: 160×60, four of 36 symbols."""
    text = text_of(ALPHANUMERIC, 4, 4)
    return text, png(ImageCaptcha(160, 60).generate_image(text))


def captcha_240x80() -> Drawn:
    """PyPI `captcha`, 240×80, five or six of 51 symbols, in one size.

    The generator scales all characters to one height, so nobody can tell `c` from `C`. One symbol
    of each such pair is left out.
    """
    alike = dict.fromkeys(map(ord, "0ckopsuvwxz"))
    symbols = (string.digits + string.ascii_letters).translate(alike)
    text = text_of(symbols, 5, 6)
    drawing = ImageCaptcha(240, 80, [_condensed()], font_sizes=(50,))
    return text, png(drawing.generate_image(text))


def captcha_80x30() -> Drawn:
    """PyPI `captcha`, 80×30, four digits, with fewer and smaller dots than by default."""
    text = text_of(string.digits, 4, 4)
    color = captcha_image.random_color(10, 160)
    drawing = ImageCaptcha(80, 30, [_slab()], font_sizes=(24, 26, 28))
    image = drawing.create_captcha_image(text, color, captcha_image.random_color(238, 255))
    drawing.create_noise_dots(image, color, width=1, number=12)
    drawing.create_noise_curve(image, color)
    return text, png(image.filter(ImageFilter.SMOOTH))


def multicolorcaptcha() -> Drawn:
    """320×80 (drawn twice as large), four hexadecimal digits on differing colours, 22 fonts."""
    drawn = _multicolor().gen_captcha_image(
        difficult_level=0, chars_mode="hex", multicolor=True, margin=False
    )
    return drawn.characters, png(drawn.image.resize((320, 80), Image.Resampling.LANCZOS))


@cache
def _multicolor() -> CaptchaGenerator:
    generator = CaptchaGenerator()
    # Fonts of hairlines, contours and ornaments, which are unreadable under the strokes.
    unreadable = ("WindSong", "Outline", "Shadow", "Sketch", "Rampart", "Bonbon", "Monofett",
                  "Dawning", "Kontur", "Thin", "Combo", "Handjet", "Clayborn")  # fmt: skip
    in_base = ("Aldrich", "Graduate", "KaushanScript", "LondrinaSolid")
    generator.l_fonts = sorted(
        path
        for path in generator.l_fonts
        if not any(part in path for part in (*unreadable, *in_base))
    )
    return generator


def claptcha() -> Drawn:
    """200×80 gray, six capital letters, each warped, a stroke and noise."""
    text = text_of(string.ascii_uppercase, 6, 6)
    _, image = MilderClaptcha(text, _slab(), (200, 80), (10, 10), noise=0.4).image
    return text, png(image.convert("L"))


class MilderClaptcha(Claptcha):
    """Warps half as much as the generator, whose default cuts off parts of letters."""

    @staticmethod
    def _rndPointDisposition(dx: float, dy: float) -> tuple[int, int]:  # noqa: N802
        return (int(random.uniform(-dx, dx) / 2), int(random.uniform(-dy, dy) / 2))


def gvcode() -> Drawn:
    """260×80, four to six digits that lean far to the left, strokes of their colours."""
    drawing = VFCode(width=260, fontsize=38)
    text = text_of(string.digits, 4, 6)
    drawing.generate(text)
    return text, drawing.get_img_bytes()


def django_simple_captcha() -> Drawn:
    """With defaults, for high-resolution screens: four capitals, about 140×60; sizes vary."""
    from captcha import helpers, views  # needs Django's settings, which `draw.py` makes

    text, _ = helpers.random_char_challenge()
    return text, views._captcha_image(SimpleNamespace(challenge=text), scale=2).content


def trdg() -> Drawn:
    """Lower-case words of 3 to 10 letters in one of six fonts, gray, 40 high; widths vary."""
    text = text_of(string.ascii_lowercase, 3, 10)
    made, _ = next(
        GeneratorFromStrings(
            [text],
            count=1,
            fonts=[random.choice(TRDG_FONTS)],
            size=40,
            skewing_angle=4,
            random_skew=True,
            blur=1,
            random_blur=True,
            distorsion_type=random.choice((0, 1, 2)),
            text_color="#000000,#505050",
            image_mode="L",
        )
    )
    return text, png(made)


def seven_segment() -> Drawn:
    """Photographs of displays, 240×96."""
    return photographs.seven_segment(font)


def dot_matrix() -> Drawn:
    """Photographs of codes of dots, 400×100."""
    return photographs.dot_matrix(font)

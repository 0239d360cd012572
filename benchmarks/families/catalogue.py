"""The families of the exam, and how many of their pictures are unseen."""

from dataclasses import dataclass

PICTURES = 1000
UNSEEN = 200
"""Number of pictures, the last ones of a family, that only the exam uses, never training."""


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of pictures, with the facts that the page of results shows."""

    name: str
    generator: str
    size: str
    symbols: int
    length: str
    manner: str
    fonts: str


FAMILIES = {
    family.name: family
    for family in (
        Family(
            "captcha-160x60",
            "PyPI `captcha`",
            "160×60",
            36,
            "4",
            "colour, dots, an arc",
            "Droid Sans Mono",
        ),
        Family(
            "captcha-240x80",
            "PyPI `captcha`",
            "240×80",
            51,
            "5–6",
            "colour, dots, an arc",
            "Ubuntu Condensed",
        ),
        Family(
            "captcha-80x30",
            "PyPI `captcha`",
            "80×30",
            10,
            "4",
            "colour, few dots, an arc",
            "Roboto Slab",
        ),
        Family(
            "multicolorcaptcha",
            "PyPI `multicolorcaptcha`",
            "320×80",
            16,
            "4",
            "colour on colour, strokes",
            "Digital Numbers, Elsie, Fibel Nord, FreeMono, FreeSans, FreeSerif, Pixellari, "
            "Stalinist One, Tambourine",
        ),
        Family(
            "claptcha",
            "PyPI `claptcha`",
            "200×80",
            26,
            "6",
            "gray, warped, a stroke, noise",
            "Roboto Slab",
        ),
        Family("gvcode", "PyPI `gvcode`", "260×80", 10, "4–6", "colour, turned, strokes", "Arial"),
        Family(
            "django-simple-captcha",
            "PyPI `django-simple-captcha`",
            "95–174×57–74",
            26,
            "4",
            "gray, dots, strokes",
            "Bitstream Vera Sans",
        ),
        Family(
            "trdg",
            "PyPI `trdg`",
            "25–158×40",
            26,
            "3–10",
            "gray, bent, blurred",
            "Aller, Droid Sans, Lato, Open Sans, Raleway, Sansation",
        ),
        Family(
            "svg-captcha",
            "npm `svg-captcha`",
            "150×50",
            61,
            "5",
            "colour on colour, curves",
            "Comicbook Smash",
        ),
        Family(
            "captcha-canvas",
            "npm `captcha-canvas`",
            "300×100",
            16,
            "6",
            "colour, transparent, decoys",
            "Ubuntu Condensed",
        ),
        Family("seven-segment", "own", "240×96", 12, "3–7", "photographed displays", "DSEG7"),
        Family("dot-matrix", "own", "400×100", 37, "6–10", "photographed prints, displays", "Doto"),
    )
}

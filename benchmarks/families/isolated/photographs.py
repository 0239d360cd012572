"""Readouts of displays and prints, drawn with fonts of segments and dots, as photographs.

Two families that no other project generates. A readout is drawn flat, then distorted as by a
camera: perspective, uneven light, glare, blur, noise and JPEG. Randomness comes from `random` and
`numpy.random`, which `draw.py` seeds anew for each picture.
"""

import random
import string
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
FontPath = Callable[[str, str], str]

# Colours of the background, of segments that are on, and of segments that are off but faint.
LCD: tuple[Color, Color, Color] = ((158, 172, 140), (38, 44, 40), (148, 161, 131))
RED_LED: tuple[Color, Color, Color] = ((28, 10, 12), (255, 62, 48), (52, 16, 18))
GREEN_LED: tuple[Color, Color, Color] = ((8, 20, 14), (96, 255, 140), (16, 38, 26))
CARTON: tuple[Color, Color] = ((190, 160, 122), (40, 34, 44))
FOIL: tuple[Color, Color] = ((196, 200, 206), (30, 32, 60))
AMBER_MATRIX: tuple[Color, Color] = ((18, 14, 10), (255, 176, 32))


def seven_segment(font: FontPath) -> tuple[str, bytes]:
    """Draw 240×96: three to six digits of a display, some with a decimal point or a minus."""
    digits = random.choices(string.digits, k=random.randint(3, 6))
    if random.random() < 0.6:
        digits.insert(random.randint(1, len(digits) - 1), ".")
    if len(digits) < 6 and random.random() < 0.2:
        digits.insert(0, "-")
    text = "".join(digits)

    paper, ink, off = random.choice((LCD, RED_LED, GREEN_LED))
    face = random.choice(("Classic", "Modern"))
    style = random.choice(("Regular", "Bold", "BoldItalic"))
    typeface = ImageFont.truetype(
        font("dseg", f"fonts/DSEG7-{face}/DSEG7{face}-{style}.ttf"), random.randint(92, 112)
    )
    flat = Image.new("RGB", (480, 192), paper)
    draw = ImageDraw.Draw(flat)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=typeface)
    if right - left > 440:
        typeface = typeface.font_variant(size=int(typeface.size * 440 / (right - left)))
        left, top, right, bottom = draw.textbbox((0, 0), text, font=typeface)
    # Displays always have the last digit in the same place.
    place = (455 - right - random.randint(0, 12), (192 - bottom - top) // 2)
    draw.text(place, "".join("8" if digit != "." else "." for digit in text), off, font=typeface)
    draw.text(place, text, ink, font=typeface)
    return text, _photograph(np.asarray(flat), (240, 96), glare=0.5)


def dot_matrix(font: FontPath) -> tuple[str, bytes]:
    """Draw 400×100: a code of six to ten characters made of dots, printed or on a display."""
    symbols = string.digits + string.ascii_uppercase.replace("O", "")
    text = "".join(random.choices(symbols, k=random.randint(6, 10)))
    if len(text) < 10 and random.random() < 0.5:
        middle = random.randint(2, len(text) - 2)
        text = text[:middle] + random.choice("-/") + text[middle:]

    paper, ink = random.choice((CARTON, FOIL, AMBER_MATRIX))
    weight = random.choice((600, 700, 800, 900))
    typeface = ImageFont.truetype(
        font("@fontsource/doto", f"files/doto-latin-{weight}-normal.woff"), random.randint(112, 130)
    )
    flat = Image.new("RGB", (800, 200), paper)
    draw = ImageDraw.Draw(flat)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=typeface)
    if right - left > 740:
        typeface = typeface.font_variant(size=int(typeface.size * 740 / (right - left)))
        left, top, right, bottom = draw.textbbox((0, 0), text, font=typeface)
    x = random.randint(20, max(20, 780 - int(right)))
    draw.text(
        (x - left, (200 - bottom - top) // 2 + random.randint(-14, 14)), text, ink, font=typeface
    )
    grain = np.random.normal(0, 7, (50, 200))
    grained = np.asarray(flat, np.float32) + cv2.resize(grain, (800, 200))[..., None]
    return text, _photograph(grained, (400, 100), glare=0.35)


def _photograph(flat: np.ndarray, size: tuple[int, int], glare: float) -> bytes:
    """Give a JPEG like a camera's photograph of a flat RGB picture (height, width, 3)."""
    height, width = flat.shape[:2]
    jitter = np.random.uniform(-1, 1, (4, 2)) * (0.025 * width, 0.07 * height)
    corners = np.array(((0, 0), (width, 0), (width, height), (0, height)), np.float32)
    warp = cv2.getPerspectiveTransform(corners, (corners + jitter).astype(np.float32))
    seen = cv2.warpPerspective(
        np.ascontiguousarray(flat, np.float32),
        warp,
        (width, height),
        borderMode=cv2.BORDER_REPLICATE,
    )
    seen = cv2.resize(seen, size, interpolation=cv2.INTER_AREA)

    y, x = np.mgrid[-1 : 1 : size[1] * 1j, -1 : 1 : size[0] * 1j]
    angle = random.uniform(0, 2 * np.pi)
    seen *= (1 + random.uniform(0, 0.25) * (x * np.cos(angle) + y * np.sin(angle)))[..., None]
    if random.random() < 0.5:
        spot_x, spot_y = random.uniform(-1, 1), random.uniform(-1, 1)
        spread = random.uniform(0.15, 0.5)
        spot = np.exp(-(((x - spot_x) ** 2) / spread + ((y - spot_y) ** 2) / (2 * spread)))
        strength = random.uniform(0.2, glare)
        seen += (255 - seen) * (strength * spot)[..., None]
    seen = cv2.GaussianBlur(seen, (0, 0), random.uniform(0.3, 1.1))
    seen = seen * random.uniform(0.75, 1.1) + np.random.normal(0, random.uniform(2, 8), seen.shape)
    encoded = cv2.imencode(
        ".jpg",
        cv2.cvtColor(np.clip(seen, 0, 255).astype(np.uint8), cv2.COLOR_RGB2BGR),
        (cv2.IMWRITE_JPEG_QUALITY, random.randint(40, 85)),
    )[1]
    return encoded.tobytes()

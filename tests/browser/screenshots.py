"""`python -m tests.browser.screenshots docs`: the page's pictures in the README, in light and dark.

They show pictures of `examples/`, read by the bundled model. It needs chromium on the path.
"""

import argparse
import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from tests.browser.conftest import ARGUMENTS, CHROMIUM
from tests.browser.hand import choose, example, sees
from tests.server.process import serving

SHOWN = {"light": "bndyp", "dark": "fnex2"}
WIDTH = 1080
COLOURS = 128
"""Of the palette: the pages have few colours, and so the files stay small."""


def shoot(browser: Browser, address: str, scheme: str, text: str) -> Image.Image:
    """The page with one picture read."""
    context = browser.new_context(
        viewport={"width": WIDTH, "height": 720},
        color_scheme=scheme,  # type: ignore[arg-type]
        device_scale_factor=1.5,
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(f"{address}/")
    page.get_by_role("button", name="Example 1").wait_for()
    # Twice: what is timed is not the first request.
    for _ in range(2):
        page.reload()
        choose(page, example(text))
        sees(page, text)
    shot = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    context.close()
    return shot.quantize(COLOURS, dither=Image.Dither.NONE)


def main() -> None:
    """Writes `page-light.png` and `page-dark.png`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    with serving() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        for scheme, text in SHOWN.items():
            path = folder / f"page-{scheme}.png"
            shoot(browser, address, scheme, text).save(path, optimize=True)
            print(f"{path}: {path.stat().st_size // 1000} kB")
        browser.close()


if __name__ == "__main__":
    main()

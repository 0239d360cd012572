"""`python -m tests.browser.screenshots docs`: makes the README's light and dark screenshots.

The screenshots show the page with a picture of `examples/`, read by the bundled model. The command
needs chromium on the path.
"""

import argparse
import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from tests.browser.actions import choose, example, expect_results
from tests.browser.conftest import ARGUMENTS, CHROMIUM
from tests.server.process import serving

SHOWN = {"light": "bndyp", "dark": "fnex2"}
WIDTH = 1080
COLOURS = 128
"""In the palette. The page has few colours, so a small palette keeps the files small."""


def shoot(browser: Browser, address: str, scheme: str, text: str) -> Image.Image:
    """A screenshot of the page with one result."""
    context = browser.new_context(
        viewport={"width": WIDTH, "height": 720},
        color_scheme=scheme,  # type: ignore[arg-type]
        device_scale_factor=1.5,
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(f"{address}/")
    page.get_by_role("button", name="Example 1").wait_for()
    # Twice, so that the time on the page is not that of the first request.
    for _ in range(2):
        page.reload()
        choose(page, example(text))
        expect_results(page, text)
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

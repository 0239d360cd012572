"""Fetches the fonts that the base model's pictures are drawn with.

    python -m training.base.fonts runs/base/fonts

`fonts.json` beside this module names each package of the npm registry with its version and
licence. npm installs the packages into a temporary folder. Each font is reduced to the symbols of
the base and written to the given folder as TrueType. The project ships none of these fonts.
"""

import argparse
import json
import logging
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont, TTLibError

from training.base.alphabet import ALPHABET

TABLE = Path(__file__).with_name("fonts.json")
_FILE = re.compile(r"(?P<name>.+)-latin-(?P<weight>\d{3})-(?P<slope>normal|italic)\.woff")
_REGULAR, _BOLD = 400, 700


def fetch(folder: Path) -> int:
    """Installs the packages and converts their fonts into `folder`; returns the number of fonts.

    Raises:
        subprocess.CalledProcessError: npm failed.
        FileNotFoundError: there is no npm.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # fontTools warns of oddities in nearly every font; none of them matters for drawing.
    logging.getLogger("fontTools").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as temporary:
        packages = {entry["package"]: entry["version"] for entry in json.loads(TABLE.read_text())}
        manifest = {"name": "fonts", "private": True, "dependencies": packages}
        Path(temporary, "package.json").write_text(json.dumps(manifest))
        subprocess.run(
            ["npm", "install", "--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund"],
            cwd=temporary,
            check=True,
        )
        for package in packages:
            for file in chosen_files(Path(temporary, "node_modules", package, "files")):
                convert(file, folder / f"{file.stem.replace('-latin', '')}.ttf")
    return len(list(folder.glob("*.ttf")))


def chosen_files(folder: Path) -> Iterator[Path]:
    """A package's fonts that are nearest in weight to regular, bold and regular italic."""
    found: dict[str, dict[int, Path]] = {"normal": {}, "italic": {}}
    for file in sorted(folder.glob("*.woff")):
        if match := _FILE.fullmatch(file.name):
            found[match["slope"]][int(match["weight"])] = file
    upright, italic = found["normal"], found["italic"]
    weights = {min(upright, key=lambda w: abs(w - aim)) for aim in (_REGULAR, _BOLD) if upright}
    yield from (upright[weight] for weight in sorted(weights))
    if italic:
        yield italic[min(italic, key=lambda weight: abs(weight - _REGULAR))]


def convert(source: Path, target: Path) -> bool:
    """Writes a font reduced to the symbols of the base; False if the font has few of them."""
    try:
        font = TTFont(source)
    except TTLibError:  # a few packages have a file that is no font
        return False
    if len(set(map(ord, ALPHABET)) & set(font.getBestCmap() or ())) < len(ALPHABET) // 8:
        return False
    options = subset.Options(hinting=False, layout_features=[], name_IDs=[], notdef_outline=True)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=[ord(symbol) for symbol in ALPHABET])
    subsetter.subset(font)
    font.flavor = None
    font.save(target)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.base.fonts", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the fonts go")
    folder = parser.parse_args().folder
    print(f"{fetch(folder)} fonts in {folder}")


if __name__ == "__main__":
    main()

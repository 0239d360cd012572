"""Draw the families of the exam: 1,000 labelled pictures each, the same ones every time.

Writes `FOLDER/<family>/000000.png` and so on with `labels.csv` (path,label). Complete families
are skipped.
"""

import argparse
import csv
import random
import secrets
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import django
import numpy as np
from django.conf import settings

from benchmarks.families.catalogue import FAMILIES, PICTURES
from benchmarks.families.isolated import generators

PYTHON_FAMILIES: dict[str, Callable[[], tuple[str, bytes]]] = {
    "captcha-160x60": generators.captcha_160x60,
    "captcha-240x80": generators.captcha_240x80,
    "captcha-80x30": generators.captcha_80x30,
    "multicolorcaptcha": generators.multicolorcaptcha,
    "claptcha": generators.claptcha,
    "gvcode": generators.gvcode,
    "django-simple-captcha": generators.django_simple_captcha,
    "trdg": generators.trdg,
    "seven-segment": generators.seven_segment,
    "dot-matrix": generators.dot_matrix,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--families", default=",".join(FAMILIES), help="default: all")
    parser.add_argument("--count", type=int, default=PICTURES)
    arguments = parser.parse_args()

    settings.configure(INSTALLED_APPS=["captcha"])
    django.setup()
    for family in arguments.families.split(","):
        folder = arguments.folder / family
        if (folder / "labels.csv").exists():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if family not in PYTHON_FAMILIES:
            script = [str(generators.NPM / "draw.mjs"), family, str(folder), str(arguments.count)]
            subprocess.run(["node", *script], check=True)
        else:
            _draw(family, folder, arguments.count)
        print(f"{family}: {arguments.count} pictures")


def _draw(family: str, folder: Path, count: int) -> None:
    rows = []
    for index in range(count):
        _seed(f"{family}/{index}")
        text, picture = PYTHON_FAMILIES[family]()
        suffix = "jpg" if picture.startswith(b"\xff\xd8") else "png"
        name = f"{index:06}.{suffix}"
        (folder / name).write_bytes(picture)
        rows.append((name, text))
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("path", "label"))
        writer.writerows(rows)


def _seed(text: str) -> None:
    """Seed all sources of randomness; `random` replaces `secrets`, which PyPI `captcha` uses."""
    random.seed(text)
    np.random.seed(random.getrandbits(32))
    cv2.setRNGSeed(random.getrandbits(31))
    secrets.randbelow = random.randrange
    secrets.randbits = random.getrandbits
    secrets.choice = random.choice


if __name__ == "__main__":
    main()

"""Which pictures a command line names."""

import sys
from collections.abc import Iterator
from pathlib import Path

STDIN = "-"
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"})
"""What a picture's name ends with, in a folder; a file that is named itself may end otherwise."""


class NoPicturesError(Exception):
    """A folder has no pictures in it."""


def named_pictures(arguments: list[str]) -> list[str]:
    """The files that the arguments stand for: themselves, and for folders what is below them.

    In the order of the arguments; those of a folder and its subfolders by name. What does not
    exist is left in, to be found missing when it is read.

    Raises:
        NoPicturesError: names the folder.
    """
    pictures = []
    for argument in arguments:
        found = list(_below(Path(argument))) if Path(argument).is_dir() else [argument]
        if not found:
            endings = ", ".join(sorted(SUFFIXES))
            raise NoPicturesError(f"{argument} has no pictures in it; they end with {endings}.")
        pictures += found
    return pictures


def read_bytes(picture: str) -> bytes:
    """The bytes of a file, or of the standard input.

    Raises:
        OSError: it cannot be read.
    """
    return sys.stdin.buffer.read() if picture == STDIN else Path(picture).read_bytes()


def _below(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            yield str(path)

"""Which pictures a command line names."""

import errno
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

STDIN = "-"

_MOST_BYTES = 64 << 20
"""A file is read as a whole, and one of many gigabytes may have the name of a picture."""


class Named(NamedTuple):
    """The pictures that arguments stand for, and the files of folders that are no pictures."""

    pictures: list[str]
    skipped: list[str]


class NoPicturesError(Exception):
    """A folder has no pictures in it, or cannot be read."""


def named_pictures(arguments: list[str]) -> Named:
    """Gives the files that arguments stand for: themselves, and for a folder those below it.

    In a folder, pictures are known by their suffix, hidden files and folders are left out without
    a word, and the order is that of the paths. An argument that does not exist is kept, and found
    missing when it is read.

    Raises:
        NoPicturesError: names a folder without pictures, or one that cannot be read.
    """
    from service.ocr.formats import SUFFIXES

    named = Named([], [])
    for argument in arguments:
        folder = Path(argument)
        if not folder.is_dir():
            named.pictures.append(argument)
            continue
        found = _files(folder)
        pictures = [str(path) for path in found if path.suffix.lower() in SUFFIXES]
        if not pictures:
            endings = ", ".join(sorted(SUFFIXES))
            raise NoPicturesError(f"{argument} has no pictures in it; they end with {endings}.")
        named.pictures.extend(pictures)
        named.skipped.extend(str(path) for path in found if path.suffix.lower() not in SUFFIXES)
    return named


def read_bytes(picture: str) -> bytes:
    """The bytes of a file, or of the standard input.

    Raises:
        OSError: it cannot be read, or is larger than any picture.
    """
    with nullcontext(sys.stdin.buffer) if picture == STDIN else Path(picture).open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), picture)
    return content


def _files(folder: Path) -> list[Path]:
    """The files below a folder that are not hidden, in the order of their paths, and its links.

    Links to folders are not followed, and may lead nowhere: who names them says so.

    Raises:
        NoPicturesError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise NoPicturesError(f"the folder {error.filename} cannot be read: {error.strerror}.")

    found: list[Path] = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        named = [Path(place, name) for name in (*folders, *files) if not name.startswith(".")]
        found += [path for path in named if path.is_file() or _is_odd_link(path)]
    return sorted(found)


def _is_odd_link(path: Path) -> bool:
    return path.is_symlink() and (path.is_dir() or not path.exists())

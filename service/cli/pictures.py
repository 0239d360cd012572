"""Which pictures a command line names."""

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO, NamedTuple

STDIN = "-"
NO_PICTURE = "not a picture by its name"

_MOST_BYTES = 64 << 20
"""A file is read as a whole, and one of many gigabytes may have the name of a picture."""


class Named(NamedTuple):
    """The pictures that arguments stand for, and what is left out of folders, and why."""

    pictures: list[str]
    skipped: dict[str, str]


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

    named = Named([], {})
    for argument in arguments:
        folder = Path(argument)
        if not folder.is_dir():
            named.pictures.append(argument)
            continue
        reasons = {str(path): _why_skipped(path) for path in sorted(_files(folder))}
        pictures = [file for file, reason in reasons.items() if not reason]
        if not pictures:
            endings = ", ".join(sorted(SUFFIXES))
            raise NoPicturesError(f"{argument} has no pictures in it; they end with {endings}.")
        named.pictures.extend(pictures)
        named.skipped.update({file: reason for file, reason in reasons.items() if reason})
    return named


def read_bytes(picture: str, wait: bool = False) -> bytes:
    """The bytes of a file, or of the standard input.

    Args:
        wait: whether it may be a pipe or a device, too, and is waited for.

    Raises:
        OSError: it cannot be read, or is larger than any picture.
    """
    with nullcontext(sys.stdin.buffer) if picture == STDIN else _opened(picture, wait) as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), picture)
    return content


def _opened(picture: str, wait: bool) -> BinaryIO:
    flags = 0 if wait else os.O_NONBLOCK
    file = open(picture, "rb", opener=lambda name, mode: os.open(name, mode | flags))  # noqa: SIM115
    if wait or stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "Not a regular file", picture)


def _files(folder: Path) -> Iterator[Path]:
    """What is below a folder, except folders and what is hidden.

    Links to folders are not followed, and may lead nowhere: who names them says so.

    Raises:
        NoPicturesError: a folder cannot be read.
    """
    folders = [str(folder)]  # os.walk of Python 3.11 calls itself
    while folders:
        place = folders.pop()
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        yield Path(entry.path)
        except OSError as error:
            raise NoPicturesError(
                f"the folder {place} cannot be read: {error.strerror}."
            ) from error


def _why_skipped(path: Path) -> str:
    """Why a file of a folder is not read; empty if it is."""
    from service.ocr.formats import SUFFIXES

    if os.path.isdir(path):  # noqa: PTH112 - of a name that is too long, Path raises an error
        return "a link to a folder"
    if path.suffix.lower() not in SUFFIXES:
        return NO_PICTURE
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113
        return "not a regular file"
    return ""

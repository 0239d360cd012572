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

_MAX_BYTES = 64 << 20
"""Files are read as a whole, and a file of many gigabytes may have the name of a picture."""


class Named(NamedTuple):
    """The pictures that arguments stand for, and the skipped files of folders with the reasons."""

    pictures: list[str]
    skipped: dict[str, str]


class NoPicturesError(Exception):
    """A folder has no pictures in it, or cannot be read."""


def named_pictures(arguments: list[str]) -> Named:
    """The files that arguments stand for: a file for itself, a folder for the pictures below it.

    In a folder, pictures are recognized by their suffix and sorted by path; hidden files and
    folders are left out without a message. An argument that does not exist is kept, and found
    missing when it is read.

    Raises:
        NoPicturesError: a folder, which the text names, has no pictures or cannot be read.
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
        wait: whether the picture may also be a pipe or a device, whose data are waited for.

    Raises:
        OSError: the file cannot be read, or is larger than any picture.
    """
    with nullcontext(sys.stdin.buffer) if picture == STDIN else _opened(picture, wait) as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
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
    """The files below a folder, except hidden ones.

    Links to folders are yielded but not followed. Links may be broken; reading them fails later.

    Raises:
        NoPicturesError: a folder cannot be read.
    """
    folders = [str(folder)]  # os.walk of Python 3.11 is recursive
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

    if os.path.isdir(path):  # noqa: PTH112 - Path raises an error if the name is too long
        return "a link to a folder"
    if path.suffix.lower() not in SUFFIXES:
        return NO_PICTURE
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113
        return "not a regular file"
    return ""

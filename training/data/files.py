"""Reads the files of a folder or a zip by their paths, and reports files that are hidden."""

import os
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from typing_extensions import override

from training.exceptions import DataError

_SYSTEM_FILES = ("thumbs.db", "desktop.ini", "__macosx")
_HEAD_BYTES = 64
_MOST_DOUBTS = 5

_MOST_PICTURE_BYTES = 64 << 20
"""Limit in bytes, since files are read as a whole, and a zip of 2 MB can have a file of 2 GB."""

_UNICODE_NAMES = 0x800
_UNICODE_PATH_FIELD = 0x7075


class Files(Protocol):
    """Files by their paths, with `/` between folders."""

    def names(self) -> list[str]:
        """The paths of all files, sorted."""
        ...

    def has(self, name: str) -> bool:
        """Whether a file of this path exists."""
        ...

    def read(self, name: str, most: int = _MOST_PICTURE_BYTES) -> bytes:
        """The bytes of a file; raises OSError if it cannot be read, or has more than `most`."""
        ...

    def head(self, name: str) -> bytes:
        """The first bytes of a file, enough to detect a picture; empty if it cannot be read."""
        ...


def is_hidden(name: str) -> bool:
    """Whether a path names a hidden or system file, or a file in such a folder."""
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") or part.lower() in _SYSTEM_FILES for part in parts)


def opened_zip(path: Path) -> zipfile.ZipFile:
    """Opens a zip.

    Raises:
        DataError: the zip is damaged.
    """
    try:
        return zipfile.ZipFile(path)
    except Exception as error:
        # `zipfile` raises many types of exception for a damaged file.
        raise DataError(f"{path} is a damaged zip: {error}.") from error


def _refuse_folder(error: OSError) -> None:
    raise DataError(f"the folder {error.filename} cannot be read: {error.strerror}.")


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise OSError(f"it has {size:,} bytes, and at most {most:,} are read")


class Folder(Files):
    """The files under a folder; `doubts` name the folders that are not read."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.doubts: list[str] = []

    @override
    def names(self) -> list[str]:
        links: list[str] = []
        names: list[str] = []
        for place, folders, files in os.walk(self._root, onerror=_refuse_folder):
            folder = Path(place).relative_to(self._root)
            names += [(folder / name).as_posix() for name in files]
            links += [
                (folder / name).as_posix()
                for name in folders
                # `Path.is_symlink` raises if a path is too long.
                if os.path.islink(f"{place}/{name}")  # noqa: PTH114
            ]
        self.doubts = [
            f"{name} is a link to a folder, whose pictures are not read; put the folder there"
            for name in sorted(links)
            if not is_hidden(name)
        ]
        names.sort()
        for name in names:
            if not name.isprintable() and any("\ud800" <= symbol <= "\udfff" for symbol in name):
                raise DataError(
                    f"the file name {name!a} in {self._root} is not in UTF-8; rename the files, "
                    "for instance with convmv."
                )
        return names

    @override
    def has(self, name: str) -> bool:
        try:
            return (self._root / name).is_file()
        except OSError:  # the name is too long
            return False

    @override
    def read(self, name: str, most: int = _MOST_PICTURE_BYTES) -> bytes:
        path = self._root / name
        if not path.is_file():
            raise OSError("it is a link to nothing, or no regular file")
        _check_size(path.stat().st_size, most)
        return path.read_bytes()

    @override
    def head(self, name: str) -> bytes:
        path = self._root / name
        try:
            if path.is_file():
                with path.open("rb") as file:
                    return file.read(_HEAD_BYTES)
        except OSError:
            pass
        return b""


class Archive(Files):
    """The files of a zip.

    `notes` say how the names were decoded. `doubts` name paths that several files have.
    """

    def __init__(self, archive: zipfile.ZipFile, name: str, encoding: str | None) -> None:
        self._archive = archive
        self.notes: list[str] = []
        members = [info for info in archive.infolist() if not info.is_dir()]
        unclear = [info for info in members if _raw_name(info) is not None]
        if unclear and encoding is None:
            encoding = _encoding_of([_raw_name(info) or b"" for info in unclear], name)
        if unclear:
            self.notes.append(
                f"{name} does not say how its names are encoded; they are read as {encoding}"
            )
        try:
            names = [_member_name(info, encoding or "utf-8") for info in members]
        except (UnicodeDecodeError, LookupError) as error:
            raise DataError(
                f"the names in {name} cannot be read with --zip-encoding {encoding}: {error}."
            ) from error
        self._members = dict(zip(names, members, strict=True))
        hidden = {
            one
            for one, info in zip(names, members, strict=True)
            if info.CRC != self._members[one].CRC and not is_hidden(one)
        }
        self.doubts = [
            f"{name} has several different files called {one}, of which only the last is read"
            for one in sorted(hidden)[:_MOST_DOUBTS]
        ]

    @override
    def names(self) -> list[str]:
        return sorted(self._members)

    @override
    def has(self, name: str) -> bool:
        return name in self._members

    @override
    def read(self, name: str, most: int = _MOST_PICTURE_BYTES) -> bytes:
        member = self._members[name]
        _check_size(member.file_size, most)  # `zipfile` reads no more than this size
        try:
            return self._archive.read(member)
        except Exception as error:  # as in `opened_zip`
            raise OSError(str(error)) from error

    @override
    def head(self, name: str) -> bytes:
        try:
            with self._archive.open(self._members[name]) as file:
                return file.read(_HEAD_BYTES)
        except Exception:  # as in `opened_zip`
            return b""


def _raw_name(info: zipfile.ZipInfo) -> bytes | None:
    """The bytes of a name, or None if the zip says how names are encoded."""
    stated = info.flag_bits & _UNICODE_NAMES or info.orig_filename.isascii()
    if stated or _unicode_path(info) is not None:
        return None
    return info.filename.encode("cp437")  # as zipfile has decoded it


def _member_name(info: zipfile.ZipInfo, encoding: str) -> str:
    raw = _raw_name(info)
    name = (_unicode_path(info) or info.filename) if raw is None else raw.decode(encoding)
    return name.replace("\\", "/")  # some Windows programs separate folders this way


def _unicode_path(info: zipfile.ZipInfo) -> str | None:
    """The name in a member's extra field (PKWARE's APPNOTE, section 4.6.9), or None."""
    extra = info.extra
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        if kind == _UNICODE_PATH_FIELD and size > 5:
            return extra[9 : 4 + size].decode("utf-8", "replace")
        extra = extra[4 + size :]
    return None


def _encoding_of(names: Sequence[bytes], archive: str) -> str:
    """The encoding of all names, if it can be detected: UTF-8.

    Raises:
        DataError: it is another encoding; shows the first name in several encodings.
    """
    readings = []
    for encoding in ("utf-8", "gbk", "shift_jis", "cp437", "cp1252", "cp866"):
        try:
            decoded = [name.decode(encoding) for name in names]
        except UnicodeDecodeError:
            continue
        if encoding == "utf-8":
            return encoding
        readings.append(f"{decoded[0]!r} in {encoding}")
    raise DataError(
        f"{archive} does not say how its names are encoded. The first name that is not in ASCII "
        f"reads {', '.join(readings)}. Say which is right, such as --zip-encoding gbk, or pass "
        "the folder instead of the zip."
    )

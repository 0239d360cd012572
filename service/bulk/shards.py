"""Finds pictures in folders, tars and Parquet files, on disks and in object stores, as shards.

A shard is what one worker reads at a time: a tar, a Parquet file, or some of a folder's pictures.
"""

import errno
import hashlib
import io
import itertools
import json
import os
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pyarrow as pa
from pyarrow import fs as filesystems
from pyarrow import parquet

from service.bulk.rows import Picture
from service.ocr.formats import SUFFIXES

TAR = ".tar"
PARQUET = ".parquet"

_REQUESTS = 16
"""Pictures that a worker requests from an object store at the same time."""

_BUFFER = 1 << 20
_MAX_BYTES = 64 << 20
"""Largest size of a picture, in bytes."""

_ROW_GROUP = 1000
_UNFINISHED = ".unfinished"
_OBJECT_STORES = ("s3", "gcs", "abfs")


class InputError(Exception):
    """There is nothing to read, or it does not have the needed form; the text says which."""


@dataclass(frozen=True)
class Shard:
    """A group of pictures that one worker reads at a time.

    Attributes:
        name: shown to people; unique among the shards of an input.
        folder: the paths of loose pictures are given relative to it.
        files: a tar, a Parquet file, or loose pictures; paths in the input's file system.
        identity: a digest of the paths, sizes and modification times.
        size: total size in bytes.
    """

    name: str
    folder: str
    files: tuple[str, ...]
    identity: str
    size: int


def locate(address: str) -> tuple[Any, str]:
    """The file system of an address, such as `s3://bucket/folder` or a path, and the path in it.

    Raises:
        InputError: there is no such file system.
    """
    if "://" not in address:
        return filesystems.LocalFileSystem(), str(Path(address).absolute())
    try:
        found, path = filesystems.FileSystem.from_uri(address)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"{address} is not an address that can be read: {error}") from error
    return found, path.rstrip("/")


def is_below(address: str, folder: str) -> bool:
    """Whether an address is that of a folder, or of something in the folder.

    Raises:
        InputError: there is no such file system.
    """
    (one, path), (other, parent) = locate(address), locate(folder)
    return one.type_name == other.type_name and f"{path}/".startswith(f"{parent}/")


def find_shards(address: str, pictures_each: int) -> list[Shard]:
    """The shards of a tar, a Parquet file, or a folder with such files or with loose pictures.

    In a folder and its subfolders, files are recognized by their suffix and sorted by path; hidden
    files are left out.

    Args:
        pictures_each: loose pictures per shard.

    Raises:
        InputError: there is nothing to read, or loose pictures are mixed with shards.
        OSError: the file system does not answer.
    """
    filesystem, path = locate(address)
    info = filesystem.get_file_info(path)
    if info.type == filesystems.FileType.File:
        if not path.endswith((TAR, PARQUET)):
            raise InputError(f"{address} is neither a folder nor a {TAR} or {PARQUET} file.")
        return [_shard([info], str(PurePosixPath(path).parent))]
    if info.type != filesystems.FileType.Directory:
        raise InputError(f"{address} does not exist.")
    files = _files(filesystem, path)
    packed = [file for file in files if file.path.endswith((TAR, PARQUET))]
    loose = [file for file in files if PurePosixPath(file.path).suffix.lower() in SUFFIXES]
    if packed and loose:
        raise InputError(
            f"{address} has both loose pictures and {TAR} or {PARQUET} files, like "
            f"{loose[0].base_name} and {packed[0].base_name}; put them in folders of their own."
        )
    if not packed and not loose:
        endings = ", ".join(sorted(SUFFIXES))
        raise InputError(
            f"{address} has no pictures in it, which end with {endings}, and no {TAR} or {PARQUET} "
            "files."
        )
    groups = [[file] for file in packed] or list(_groups(loose, pictures_each))
    return [_shard(group, path) for group in groups]


def read_pictures(address: str, shard: Shard) -> Iterator[Picture]:
    """Yields the pictures of a shard, in order, with paths relative to the input or in the shard.

    Raises:
        InputError: a Parquet file lacks the column `path` or `bytes`, or a tar is damaged.
        OSError, tarfile.TarError, pyarrow.ArrowException: the shard cannot be read.
    """
    filesystem, _ = locate(address)
    (first, *_) = shard.files
    if first.endswith(TAR):
        return _tar_pictures(filesystem, first, shard.size)
    if first.endswith(PARQUET):
        return _parquet_pictures(filesystem, first)
    return _loose_pictures(filesystem, shard)


def pack(
    address: str,
    target: str,
    pictures_each: int,
    form: Literal["tar", "parquet"],
    advance: Callable[[int], None],
) -> int:
    """Writes the loose pictures of a folder as shards, with paths relative to the folder.

    Args:
        advance: called after each shard with its number of pictures.

    Returns:
        The number of shards.

    Raises:
        InputError: there are no loose pictures, or the target is not empty.
        OSError: a picture cannot be read, or a shard cannot be written.
    """
    shards = find_shards(address, pictures_each)
    if shards[0].files[0].endswith((TAR, PARQUET)):
        raise InputError(f"{address} has shards already.")
    filesystem, folder = locate(target)
    filesystem.create_dir(folder)
    if _files(filesystem, folder):
        raise InputError(f"{target} is not empty; name a new folder.")
    write = _tar if form == "tar" else _parquet
    for number, shard in enumerate(shards):
        content = write(_all_or_error(read_pictures(address, shard)))
        replace(filesystem, f"{folder}/shard-{number:06}.{form}", content)
        advance(len(shard.files))
    return len(shards)


def replace(filesystem: Any, path: str, content: bytes | memoryview | pa.Buffer) -> None:
    """Writes a file atomically.

    In an object store, a file appears when it is complete; elsewhere, a complete file is renamed.
    """
    if filesystem.type_name in _OBJECT_STORES:
        with filesystem.open_output_stream(path) as stream:
            stream.write(content)
        return
    parent, _, name = path.rpartition("/")
    # A name for this writer alone, and hidden from readers of tables.
    unfinished = f"{parent}/.{name}.{os.urandom(6).hex()}{_UNFINISHED}"
    with filesystem.open_output_stream(unfinished) as stream:
        stream.write(content)
    filesystem.move(unfinished, path)


def remove_unfinished(filesystem: Any, folder: str) -> None:
    """Removes the unfinished files of writers that were killed."""
    for info in filesystem.get_file_info(filesystems.FileSelector(folder)):
        if info.base_name.startswith(".") and info.base_name.endswith(_UNFINISHED):
            filesystem.delete_file(info.path)


def _files(filesystem: Any, folder: str) -> list[Any]:
    """The files below a folder that are not hidden, sorted by path."""
    found = filesystem.get_file_info(filesystems.FileSelector(folder, recursive=True))
    return sorted(
        (
            info
            for info in found
            if info.type == filesystems.FileType.File
            and not any(part.startswith(".") for part in _below(folder, info.path).split("/"))
        ),
        key=lambda info: info.path,
    )


def _below(folder: str, path: str) -> str:
    return path.removeprefix(folder).lstrip("/")


def _groups(files: list[Any], size: int) -> Iterator[list[Any]]:
    remaining = iter(files)
    while group := list(itertools.islice(remaining, size)):
        yield group


def _shard(files: list[Any], folder: str) -> Shard:
    facts = [(file.path, file.size, file.mtime_ns) for file in files]
    first, last = (_below(folder, file.path) for file in (files[0], files[-1]))
    return Shard(
        name=first if len(files) == 1 else f"{first} … {last}",
        folder=folder,
        files=tuple(file.path for file in files),
        identity=hashlib.sha256(json.dumps(facts).encode()).hexdigest(),
        size=sum(file.size for file in files),
    )


def _loose_pictures(filesystem: Any, shard: Shard) -> Iterator[Picture]:
    local = filesystem.type_name == "local"

    def read(path: str) -> bytes | OSError:
        try:
            with Path(path).open("rb") if local else filesystem.open_input_file(path) as file:
                return _content(file)
        except OSError as error:
            return error.with_traceback(None)

    if local:
        for path in shard.files:
            yield _below(shard.folder, path), read(path)
        return
    waiting: deque[tuple[str, Future[bytes | OSError]]] = deque()
    with ThreadPoolExecutor(_REQUESTS) as pool:
        for path in shard.files:
            waiting.append((path, pool.submit(read, path)))
            if len(waiting) > _REQUESTS:
                path, content = waiting.popleft()
                yield _below(shard.folder, path), content.result()
        for path, content in waiting:
            yield _below(shard.folder, path), content.result()


def _content(file: Any) -> bytes | OSError:
    """The content of a file, or an error if it is too large; a tiny tar can hold a huge file."""
    content: bytes = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        return OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return content


def _tar_pictures(filesystem: Any, path: str, size: int) -> Iterator[Picture]:
    with (
        filesystem.open_input_stream(path) as stream,
        tarfile.open(fileobj=stream, mode="r|", bufsize=_BUFFER) as tar,
    ):
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # otherwise all members stay in memory
            if member.isfile() and PurePosixPath(member.name).suffix.lower() in SUFFIXES:
                content = tar.extractfile(member)
                assert content is not None  # it is a file
                yield member.name, _content(content)
        # tarfile takes a damaged header of a member, or a cut between two members, for the end.
        # Only zeros follow the real end. `fileobj` is the stream after what tarfile has read.
        file: Any = tar.fileobj
        rest = iter(partial(file.read, _BUFFER), b"")
        if tar.offset + tarfile.BLOCKSIZE > size or any(map(any, rest)):
            raise InputError("the archive is cut short, or damaged.")


def _parquet_pictures(filesystem: Any, path: str) -> Iterator[Picture]:
    with filesystem.open_input_file(path) as file:
        table = parquet.ParquetFile(file)
        names = set(table.schema_arrow.names)
        if not {"path", "bytes"} <= names:
            raise InputError(
                f"it has the columns {', '.join(sorted(names))}; `path` and `bytes` are needed."
            )
        # One row at a time: a few kilobytes can encode a hundred rows of the same huge value.
        for batch in table.iter_batches(batch_size=1, columns=["path", "bytes"]):
            columns = (batch.column(name).to_pylist() for name in ("path", "bytes"))
            for name, content in zip(*columns, strict=True):
                yield name, OSError("there are no bytes") if content is None else content


def _all_or_error(pictures: Iterable[Picture]) -> Iterator[tuple[str, bytes]]:
    for path, content in pictures:
        if isinstance(content, OSError):
            raise content
        yield path, content


def _tar(pictures: Iterable[tuple[str, bytes]]) -> memoryview:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, content in pictures:
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getbuffer()


def _parquet(pictures: Iterable[tuple[str, bytes]]) -> pa.Buffer:
    schema = pa.schema([("path", pa.string()), ("bytes", pa.binary())])
    sink = pa.BufferOutputStream()
    remaining = iter(pictures)
    # Pictures are already compressed. Row groups are small, because readers hold one in memory.
    with parquet.ParquetWriter(sink, schema, compression="none", use_dictionary=False) as writer:
        while group := list(itertools.islice(remaining, _ROW_GROUP)):
            names, contents = zip(*group, strict=True)
            writer.write_batch(pa.record_batch([names, contents], schema=schema))
    return sink.getvalue()

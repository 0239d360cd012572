"""Finds labelled pictures in a folder or a zip, named by label or listed in a table.

Finds pictures, labels and bytes; it does not decode pictures. The result also says what was left
out, how labels were found, and why they may be wrong.
"""

import posixpath
import re
import unicodedata
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from service.ocr.formats import sniff
from training.data.filenames import SUFFIXES, labels_of
from training.data.files import Archive, Files, Folder, is_hidden, opened_zip
from training.data.label_tables import TABLE_SUFFIXES, Table, decoded, read_table
from training.exceptions import DataError

_TABLE_NAME = re.compile(
    r"(metadata|labels?|annotations?|ground_?truth|gt|rec_gt.*|.*_gt)\.\w+", re.IGNORECASE
)
_OTHER_PICTURES = (
    ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".svg", ".ico", ".tga", ".ppm", ".pgm",
    ".pbm", ".pnm", ".pcx", ".psd", ".pdf", ".eps", ".raw", ".dng", ".npy",
)  # fmt: skip
_OTHER_TABLES = (
    ".xlsx", ".xls", ".ods", ".numbers", ".parquet", ".arrow", ".feather", ".npz", ".mat", ".pkl",
    ".pickle", ".h5", ".hdf5", ".db", ".sqlite", ".sqlite3", ".xml",
)  # fmt: skip
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_BOX_LINE = re.compile(r"\d+( -?\d*\.?\d+){4,}")
_FEWEST_NUMBERED = 5
_MOST_DOUBTS = 5
_BESIDE_SHARE = 0.2
"""If more than this share of pictures have a file of the same name, it may hold the label."""

_MOST_TABLE_BYTES = 1 << 30

_LONGEST_NAME = 255
"""Longest file name, in characters, as in file systems. A name in a zip may have 65,535, and the
time to look for a label in a name rises with the square of its length."""

_LONGEST_PATH = 4096
"""Longest path in a table, in characters; every end of a path is looked for."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A labelled picture that is not read yet; `read` may raise OSError or ValueError."""

    name: str
    label: str
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or row that gives no entry: its kind, its name, and how many pictures are lost."""

    kind: str
    name: str
    lost: int = 0


@dataclass(slots=True)
class Source:
    """Labelled pictures in the order of their names or of their table.

    `notes` say how the labels were found. `doubts` say why the labels may be wrong.
    """

    entries: list[Entry] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


@contextmanager
def open_source(
    path: Path, label_from: str | None = None, zip_encoding: str | None = None
) -> Iterator[Source]:
    """The labelled pictures of a folder, a zip of one, or a table of paths and labels.

    In a folder or zip, labels come from the first of these: tables (CSV, TSV, JSON lines, JSON; see
    `training.data.label_tables`), text files beside the pictures (`0001.png` and `0001.txt`), the
    file names (see `training.data.filenames`).

    Args:
        label_from: `table`, `text`, or a way to find a label in a file name, as for `labels_of`.
            None decides by the files.
        zip_encoding: encoding of the names in a zip that does not state it.

    Raises:
        DataError: `path` is none of these, or a part of it cannot be understood.
    """
    if path.is_dir():
        folder = Folder(path)
        source = _labelled(folder, label_from)
        source.doubts += folder.doubts
        yield source
    elif path.is_file() and zipfile.is_zipfile(path):
        with opened_zip(path) as archive:
            files = Archive(archive, path.name, zip_encoding)
            source = _labelled(files, label_from)
            source.notes += files.notes
            source.doubts += files.doubts
            yield source
    elif path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
        table = read_table(path.name, path.read_bytes(), required=True)
        source = Source()
        if table is not None:
            _take_tables(source, Folder(path.parent), [("", table)], [])
        yield source
    else:
        found = "is none of these" if path.exists() else "does not exist"
        if path.is_file() and path.suffix.lower() in _ARCHIVES:
            found = "is an archive that is not read; unpack it"
        raise DataError(
            f"{path} {found}; DATA= takes a folder of pictures, a zip of one, or a table of paths "
            f"and labels ({', '.join(TABLE_SUFFIXES)})."
        )


def _labelled(files: Files, label_from: str | None) -> Source:
    """The labelled pictures among files."""
    source = Source()
    pictures, others = [], []
    for name in files.names():
        suffix = PurePosixPath(name).suffix.lower()
        if is_hidden(name):
            source.left_out.append(LeftOut("hidden or system file", name))
        elif len(posixpath.basename(name)) > _LONGEST_NAME:
            source.left_out.append(LeftOut("name that is too long", name[:_LONGEST_NAME], lost=1))
        elif suffix in SUFFIXES:
            pictures.append(name)
        elif suffix in _OTHER_PICTURES:
            kind = f"picture in a format that is not read ({suffix})"
            source.left_out.append(LeftOut(kind, name, lost=1))
        else:
            others.append(name)
    texts = _texts_beside(pictures, others)
    tables = []
    if label_from in (None, "table"):
        beside = set(texts.values())
        tables = _tables(files, [name for name in others if name not in beside])
    if tables:
        _take_tables(source, files, tables, pictures)
        used = {table.name for _, table in tables}
    elif label_from == "text" or (label_from is None and 2 * len(texts) > len(pictures)):
        _take_texts(source, files, pictures, texts)
        used = set(texts.values())
    elif label_from == "table":
        raise DataError("there is no table of labels for --label-from table.")
    else:
        _take_names(source, files, pictures, label_from)
        used = set()
        if label_from is None:
            source.doubts += _unread_beside(pictures, others) + _unread_tables(files.names())
    used.update(entry.name for entry in source.entries)
    source.left_out += [_other(files, name) for name in others if name not in used]
    return source


def _other(files: Files, name: str) -> LeftOut:
    """Describes a file without the suffix of a picture and without labels."""
    if sniff(files.head(name)) is not None:
        return LeftOut("picture whose name does not end like one", name, lost=1)
    if PurePosixPath(name).suffix.lower() in _ARCHIVES:
        return LeftOut("archive that is not unpacked", name)
    return LeftOut("file that is no picture", name)


def _tables(files: Files, names: Iterable[str]) -> list[tuple[str, Table]]:
    """The tables of labels among files, each with its folder."""
    tables = []
    for name in names:
        path = PurePosixPath(name)
        if path.suffix.lower() not in TABLE_SUFFIXES:
            continue
        named = _TABLE_NAME.fullmatch(path.name) is not None
        try:
            table = read_table(name, files.read(name, _MOST_TABLE_BYTES), required=named)
        except OSError as error:
            raise DataError(f"{name} cannot be read: {error}.") from error
        except DataError as error:
            raise DataError(
                f"{error} If it is no table of labels, pass --label-from stem (or another way)."
            ) from error
        if table is not None:
            tables.append((posixpath.dirname(name), table))
    return tables


def _take_tables(
    source: Source,
    files: Files,
    tables: Sequence[tuple[str, Table]],
    pictures: Sequence[str],
) -> None:
    """Takes the rows of tables; reports the `pictures` that no table names."""
    found: dict[tuple[str, str], Entry] = {}
    shortened = []
    unlabelled = set()
    by_name: dict[str, list[str]] = defaultdict(list)
    for picture in pictures:
        by_name[posixpath.basename(_end_key(picture))].append(picture)
    for folder, table in tables:
        source.notes += [f"labels from {table.form}", *table.notes]
        source.doubts += table.doubts
        source.doubts += _why_no_labels(table)
        for row in table.rows:
            found_there = _find(files, folder, row.path)
            name = found_there or _find_below(by_name, row.path)
            if name is None:
                source.left_out.append(
                    LeftOut("missing picture", f"{row.path} ({row.place})", lost=1)
                )
            elif not row.label:
                unlabelled.add(name)
                source.left_out.append(LeftOut("empty label", f"{name} ({row.place})", lost=1))
            else:
                found[name, row.label] = Entry(name, row.label, partial(files.read, name))
                flat = posixpath.basename(name) == name != row.path.removeprefix("./")
                if flat or found_there is None:
                    shortened.append(row)
    if shortened:
        source.notes.append(
            f"paths that were found by their end: {len(shortened)}, such as {shortened[0].path} "
            f"({shortened[0].place})"
        )
    source.entries += found.values()
    named = {name for name, _ in found}
    without = [name for name in pictures if name not in named]
    source.left_out += [
        LeftOut("picture that no table names", name, lost=int(len(without) > len(named)))
        for name in without
        if name not in unlabelled
    ]


def _find_below(by_name: Mapping[str, Sequence[str]], path: str) -> str | None:
    """The only picture whose path ends with a path in a table; None if there are more or none.

    A table may lie further up than its pictures. Case is ignored, as on Windows and macOS.

    Args:
        by_name: the pictures by their file names, as `_end_key` gives them.
    """
    end = _end_key(path)
    if not end:
        return None
    named = by_name.get(posixpath.basename(end), ())
    matching = [name for name in named if f"/{_end_key(name)}".endswith(f"/{end}")]
    return matching[0] if len(matching) == 1 else None


def _end_key(path: str) -> str:
    # Tables lose the spaces around a cell, but names may begin or end with a space.
    parts = [part.strip() for part in path.replace("\\", "/").split("/")]
    named = "/".join(part for part in parts if part not in ("", "."))
    return unicodedata.normalize("NFC", named).casefold()


def _why_no_labels(table: Table) -> list[str]:
    """A doubt if the labels of a table only number its rows."""
    labels = [row.label for row in table.rows]
    if len(labels) < _FEWEST_NUMBERED or not all(map(str.isdecimal, labels)):
        return []
    if any(int(label) != number for number, label in enumerate(labels, start=int(labels[0]))):
        return []
    return [f"the labels in {table.name} number its rows: {labels[0]}, {labels[1]}, {labels[2]} …"]


def _find(files: Files, folder: str, path: str) -> str | None:
    """The file that a path in a table names: the whole path, or its longest end that exists.

    If the path has no suffix of a picture, every suffix is tried.
    """
    if PurePosixPath(path).suffix.lower() in SUFFIXES:
        return _found(files, folder, path)
    for suffix in ("", *SUFFIXES):
        if name := _found(files, folder, path + suffix):
            return name
    return None


def _found(files: Files, folder: str, path: str) -> str | None:
    if len(path) > _LONGEST_PATH:
        return None
    if files.has(as_written := posixpath.join(folder, path)):
        return posixpath.normpath(as_written)
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    if parts and re.fullmatch("[A-Za-z]:", parts[0]):
        parts = parts[1:]
    elif parts:
        parts[0] = re.sub("^[A-Za-z]:", "", parts[0])
    ends = [parts]
    if parts and re.match("[0-9a-f]{8}-", parts[-1]):
        # Label Studio puts eight digits before the name of an uploaded file.
        ends.append([*parts[:-1], parts[-1][9:]])
    for end in ends:
        for start in range(len(end)):
            for form in ("NFC", "NFD"):
                tail = unicodedata.normalize(form, "/".join(end[start:]))
                for base in dict.fromkeys((folder, "")):
                    name = posixpath.normpath(posixpath.join(base, tail))
                    if files.has(name):
                        return name
    return None


def _texts_beside(pictures: Iterable[str], others: Sequence[str]) -> dict[str, str]:
    """The text file of the same name, for each picture that has one."""
    there = set(others)
    beside = {}
    for name in pictures:
        stem = name[: -len(PurePosixPath(name).suffix)]
        for text in (f"{stem}.txt", f"{stem}.gt.txt", f"{name}.txt"):
            if text in there:
                beside[name] = text
                break
    return beside


def _unread_beside(pictures: Sequence[str], others: Sequence[str]) -> list[str]:
    """A doubt if many pictures have an unread file of the same name beside them."""
    stems = {posixpath.splitext(name)[0] for name in pictures}
    beside = [name for name in others if posixpath.splitext(name)[0] in stems]
    if len(beside) <= _BESIDE_SHARE * len(pictures):
        return []
    return [
        f"{len(beside)} of {len(pictures)} pictures have a file of the same name beside them, such "
        f"as {beside[0]}, which is not read. If the labels are in these files, pass --label-from "
        "text where they are .txt, else write a table of paths and labels; if the file names are "
        "the labels, pass --label-from stem"
    ]


def _unread_tables(names: Sequence[str]) -> list[str]:
    """A doubt for each file that may be a table of labels in an unsupported format."""
    unread = [
        name
        for name in names
        if not is_hidden(name)
        and (
            _TABLE_NAME.fullmatch(posixpath.basename(name))
            or PurePosixPath(name).suffix.lower() in _OTHER_TABLES
        )
    ]
    return [
        f"{name} may hold the labels, and is not read; save it as CSV with a path and a label on "
        "each line, or pass --label-from stem if the file names are the labels"
        for name in unread[:_MOST_DOUBTS]
    ]


def _take_texts(
    source: Source, files: Files, pictures: Iterable[str], texts: Mapping[str, str]
) -> None:
    source.notes.append("the label is in the text file of the picture's name (.txt)")
    for name in pictures:
        if name not in texts:
            source.left_out.append(LeftOut("picture without a text file", name, lost=1))
            continue
        try:
            label = decoded(files.read(texts[name])).strip()
        except (OSError, UnicodeDecodeError) as error:
            source.left_out.append(LeftOut("unreadable text file", f"{name}: {error}", lost=1))
            continue
        if _BOX_LINE.match(label):
            raise DataError(
                f"{texts[name]} reads {label.splitlines()[0]!r}: that is a box of YOLO's, no label."
            )
        if "\n" in label:
            source.left_out.append(LeftOut("text of several lines", texts[name], lost=1))
        elif not label:
            source.left_out.append(LeftOut("empty label", texts[name], lost=1))
        else:
            source.entries.append(Entry(name, label, partial(files.read, name)))


def _take_names(
    source: Source, files: Files, pictures: Sequence[str], label_from: str | None
) -> None:
    found = labels_of(pictures, label_from)
    source.notes.append(found.note)
    source.doubts += [found.doubt] if found.doubt else []
    for name, label in zip(pictures, found.labels, strict=True):
        if label:
            source.entries.append(Entry(name, label, partial(files.read, name)))
        else:
            source.left_out.append(LeftOut("empty label", name, lost=1))

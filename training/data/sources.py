"""Where labelled pictures come from: a folder, a zip of such a folder, a manifest, or MJSynth.

Reads names, labels and bytes; it does not know what a picture is.
"""

import csv
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from training.exceptions import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
_ANNOTATIONS = "annotation*.txt"
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One labelled picture, not read yet; `read` may raise OSError or ValueError."""

    name: str
    label: str
    read: Callable[[], bytes]


@contextmanager
def open_source(path: Path) -> Iterator[list[Entry]]:
    """The labelled pictures of a folder, a zip or a list of files, in the order of names.

    In a folder or zip the label is the file's name without its suffix, in any subfolder. A
    manifest has a header line with the columns `path` (relative to the manifest) and `label`.
    An annotation file is that of MJSynth (Jaderberg et al. 2014): lines
    `./2425/1/115_Lube_45484.jpg 45484`, the label between the underscores.

    Raises:
        DataError: nothing of the kind is at `path`, or a line of it cannot be understood.
    """
    if path.is_dir():
        yield _folder_entries(path)
    elif path.suffix.lower() in _DELIMITERS and path.is_file():
        yield _of_text(path, _manifest_entries)
    elif path.match(_ANNOTATIONS) and path.is_file():
        yield _of_text(path, _annotated_entries)
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield _zip_entries(archive)
    else:
        found = "is none of these" if path.exists() else "does not exist"
        raise DataError(
            f"{path} {found}; DATA= takes a folder of <label>.png files, a zip of such a "
            "folder, a CSV or TSV manifest with the columns path,label, or an annotation*.txt as "
            "MJSynth has it."
        )


def _label(name: str) -> str | None:
    """The label in a file's name, or None where it does not name a picture."""
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix) and not name.startswith("._"):
            return name[: -len(suffix)].strip()
    return None


def _folder_entries(folder: Path) -> list[Entry]:
    return [
        Entry(str(path.relative_to(folder)), label, path.read_bytes)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (label := _label(path.name)) is not None
    ]


def _zip_entries(archive: zipfile.ZipFile) -> list[Entry]:
    return [
        Entry(name, label, partial(_unzipped, archive, name))
        for name in sorted(archive.namelist())
        if (label := _label(PurePosixPath(name).name)) is not None
    ]


def _unzipped(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, RuntimeError) as error:  # the last: it is encrypted
        raise OSError(str(error)) from error


def _of_text(path: Path, entries: Callable[[Path], list[Entry]]) -> list[Entry]:
    try:
        return entries(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not in UTF-8 ({error}); save it as UTF-8.") from error


def _manifest_entries(manifest: Path) -> list[Entry]:
    with manifest.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, delimiter=_DELIMITERS[manifest.suffix.lower()])
        missing = {"path", "label"} - set(rows.fieldnames or ())
        if missing:
            raise DataError(
                f"{manifest} lacks the column {' and '.join(sorted(missing))} in its first "
                f"line, which reads {rows.fieldnames}; it needs path and label."
            )
        entries = []
        for row in rows:
            if not row["path"]:
                raise DataError(
                    f"{manifest}, line {rows.line_num}: there is no path; each needs one."
                )
            label = (row["label"] or "").strip()
            entries.append(Entry(row["path"], label, (manifest.parent / row["path"]).read_bytes))
        return entries


def _annotated_entries(annotation: Path) -> list[Entry]:
    entries = []
    with annotation.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            name, _, index = line.strip().rpartition(" ")
            # The label itself may have an underscore in it.
            parts = PurePosixPath(name).stem.split("_", 1)
            label, underscore, _ = parts[-1].rpartition("_")
            if not (index.isdecimal() and len(parts) == 2 and underscore):
                raise DataError(
                    f"{annotation}, line {number}: {line.strip()!r} is not like "
                    "'./2425/1/115_Lube_45484.jpg 45484', the label between the underscores."
                )
            entries.append(Entry(name, label.strip(), (annotation.parent / name).read_bytes))
    return entries

"""Reads tables of pictures and labels: CSV and similar formats, JSON lines and JSON.

Only reads the tables; it does not look for the pictures.
"""

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from training.data.filenames import SUFFIXES
from training.exceptions import DataError

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json")
PATH_COLUMNS = (
    "path", "file_name", "filename", "file", "file_path", "filepath", "image_path", "image_name",
    "image_file", "image", "img_path", "img_name", "img", "picture", "sha256",
)  # fmt: skip
LABEL_COLUMNS = (
    "label", "text", "words", "word", "ground_truth", "transcription", "transcript", "labels", "gt",
    "caption", "answer", "solution", "value",
)  # fmt: skip
_COLUMNS = (
    "the columns path (or file_name, filename, file, image) and label (or text, words, "
    "ground_truth)"
)

_DELIMITERS = "\t;,|"
_SUFFIX = "(?:" + "|".join(map(re.escape, SUFFIXES)) + ")"
_PICTURE = re.compile(rf"{_SUFFIX}\s*$", re.IGNORECASE)
_PICTURE_THEN_SPACE = re.compile(rf"(.+?{_SUFFIX})\s+(.*)", re.IGNORECASE)
_MJSYNTH = re.compile(r"\d+_(.+)_(\d+)\.\w+ \2")
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
_ENCODINGS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SNIFFED_LINES = 200
"""Number of first lines that decide the kind of a table."""


@dataclass(frozen=True, slots=True)
class Row:
    """A picture's path as written in the table, its label, and the place of the row."""

    path: str
    label: str
    place: str


@dataclass(slots=True)
class Table:
    """The content of a file of labels.

    `form` and `notes` say how the file was read. `doubts` say what is unclear in it.
    """

    name: str
    form: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def read_table(name: str, data: bytes, required: bool = False) -> Table | None:
    """Reads a file of labels.

    Args:
        name: name of the file, with one of `TABLE_SUFFIXES`; also used in messages.
        required: whether the user says that the file is a table of labels.

    Returns:
        None if the file is no table of labels and was not required to be one.

    Raises:
        DataError: a line of the table cannot be understood, or a required file is no table.
    """
    suffix = PurePosixPath(name).suffix.lower()
    try:
        text = decoded(data)
    except UnicodeDecodeError as error:
        if not required and not _names_pictures(data):
            return None
        raise DataError(f"{name} is not in UTF-8 ({error}); save it as UTF-8.") from error
    table: Table | None
    try:
        if suffix in (".jsonl", ".ndjson"):
            table = _json_lines(name, text) if required or _has_paths(text) else None
        elif suffix == ".json":
            table = _json(name, text, required)
        elif _is_mjsynth(name, text):
            table = _mjsynth(name, text)
        else:
            table = _delimited(name, text, suffix)
    except (ValueError, RecursionError, csv.Error) as error:  # too deep or too long
        if not required and not _names_pictures(data):
            return None
        raise DataError(f"{name} is not understood as a table of labels: {error}.") from error
    if table is None and required:
        found = text.strip().splitlines()[:1]
        raise DataError(
            f"{name} is not understood as a table of labels; its first line reads "
            f"{found[0][:100] if found else ''!r}. It needs {_COLUMNS}."
        )
    return table


def decoded(data: bytes) -> str:
    """The text of a file in UTF-8, UTF-16 or UTF-32, detected by a mark at its start or a NUL.

    Raises:
        UnicodeDecodeError: the file is in another encoding.
    """
    for start, encoding in _ENCODINGS.items():
        if data.startswith(start):
            return data.decode(encoding)
    if len(data) > 1 and 0 in data[:2]:  # ASCII in UTF-16, without a mark
        return data.decode("utf-16-le" if data[0] else "utf-16-be")
    return data.decode("utf-8-sig")


def _lines(text: str) -> list[str]:
    """The lines with their ends. `str.splitlines` would also split a label at U+2028 or U+0085."""
    return list(io.StringIO(text, newline=""))


def _names_pictures(data: bytes) -> bool:
    return re.search(_SUFFIX.encode(), data, re.IGNORECASE) is not None


# CSV, TSV, semicolons, and lines of a path and a label


def _delimited(name: str, text: str, suffix: str) -> Table | None:
    lines = _lines(text)
    if lines and re.fullmatch(r"sep=.\s*", lines[0]):  # Excel writes it
        lines[0] = "\n"
    head = next((line for line in lines if line.strip()), "")
    for delimiter in _DELIMITERS:
        columns = [_column(one) for one in next(csv.reader([head], delimiter=delimiter), [])]
        paths = [columns.index(one) for one in PATH_COLUMNS if one in columns]
        labels = [columns.index(one) for one in LABEL_COLUMNS if one in columns]
        labels = [one for one in labels if one not in paths[:1]]
        if len(columns) > 1 and paths and labels:
            return _with_header(name, lines, delimiter, columns, paths[0], labels)
    parted_by = _delimiter_of(lines, suffix)
    return None if parted_by is None else _without_header(name, lines, parted_by, suffix)


def _column(text: str) -> str:
    return re.sub(r"[\s-]+", "_", text.strip().lower().strip('"'))


def _with_header(
    name: str,
    lines: Sequence[str],
    delimiter: str,
    columns: list[str],
    path: int,
    labels: list[int],
) -> Table:
    table = Table(name, f"{name}, columns {columns[path]} and {columns[labels[0]]}")
    rows = list(_fields(name, lines, delimiter))[1:]
    _fill(table, name, rows, len(columns), path, labels[0], delimiter)
    if columns[path] == "sha256":  # a data set of `make data`
        table.rows = [replace(row, path=f"pictures/{row.path}") for row in table.rows]
    if {"accepted", "model_version"} <= set(columns):
        place = columns.index("accepted")
        count = sum(len(cells) > place and cells[place].lower() == "false" for _, cells in rows)
        table.notes.append(
            f"{name} has a model's readings, {count} of which it does not accept itself; training "
            "learns its errors, unless somebody has checked them (captcha-ocr label)"
        )
    for other in labels[1:]:
        if any(len(cells) > other and cells[other] != cells[labels[0]] for _, cells in rows):
            table.doubts.append(_two_labels(name, columns[labels[0]], columns[other]))
    return table


def _fill(
    table: Table,
    name: str,
    rows: Sequence[tuple[int, list[str]]],
    width: int,
    path: int,
    label: int,
    delimiter: str,
) -> None:
    """Appends the rows of a table with `width` columns; `path` and `label` are two of them."""
    with_comma = []
    for number, cells in rows:
        place = f"{name}, line {number}"
        while len(cells) > width and not cells[-1].strip():
            cells = cells[:-1]
        if len(cells) > width:
            text = ",".join(cells[label : label + 2]).strip()
            decimal = delimiter == "," and _DECIMAL_COMMA.fullmatch(text) is not None
            if not decimal or len(cells) != width + 1:
                raise DataError(
                    f"{place}: {len(cells)} fields where there are {width} columns: "
                    f"{delimiter.join(cells)!r}. Put a label that has {delimiter!r} in it between "
                    "quotation marks."
                )
            cells = [*cells[:label], text, *cells[label + 2 :]]
            with_comma.append(number)
        if len(cells) <= path or not cells[path].strip():
            raise DataError(f"{place}: there is no path; each line needs one.")
        text = cells[label].strip() if len(cells) > label else ""
        if text.startswith('[{"transcription"'):
            raise DataError(
                f"{place}: this is PaddleOCR's format for text detection, with places in a "
                "picture; it needs the one for recognition, a path, a tab and a label on each line."
            )
        table.rows.append(Row(cells[path].strip(), text, place))
    if with_comma:
        table.notes.append(
            f"{name}: labels with a decimal comma: {len(with_comma)}, the first on line "
            f"{with_comma[0]}"
        )


def _delimiter_of(lines: Sequence[str], suffix: str) -> str | None:
    """The delimiter between path and label in most lines; None if lines have no path."""
    shown = [line.strip() for line in lines if line.strip()][:_SNIFFED_LINES]
    shares = {
        delimiter: sum(
            delimiter in line
            and any(_PICTURE.search(cell.strip('" ')) for cell in line.split(delimiter))
            for line in shown
        )
        for delimiter in _DELIMITERS
    }
    if suffix == ".txt":
        shares[" "] = sum(_PICTURE_THEN_SPACE.fullmatch(line) is not None for line in shown)
    best = max(shares, key=lambda delimiter: shares[delimiter])  # the first one on a tie
    return best if shown and shares[best] * 2 >= len(shown) else None


def _without_header(name: str, lines: Sequence[str], delimiter: str, suffix: str) -> Table:
    rows = list(_fields(name, lines, delimiter, plain=suffix == ".txt" and delimiter == "\t"))
    widths = Counter(len(cells) for _, cells in rows)
    width = widths.most_common(1)[0][0]
    shown = [cells for _, cells in rows[:_SNIFFED_LINES]]
    path = max(range(width), key=lambda place: _paths_at(shown, place))
    header = [] if _paths_at(shown[:1], path) else shown[0]
    columns = [_column(one) for one in header]
    labels = [columns.index(one) for one in LABEL_COLUMNS if one in columns]
    if labels:
        return _with_header(name, lines, delimiter, columns, path, labels)
    if width != 2:
        raise DataError(
            f"{name}, line {rows[0][0]}: {width} fields, and no header tells which of them is the "
            f"label. Give it a first line with {_COLUMNS}."
        )
    table = Table(name, f"{name}, a path and a label on each line")
    if header:
        # Such as `0,1`, which pandas writes as the header of columns without names.
        table.notes.append(f"{name}: line {rows[0][0]} is taken for a header: {header}")
    _fill(table, name, rows[1:] if header else rows, width, path, 1 - path, delimiter)
    return table


def _paths_at(rows: Sequence[Sequence[str]], place: int) -> int:
    return sum(len(cells) > place and bool(_PICTURE.search(cells[place])) for cells in rows)


def _fields(
    name: str, lines: Sequence[str], delimiter: str, plain: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """The number and the cells of every line that is not empty.

    Raises:
        DataError: a quotation mark swallows the lines after it.
    """
    if delimiter == " ":
        for number, line in enumerate(lines, start=1):
            if line.strip():
                found = _PICTURE_THEN_SPACE.fullmatch(line.strip())
                yield number, [found[1], found[2]] if found else [line.strip()]
        return
    reader = csv.reader(
        lines,
        delimiter=delimiter,
        skipinitialspace=True,
        quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL,
        strict=True,
    )
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(_stray_quote(name, start, reader.line_num, str(error))) from error
        if cells is None:
            return
        if reader.line_num > start:
            raise DataError(_stray_quote(name, start, reader.line_num, ""))
        if any(cell.strip() for cell in cells):
            yield start, cells


def _stray_quote(name: str, first: int, last: int, error: str) -> str:
    what = (
        f"a quotation mark opens a field that goes on to line {last} and swallows what is between"
        if last > first
        else f"a quotation mark stands where none can ({error})"
    )
    return (
        f"{name}, line {first}: {what}. Delete the mark; one that belongs to the label is written "
        'twice, and the label between two others: """".'
    )


# MJSynth (Jaderberg et al. 2014)


def _is_mjsynth(name: str, text: str) -> bool:
    lines = [line.strip().rpartition("/")[2] for line in _lines(text)[:_SNIFFED_LINES]]
    like = [_MJSYNTH.fullmatch(line) is not None for line in lines if line]
    return any(like) and (all(like) or PurePosixPath(name).match("annotation*.txt"))


def _mjsynth(name: str, text: str) -> Table:
    table = Table(name, f"{name} of MJSynth, the label between the underscores of the path")
    for number, line in enumerate(_lines(text), start=1):
        if not line.strip():
            continue
        path, _, index = line.strip().rpartition(" ")
        # The label may have an underscore, too.
        parts = PurePosixPath(path).stem.split("_", 1)
        label, underscore, _ = parts[-1].rpartition("_")
        if not (index.isdecimal() and len(parts) == 2 and underscore):
            raise DataError(
                f"{name}, line {number}: {line.strip()!r} is not like "
                "'./2425/1/115_Lube_45484.jpg 45484', the label between the underscores."
            )
        table.rows.append(Row(path, label.strip(), f"{name}, line {number}"))
    return table


# JSON lines and JSON


def _has_paths(text: str) -> bool:
    """Whether the first line is an object with the path of a picture."""
    try:
        first = json.loads(text.lstrip().partition("\n")[0])
    except ValueError:
        return False
    return isinstance(first, dict) and bool({_column(key) for key in first} & set(PATH_COLUMNS))


def _json_lines(name: str, text: str) -> Table:
    table = Table(name, f"{name}, an object of JSON on each line")
    for number, line in enumerate(_lines(text), start=1):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        try:
            item = json.loads(line)
        except ValueError as error:
            raise DataError(f"{place} is not JSON ({error}): {line.strip()[:100]!r}.") from error
        table.rows.append(_object_row(item, place))
        _doubt_other_labels(table, item)
    return table


def _doubt_other_labels(table: Table, item: Mapping[str, object]) -> None:
    """Adds a doubt if an object has several labels, and there is no doubt yet."""
    columns = {_column(key): value for key, value in item.items()}
    taken, *others = [one for one in LABEL_COLUMNS if one in columns]
    for other in others:
        if columns[other] != columns[taken] and not table.doubts:
            table.doubts.append(_two_labels(table.name, taken, other))


def _two_labels(name: str, taken: str, other: str) -> str:
    return (
        f"{name} has the columns {taken} and {other}, which differ; {taken} was taken. Rename the "
        "one that is not the label."
    )


def _object_row(item: object, place: str) -> Row:
    if not isinstance(item, dict):
        raise DataError(f"{place}: {str(item)[:100]!r} is no object with a path and a label.")
    columns = {_column(str(key)): value for key, value in item.items()}
    path = next((columns[one] for one in PATH_COLUMNS if columns.get(one)), None)
    if path is None:  # In Label Studio, the project names the column.
        texts = [value for value in item.values() if isinstance(value, str)]
        path = next((text for text in texts if _PICTURE.search(_path_of(text))), None)
    key = next((one for one in LABEL_COLUMNS if one in columns), None)
    if not isinstance(path, str) or key is None:
        raise DataError(f"{place} has {', '.join(item) or 'nothing'}; it needs {_COLUMNS}.")
    return Row(_path_of(path), _text_of(columns[key], place), place)


def _path_of(address: str) -> str:
    """The path in an address of Label Studio."""
    if "://" not in address and not address.startswith("/data/"):
        return address
    parts = urlsplit(address)
    inner = parse_qs(parts.query).get("d")
    return inner[0] if inner else unquote(parts.path)


def _text_of(value: Any, place: str) -> str:
    """The label in a value: a text, or an object or list with just one text."""
    while isinstance(value, dict | list):
        if isinstance(value, dict):
            # Label Studio's and Donut's ways to wrap a text.
            inner = [value[key] for key in ("text", "gt_parse", "text_sequence") if key in value]
        else:
            inner = value
        if len(inner) != 1:
            raise DataError(f"{place}: {str(value)[:100]} is not one text.")
        value = inner[0]
    if isinstance(value, str) and value.startswith('{"gt_parse"'):
        return _text_of(json.loads(value), place)
    if isinstance(value, float | bool):
        raise DataError(
            f"{place}: the label is {json.dumps(value)}, not a text; write it as a text, as it "
            "stands in the picture."
        )
    return "" if value is None else str(value).strip()


def _json(name: str, text: str, required: bool) -> Table | None:
    try:
        content = json.loads(text, object_pairs_hook=_with_each_key_once)
    except ValueError as error:
        lines = text.strip().splitlines()
        if len(lines) > 1 and all(line.lstrip().startswith("{") for line in lines[:2]):
            return _json_lines(name, text)
        if required or _names_pictures(text.encode()):
            raise DataError(f"{name} is not JSON: {error}.") from error
        return None
    try:
        return _json_table(name, content)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{name}: its JSON is not understood ({error!r}).") from error


def _with_each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        (key, count), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"{key!r} stands {count} times in the same object, and needs one value")
    return members


def _json_table(name: str, content: Any) -> Table | None:
    if isinstance(content, dict):
        if isinstance(content.get("images"), list) and isinstance(content.get("annotations"), list):
            return _coco(name, content)
        if isinstance(content.get("items"), list):
            return _datumaro(name, content["items"])
        if content and all(_PICTURE.search(key) for key in content):
            rows = [
                Row(path, _text_of(label, f"{name}, {path}"), f"{name}, {path}")
                for path, label in content.items()
            ]
            return Table(name, f"{name}, an object of paths and labels", rows)
        lists = [value for value in content.values() if isinstance(value, list)]
        return _json_table(name, lists[0]) if len(lists) == 1 else None
    if not isinstance(content, list) or not content:
        return None
    if all(isinstance(item, list) and len(item) == 2 for item in content):
        rows = [
            Row(str(path), _text_of(label, f"{name}, entry {number}"), f"{name}, entry {number}")
            for number, (path, label) in enumerate(content, start=1)
        ]
        return Table(name, f"{name}, a list of paths and labels", rows)
    if not isinstance(content[0], dict):
        return None
    if isinstance(content[0].get("data"), dict):
        return _label_studio(name, content)
    if not any(isinstance(one, str) and _PICTURE.search(one) for one in content[0].values()):
        return None
    table = Table(name, f"{name}, a list of objects")
    for number, item in enumerate(content, start=1):
        table.rows.append(_object_row(item, f"{name}, entry {number}"))
        _doubt_other_labels(table, item)
    return table


def _label_studio(name: str, tasks: Sequence[Mapping[str, Any]]) -> Table:
    """Label Studio's export format `JSON`."""
    table = Table(name, f"{name} of Label Studio")
    for number, task in enumerate(tasks, start=1):
        place = f"{name}, task {task.get('id', number)}"
        values = [value for value in task["data"].values() if isinstance(value, str)]
        path = next((value for value in values if _PICTURE.search(_path_of(value))), None)
        if path is None:
            raise DataError(f"{place}: none of {list(task['data'])} is the path of a picture.")
        done = [one for one in task.get("annotations", []) if not one.get("was_cancelled")]
        labels: list[str] = []
        for annotation in done:
            texts = [
                _text_of(region["value"]["text"], place)
                for region in annotation["result"]
                if "text" in region.get("value", {})
            ]
            if len(texts) > 1:
                raise DataError(f"{place} has {len(texts)} texts; a picture needs one: {texts}.")
            labels += filter(None, texts)
        # A row for each text: if annotators differ, it is unknown which text is right.
        for label in dict.fromkeys(labels or [""]):
            table.rows.append(Row(_path_of(path), label, place))
    return table


def _annotated(annotations: Sequence[Mapping[str, Any]], place: str) -> str:
    """The text in the annotations of a picture: a caption or an attribute."""
    texts = []
    for one in annotations:
        attributes = {_column(key): value for key, value in one.get("attributes", {}).items()}
        found = [one.get(key) for key in ("caption", "text", "utf8_string")]
        found += [attributes.get(key) for key in LABEL_COLUMNS]
        texts += [_text_of(value, place) for value in found if value not in (None, "")][:1]
    if len(texts) > 1:
        raise DataError(f"{place} has {len(texts)} texts; a picture needs one: {texts}.")
    return texts[0] if texts else ""


def _coco(name: str, content: Mapping[str, Any]) -> Table:
    """The format of COCO, which CVAT exports."""
    of_image: dict[Any, list[Mapping[str, Any]]] = {}
    for annotation in content["annotations"]:
        of_image.setdefault(annotation["image_id"], []).append(annotation)
    table = Table(name, f"{name} in the form of COCO")
    for image in content["images"]:
        place = f"{name}, {image['file_name']}"
        label = _annotated(of_image.get(image["id"], []), place)
        table.rows.append(Row(image["file_name"], label, place))
    return table


def _datumaro(name: str, items: Sequence[Mapping[str, Any]]) -> Table:
    """The format of Datumaro, which CVAT exports."""
    table = Table(name, f"{name} in the form of Datumaro")
    for item in items:
        path = item.get("image", {}).get("path") or item["id"]
        place = f"{name}, {path}"
        table.rows.append(Row(path, _annotated(item.get("annotations", []), place), place))
    return table

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.data.conftest import write_pictures
from training.exceptions import DataError

Read = Callable[..., dict[str, str]]
NAMES = ["1.png", "2.png", "more/3.png"]
LABELS = {"1.png": "ab", "2.png": "ba", "more/3.png": "12,5"}

TABLES = {
    "header, comma": ("labels.csv", 'path,label\n1.png,ab\n2.png,ba\nmore/3.png,"12,5"\n'),
    "filename and text": ("x.csv", 'filename,text\n1.png,ab\n2.png,ba\nmore/3.png,"12,5"\n'),
    "more columns": ("x.csv", "id;Image;Words\n1;1.png;ab\n2;2.png;ba\n3;more/3.png;12,5\n"),
    "semicolon": ("x.csv", "path;label\n1.png;ab\n2.png;ba\nmore/3.png;12,5\n"),
    "as Excel writes it": ("x.csv", "sep=;\r\nFile Name;Label\r\n1.png;ab\r\n2.png;ba\r\n"
                           "more\\3.png;12,5\r\n"),
    "tabs": ("x.tsv", "file\tground_truth\n1.png\tab\n2.png\tba\nmore/3.png\t12,5\n"),
    "decimal comma": ("x.csv", "path,label\n1.png,ab\n2.png,ba\nmore/3.png,12,5\n"),
    "decimal comma first": ("x.csv", "label,path\nab,1.png\nba,2.png\n12,5,more/3.png\n"),
    "no header": ("x.csv", "1.png,ab\n2.png,ba\nmore/3.png,12,5\n"),
    "no header, label first": ("x.csv", "ab;1.png\nba;2.png\n12,5;more/3.png\n"),
    "pandas without column names": ("x.csv", "0,1\n1.png,ab\n2.png,ba\nmore/3.png,12,5\n"),
    "one known column": ("x.csv", "n;crop;label\n1;1.png;ab\n2;2.png;ba\n3;more/3.png;12,5\n"),
    "Windows paths": ("x.csv", ".\\1.png,ab\nC:\\my set\\2.png,ba\nC:\\set\\more\\3.png,12,5\n"),
    "paths of another machine": ("x.csv", "path,label\n/home/me/set/1.png,ab\n./2.png,ba\n"
                                 "set/more/3.png,12,5\n"),
    "no suffix": ("x.csv", "filename;label\n1;ab\n2;ba\nmore/3;12,5\n"),
    "PaddleOCR": ("rec_gt_train.txt", "1.png\tab\n2.png\tba\nmore/3.png\t12,5\n"),
    "ICDAR": ("gt.txt", '1.png, "ab"\n2.png, "ba"\nmore/3.png, "12,5"\n'),
    "separated by a space": ("list.txt", "1.png ab\n2.png ba\nmore/3.png 12,5\n"),
    "JSON lines": ("metadata.jsonl", "".join(
        json.dumps({"file_name": name, "text": label}) + "\n" for name, label in LABELS.items()
    )),
    "Hugging Face": ("metadata.csv", 'file_name,text\n1.png,ab\n2.png,ba\nmore/3.png,"12,5"\n'),
    "Donut": ("metadata.jsonl", "".join(
        json.dumps({"file_name": name, "ground_truth": json.dumps(
            {"gt_parse": {"text_sequence": label}}
        )}) + "\n" for name, label in LABELS.items()
    )),
    "a JSON object": ("labels.json", json.dumps(LABELS)),
    "JSON pairs": ("x.json", json.dumps([[name, label] for name, label in LABELS.items()])),
    "JSON objects": ("x.json", json.dumps(
        {"data": [{"image": name, "words": [label]} for name, label in LABELS.items()]}
    )),
    "Label Studio": ("project-1.json", json.dumps([
        {"id": number, "data": {"ocr": f"/data/upload/1/0a1b2c3d-{name.rpartition('/')[2]}"
                                if "/" not in name else f"/data/local-files/?d=set/{name}"},
         "annotations": [
             {"was_cancelled": True, "result": []},
             {"was_cancelled": False, "result": [
                 {"type": "choices", "value": {"choices": ["good"]}},
                 {"type": "textarea", "value": {"text": [label]}}]}]}
        for number, (name, label) in enumerate(LABELS.items(), start=1)
    ])),
    "Label Studio, short": ("x.json", json.dumps([
        {"ocr": f"https://example.com/set/{name}", "id": 1, "transcription": {"text": [label]}}
        for name, label in LABELS.items()
    ])),
    "CVAT, COCO": ("instances.json", json.dumps({
        "images": [{"id": number, "file_name": name} for number, name in enumerate(LABELS)],
        "annotations": [{"image_id": number, "category_id": 1, "attributes": {"Text": label}}
                        for number, label in enumerate(LABELS.values())],
    })),
    "CVAT, Datumaro": ("default.json", json.dumps({"items": [
        {"id": name[:-4], "image": {"path": name},
         "annotations": [{"type": "caption", "caption": label}]}
        for name, label in LABELS.items()
    ]})),
}  # fmt: skip


@pytest.mark.parametrize("form", TABLES)
def test_labels_are_read_from_a_table_or_from_a_folder_with_a_table(
    form: str, read: Read, tmp_path: Path
) -> None:
    """Labels come from the table, never from the numbers in the file names."""
    name, text = TABLES[form]
    folder = write_pictures(tmp_path / "pictures", NAMES)
    (folder / name).write_text(text, encoding="utf-8")
    assert read(folder) == LABELS
    assert read(folder / name) == LABELS


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_tables_in_utf_16_and_utf_32_are_read(encoding: str, read: Read, tmp_path: Path) -> None:
    """Excel saves `Unicode text` as UTF-16 with tabs; the byte order mark may be missing."""
    folder = write_pictures(tmp_path / "pictures", ["1.png"])
    (folder / "texts.txt").write_text("Path\tLabel\r\n1.png\tü\r\n", encoding=encoding)
    assert read(folder) == {"1.png": "ü"}


@pytest.mark.parametrize(
    "name", ["labels.xlsx", "gt.mat", "data.parquet", "words.xml", "labels.npy"]
)
def test_a_table_in_an_unknown_format_is_refused(name: str, read: Read, tmp_path: Path) -> None:
    """Labels are not taken from file names while a file of unknown format may have labels."""
    folder = write_pictures(tmp_path / "pictures", ["x7.png", "k1.png", "f3.png"])
    (folder / name).write_bytes(b"PK")
    with pytest.raises(
        DataError, match=rf"{name} may hold the labels, and is not read; save it as"
    ):
        read(folder)
    assert len(read(folder, label_from="stem")) == 3


def test_guesses_about_a_table_are_printed(
    read: Read, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guesses concern a header without known names, decimal commas, and ends of paths."""
    folder = write_pictures(tmp_path / "pictures", NAMES)
    (folder / "x.csv").write_text("0,1\nC:\\a\\1.png,ab\n2.png,1,5\nmore/3.png,b\n")
    read(folder)
    printed = capsys.readouterr().out
    assert "labels from x.csv, a path and a label on each line" in printed
    assert "x.csv: line 1 is taken for a header: ['0', '1']" in printed
    assert "x.csv: labels with a decimal comma: 1, the first on line 3" in printed
    assert r"paths that were found by their end: 1, such as C:\a\1.png (x.csv, line 2)" in printed


def test_a_table_of_model_readings_is_reported(
    read: Read, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`captcha-ocr predict --csv` writes such tables."""
    folder = write_pictures(tmp_path / "pictures", NAMES)
    (folder / "x.csv").write_text(
        "path,label,confidence,accepted,reason,model_version\n"
        "1.png,ab,0.5,false,,1\n2.png,cd,0.99,true,,1\nmore/3.png,ef,0.5,FALSE,,1\n"
    )
    assert len(read(folder)) == 3
    told = "x.csv has a model's readings, 2 of which it does not accept itself"
    assert told in capsys.readouterr().out


REFUSED: dict[str, tuple[str, str | bytes, str]] = {
    "a stray quotation mark": (
        "labels.csv",
        'path,label\n1.png,"ab\n2.png,ba\nmore/3.png,c"d\n4.png,ab\n',
        "line 2: a quotation mark opens a field that goes on to line 4 and swallows",
    ),
    "a quotation mark without an end": (
        "labels.csv",
        'path,label\n1.png,ab\n2.png,"ba\nmore/3.png,cd\n',
        "line 3: a quotation mark opens a field that goes on to line 4",
    ),
    "a quotation mark within a field": (
        "labels.csv",
        'path,label\n1.png,"a"b\n',
        "line 2: a quotation mark stands where none can",
    ),
    "too many fields": (
        "labels.csv",
        "path,label\n1.png,ab\n2.png,b,a\n",
        "line 3: 3 fields where there are 2 columns: '2.png,b,a'. Put a label that has ','",
    ),
    "no path": ("labels.csv", "label,path\nab,1.png\nba\n", "line 3: there is no path"),
    "unknown columns": (
        "labels.csv",
        "a,b,c\n1,1.png,ab\n2,2.png,ba\n",
        "line 1: 3 fields, and no header tells which of them is the label",
    ),
    "no table": ("labels.csv", "alphabet\nabc\n", "its first line reads 'alphabet'. It needs the"),
    "broken JSON lines": (
        "metadata.jsonl",
        '{"file_name": "1.png", "text": "ab"}\n{"file_name": "2.png", text: 1}\n',
        r"metadata.jsonl, line 2 is not JSON \(.*\): '{\"file_name\": \"2.png\", text: 1}'",
    ),
    "unknown keys": (
        "metadata.jsonl",
        '{"file_name": "1.png", "meaning": "ab"}\n',
        "line 1 has file_name, meaning; it needs the columns path",
    ),
    "a line that is no object": ("metadata.jsonl", '["1.png"]\n', "line 1: .* is no object"),
    "a number as label": (
        "metadata.jsonl",
        '{"file_name": "1.png", "text": 12.50}\n',
        "the label is 12.5, not a text; write it as a text",
    ),
    "a boolean as label": (
        "x.json",
        '{"1.png": "ab", "2.png": true}',
        "the label is true, not a text",
    ),
    "two texts for a picture": (
        "x.json",
        '[{"image": "1.png", "text": ["a", "b"]}]',
        "entry 1: .* is not one text",
    ),
    "broken JSON": ("labels.json", '{"1.png": ', "labels.json is not JSON"),
    "a path twice": ("x.json", '{"1.png": "ab", "1.png": "cd"}', "'1.png' stands 2 times"),
    "deeply nested JSON": ("labels.json", "[" * 100_000, "labels.json is not understood"),
    "a very long line": ("x.txt", "1.png " * 50_000, "x.txt is not understood"),
    "PaddleOCR's detection": (
        "Label.txt",
        '1.png\t[{"transcription": "ab", "points": [[0, 0]]}]\n',
        "line 1: this is PaddleOCR's format for text detection",
    ),
    "another encoding": ("labels.csv", b"path,label\n1.png,\xfc\n", "save it as UTF-8"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_table_that_is_not_understood_is_refused(kind: str, read: Read, tmp_path: Path) -> None:
    """The error names the line, what was found and what would be right; nothing is guessed."""
    name, text, message = REFUSED[kind]
    folder = write_pictures(tmp_path / "pictures", NAMES)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    for source in (folder, folder / name):
        with pytest.raises(DataError, match=message):
            read(source)
    assert len(read(folder, label_from="stem", accept=True)) == 3


SEPARATED = {
    "x.csv": "path,label\n1.png,a@b\n2.png,ba\nmore/3.png,ab\n",
    "x.txt": "1.png a@b\n2.png ba\nmore/3.png ab\n",
    "x.jsonl": '{"path": "1.png", "label": "a@b"}\n{"path": "2.png", "label": "ba"}\n',
}


@pytest.mark.parametrize("parts", ["\u2028", "\x85"])
@pytest.mark.parametrize("name", SEPARATED)
def test_a_label_may_contain_a_unicode_line_separator(
    name: str, parts: str, read: Read, tmp_path: Path
) -> None:
    """A separator does not end a line, although `str.splitlines` would cut the label there."""
    folder = write_pictures(tmp_path / "pictures", NAMES)
    (folder / name).write_text(SEPARATED[name].replace("@", parts), encoding="utf-8")
    assert read(folder)["1.png"] == f"a{parts}b"


@pytest.mark.parametrize("path", ["a" * 300, "a" * 3000, "a/" * 50_000 + "b"])
def test_a_path_too_long_for_a_file_counts_as_missing(
    path: str, read: Read, tmp_path: Path
) -> None:
    """The other rows are still read."""
    folder = write_pictures(tmp_path / "pictures", ["1.png", "2.png"])
    (folder / "labels.csv").write_text(f"path,label\n1.png,ab\n{path}.png,cd\n2.png,ba\n")
    assert read(folder) == {"1.png": "ab", "2.png": "ba"}


def test_two_different_columns_that_may_be_the_label_are_refused(
    read: Read, tmp_path: Path
) -> None:
    """The error names both columns; equal columns are accepted."""
    folder = write_pictures(tmp_path / "pictures", ["1.png", "2.png"])
    (folder / "x.csv").write_text("file,label,text\n1.png,3,ab\n2.png,4,cd\n")
    with pytest.raises(DataError, match="the columns label and text, which differ"):
        read(folder)
    (folder / "x.csv").write_text("file,label,text\n1.png,ab,ab\n2.png,cd,cd\n")
    assert read(folder) == {"1.png": "ab", "2.png": "cd"}
    (folder / "x.csv").unlink()
    row = {"file": "1.png", "label": 3, "text": "ab"}
    for table, text in {"x.jsonl": json.dumps(row), "x.json": json.dumps([row])}.items():
        (folder / table).write_text(text)
        with pytest.raises(DataError, match=rf"{table} has the columns label and text, which dif"):
            read(folder)
        (folder / table).unlink()


def test_labels_that_number_the_rows_are_refused(read: Read, tmp_path: Path) -> None:
    """A column of row numbers is no label."""
    names = [f"{name}.png" for name in "abcdef"]
    folder = write_pictures(tmp_path / "pictures", names)
    (folder / "x.csv").write_text("".join(f"{name},{row}\n" for row, name in enumerate(names)))
    with pytest.raises(DataError, match=r"the labels in x\.csv number its rows: 0, 1, 2"):
        read(folder)


def test_a_prepared_data_set_can_be_the_source(read: Read, tmp_path: Path) -> None:
    """The labels stay the same."""
    folder = write_pictures(tmp_path / "pictures", ["ab.png", "cd.png"])
    first = read(folder)
    (tmp_path / "data").rename(tmp_path / "old")
    assert sorted(read(tmp_path / "old").values()) == sorted(first.values())

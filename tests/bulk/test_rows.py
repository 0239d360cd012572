import json
from pathlib import Path

from service.api.errors import KINDS
from service.bulk.rows import ERROR_KINDS, Counts, Picture, read_rows
from service.ocr.decoding.decoder import PLAIN, Question
from service.ocr.exceptions import PictureError
from service.ocr.preprocessing import Region
from service.ocr.recognizer import Recognizer
from tests import stripes


def test_every_picture_gets_a_row(recognizer: Recognizer) -> None:
    """The rows are in the order of the pictures, also if pictures are broken or missing."""
    missing = FileNotFoundError(2, "No such file or directory")
    pictures: list[Picture] = [
        ("a.png", stripes.picture("ab")),
        ("b.png", b"no picture"),
        ("c.png", stripes.picture("ab")[:60]),
        ("d.png", missing),
        ("e\udcff.png", stripes.picture("")),
    ]
    rows = list(read_rows(recognizer, iter(pictures), Question(1), 0.5, batch=2))
    assert [row["path"] for row in rows] == ["a.png", "b.png", "c.png", "d.png", "e\\udcff.png"]
    assert [row["text"] for row in rows] == ["ab", None, None, None, ""]
    assert [row["error_kind"] for row in rows] == [
        None, "unsupported-format", "undecodable-picture", "unreadable-file", None,
    ]  # fmt: skip
    assert rows[3]["error"] == "No such file or directory"
    assert [row["accepted"] for row in rows] == [True, False, False, False, False]
    assert rows[4]["reason"] == "no-text"
    assert rows[0]["confidence"] > 0.9
    assert len(rows[0]["alternatives"]) == 1
    first, second = rows[0]["characters"]
    assert first["character"] == "a"
    assert 0 <= first["left"] < first["right"] <= second["right"] <= stripes.WIDTH
    assert {row["model_name"] for row in rows} == {"stripes"}
    assert len({tuple(row) for row in rows}) == 1


def test_a_region_outside_a_picture_is_an_error_in_its_row(recognizer: Recognizer) -> None:
    question = Question(region=Region(1000, 0, 5, 5))
    (row,) = read_rows(recognizer, [("a.png", stripes.picture("ab"))], question, 0, 8)
    assert row["error_kind"] == "invalid-parameter"


def test_error_kinds_are_those_of_the_service() -> None:
    """Answers and tables use the same names."""
    kinds = {error: kind.name for error, kind in KINDS.items() if issubclass(error, PictureError)}
    assert kinds == ERROR_KINDS


def test_counts_add_up(recognizer: Recognizer, tmp_path: Path) -> None:
    """Counts can be added for several files, and written as JSON."""
    pictures: list[Picture] = [
        ("a", stripes.picture("ab")),
        ("b", b"broken"),
        ("c", OSError("gone")),
    ]
    total = Counts()
    for _ in range(2):
        counts = Counts()
        for row in read_rows(recognizer, pictures, PLAIN, 0, 8):
            counts.add(row)
        total += Counts.from_json(json.loads(json.dumps(counts.as_json())))
    assert total.rows == 6
    assert total.accepted == 2
    assert total.errors == {"unsupported-format": 2, "unreadable-file": 2}
    assert total.confidence == [0] * 9 + [2]

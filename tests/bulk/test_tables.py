from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="the extra bulk is not installed; make test-bulk")

from pyarrow import parquet

from service.bulk.rows import read_rows
from service.bulk.shards import InputError, Shard
from service.bulk.tables import SCHEMA, Asked, Table
from service.ocr.decoding.decoder import PLAIN
from service.ocr.recognizer import Recognizer
from tests import stripes

ASKED = Asked("model", "length=5", 1000)
SHARD = Shard("a", "/", ("/a",), "identity", 1)


@pytest.fixture
def rows(recognizer: Recognizer) -> list[dict[str, Any]]:
    pictures = [("a.png", stripes.picture("ab")), ("b.png", b"broken")]
    return list(read_rows(recognizer, pictures, PLAIN, 0, 8))


def test_rows_are_read_back_from_a_file(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """The counts of a file are found without reading its rows."""
    counts = Table(str(tmp_path)).write("x.parquet", iter(rows))
    assert parquet.read_table(tmp_path / "x.parquet").to_pylist() == rows
    assert SCHEMA.names == list(rows[0])
    assert Table(str(tmp_path)).files() == {"x.parquet": counts}
    assert (counts.rows, counts.errors) == (2, {"unsupported-format": 1})


def test_incomplete_files_are_ignored(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """A loss of power leaves incomplete files; an exception leaves none."""
    table = Table(str(tmp_path))
    assert Table(str(tmp_path / "new")).files() == {}
    table.write("x.parquet", rows)
    whole = (tmp_path / "x.parquet").read_bytes()
    for number, cut in enumerate((b"", whole[:50], whole[:-20])):
        (tmp_path / f"{number}.parquet").write_bytes(cut)
    assert list(table.files()) == ["x.parquet"]

    def broken() -> Any:
        yield rows[0]
        raise OSError("lost")

    with pytest.raises(OSError, match="lost"):
        table.write("y.parquet", broken())
    assert not (tmp_path / "y.parquet").exists()


def test_the_file_name_depends_on_the_shard_and_on_what_was_asked() -> None:
    name = ASKED.file_of(SHARD)
    assert name == Asked("model", "length=5", 1000).file_of(Shard("b", "", (), "identity", 2))
    others = {
        ASKED.file_of(Shard("a", "/", ("/a",), "another", 1)),
        Asked("another", "length=5", 1000).file_of(SHARD),
        Asked("model", "length=6", 1000).file_of(SHARD),
        Asked("model", "length=5", 1001).file_of(SHARD),
    }
    assert len(others | {name}) == 5


def test_success_is_marked_until_the_next_run_begins(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    """`_SUCCESS` exists from the end of a run to the beginning of the next."""
    table = Table(str(tmp_path / "table"))
    with pytest.raises(InputError, match="not written by"):
        table.run()
    table.begin({"shards": 1}, [])
    assert table.run() == ({"shards": 1}, False)
    counts = table.write("x.parquet", rows)
    (tmp_path / "table" / ".x.parquet.12.unfinished").touch()
    table.succeed({"shards": 1}, counts)
    assert table.run() == ({"shards": 1, "counts": counts.as_json()}, True)
    assert {path.name for path in (tmp_path / "table").iterdir()} == {
        "_SUCCESS", "_run.json", "x.parquet",
    }  # fmt: skip
    table.begin({"shards": 2}, ["x.parquet"])
    assert table.run() == ({"shards": 2}, False)
    assert table.files() == {}

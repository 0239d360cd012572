import errno
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

pytest.importorskip("pyarrow", reason="the extra bulk is not installed; make test-bulk")

import pyarrow as pa
from pyarrow import parquet

from service.bulk.shards import InputError, find_shards, is_below, pack, read_pictures

CONTENTS = {f"{'below/' if n % 2 else ''}{n:02}.png": bytes([n]) * 700 for n in range(10)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten files named like pictures, on two levels of folders, and two other files."""
    folder = tmp_path / "pictures"
    for path, content in CONTENTS.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    (folder / "notes.txt").touch()
    (folder / ".hidden.png").touch()
    return folder


def contents(address: Path, each: int = 3) -> list[tuple[str, bytes | OSError]]:
    return [
        picture
        for shard in find_shards(str(address), each)
        for picture in read_pictures(str(address), shard)
    ]


def test_a_folder_is_split_into_shards(folder: Path) -> None:
    shards = find_shards(str(folder), 4)
    assert [len(shard.files) for shard in shards] == [4, 4, 2]
    assert sum(shard.size for shard in shards) == 7000
    assert len({shard.name for shard in shards}) == 3
    assert contents(folder) == sorted(CONTENTS.items())


def test_a_file_too_large_for_a_picture_is_not_read(tmp_path: Path) -> None:
    """It would take all memory. A tar of 2 kB can hold a sparse file of many gigabytes."""
    loose, packed = tmp_path / "loose", tmp_path / "packed"
    for folder in (loose, packed):
        folder.mkdir()
    with (loose / "a.png").open("wb") as file:
        file.truncate(1 << 40)
    (loose / "b.png").write_bytes(b"b")
    with tarfile.open(packed / "one.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(_Sparse("a.png"))
        tar.addfile(tarfile.TarInfo("b.png"))
    for folder, following in ((loose, b"b"), (packed, b"")):
        (first, error), second = contents(folder)
        assert (first, second) == ("a.png", ("b.png", following))
        assert isinstance(error, OSError)
        assert error.errno == errno.EFBIG


@pytest.mark.parametrize("damage", ["a broken header", "cut short", "a second archive"])
def test_a_damaged_tar_is_an_error(folder: Path, tmp_path: Path, damage: str) -> None:
    """Otherwise the rest would be missing from a table that looks complete."""
    pack(str(folder), str(tmp_path / "shards"), 10, "tar", lambda _: None)
    (shard,) = (tmp_path / "shards").iterdir()
    assert len(contents(tmp_path / "shards")) == 10
    whole = shard.read_bytes()
    headers = range(0, 10 * 1536, 1536)  # each is followed by 700 bytes in two blocks
    if damage == "a broken header":
        shard.write_bytes(whole[: headers[5]] + b"?" + whole[headers[5] + 1 :])
    elif damage == "cut short":
        shard.write_bytes(whole[: headers[5]])
    else:
        shard.write_bytes(whole + whole)
    with pytest.raises(InputError, match="cut short, or damaged"):
        contents(tmp_path / "shards")


class _Sparse(tarfile.TarInfo):
    """A sparse member, of which only the size is stored."""

    def tobuf(self, *_: object) -> bytes:
        head = bytearray(super().tobuf(tarfile.GNU_FORMAT))
        head[156:157] = tarfile.GNUTYPE_SPARSE
        # `realsize` in GNU tar's header, as a number in base 256.
        head[483:495] = b"\x80" + (1 << 40).to_bytes(11)
        head[148:156] = b" " * 8
        head[148:156] = b"%06o\0 " % sum(head)
        return bytes(head)


@pytest.mark.parametrize("form", ["tar", "parquet"])
def test_packed_pictures_are_read_back(
    form: Literal["tar", "parquet"], folder: Path, tmp_path: Path
) -> None:
    packed: list[int] = []
    assert pack(str(folder), str(tmp_path / "shards"), 4, form, packed.append) == 3
    assert packed == [4, 4, 2]
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == [
        f"shard-{n:06}.{form}" for n in range(3)
    ]
    assert contents(tmp_path / "shards") == sorted(CONTENTS.items())
    one = tmp_path / "shards" / f"shard-000002.{form}"
    assert contents(one) == sorted(CONTENTS.items())[8:]
    with pytest.raises(InputError, match="not empty"):
        pack(str(folder), str(tmp_path / "shards"), 4, form, packed.append)
    with pytest.raises(InputError, match="shards already"):
        pack(str(tmp_path / "shards"), str(tmp_path / "again"), 4, form, packed.append)


def test_packing_ends_if_a_picture_cannot_be_read(folder: Path, tmp_path: Path) -> None:
    """A picture is never left out silently."""
    later = folder / "08.png"
    with pytest.raises(FileNotFoundError, match="08"):
        pack(str(folder), str(tmp_path / "shards"), 4, "tar", lambda _: later.unlink(True))


def test_only_the_pictures_in_a_tar_are_read(tmp_path: Path) -> None:
    """WebDataset puts other files beside the pictures."""
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("1.png", "1.json", "2.JPG"):
            (tmp_path / "member").write_text(name)
            tar.add(tmp_path / "member", name)
    assert contents(tmp_path / "a.tar") == [("1.png", b"1.png"), ("2.JPG", b"2.JPG")]


@pytest.mark.parametrize("kept", [512, 700, 1024 + 512, 2 * 1024, 3 * 1024 + 100])
def test_a_tar_that_is_cut_short_is_an_error(kept: int, folder: Path, tmp_path: Path) -> None:
    """It may be cut between two members, in a header, or in a picture."""
    pack(str(folder), str(tmp_path / "shards"), 10, "tar", lambda _: None)
    os.truncate(tmp_path / "shards" / "shard-000000.tar", kept)
    with pytest.raises((InputError, tarfile.TarError)):
        contents(tmp_path / "shards")


def test_a_table_without_the_needed_columns_is_an_error(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"path": ["a"], "image": [b"x"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="image, path; `path` and `bytes` are needed"):
        contents(tmp_path / "a.parquet")


def test_a_value_shared_by_many_rows_is_decoded_row_by_row(tmp_path: Path) -> None:
    """A file of a few kilobytes can hold many gigabytes."""
    size = 8 << 20
    rows: dict[str, list[str] | list[bytes]] = {
        "path": [f"{number}.png" for number in range(50)],
        "bytes": [bytes(size)] * 50,
    }
    parquet.write_table(pa.table(rows), tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 10_000
    del rows
    address = str(tmp_path / "a.parquet")
    (shard,) = find_shards(address, 1)
    before = pa.total_allocated_bytes()
    for _, content in read_pictures(address, shard):
        assert content == bytes(size)
        assert pa.total_allocated_bytes() - before < 10 * size


def test_a_row_without_bytes_is_an_error_of_that_picture(tmp_path: Path) -> None:
    parquet.write_table(
        pa.table({"path": ["a", "b"], "bytes": [None, b"x"]}), tmp_path / "a.parquet"
    )
    (_, error), good = contents(tmp_path / "a.parquet")
    assert isinstance(error, OSError)
    assert good == ("b", b"x")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "does not exist"),
        (lambda folder: folder.mkdir(), "has no pictures in it"),
        (lambda folder: folder.write_bytes(b""), "neither a folder nor"),
    ],
)
def test_an_input_without_pictures_is_explained(
    make: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    make(tmp_path / "x")
    with pytest.raises(InputError, match=message):
        find_shards(str(tmp_path / "x"), 10)


def test_a_folder_with_pictures_and_shards_is_refused(folder: Path) -> None:
    """A table written into the folder of its pictures would be taken for an input."""
    (folder / "a.tar").touch()
    with pytest.raises(InputError, match=r"00\.png and a\.tar"):
        find_shards(str(folder), 10)


def test_an_unknown_file_system_is_explained() -> None:
    with pytest.raises(InputError, match="nowhere://x"):
        find_shards("nowhere://x", 10)


def test_a_changed_file_changes_only_the_identity_of_its_shard(folder: Path) -> None:
    before = [shard.identity for shard in find_shards(str(folder), 4)]
    assert [shard.identity for shard in find_shards(str(folder), 4)] == before
    os.utime(folder / "08.png", (1, 1))
    after = [shard.identity for shard in find_shards(str(folder), 4)]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]


def test_is_below_compares_whole_names() -> None:
    assert is_below("/a/b", "/a")
    assert is_below("/a", "/a/")
    assert not is_below("/ab", "/a")

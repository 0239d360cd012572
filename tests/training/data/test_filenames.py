from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.data.conftest import write_pictures
from training.data.filenames import labels_of
from training.exceptions import DataError

Read = Callable[..., dict[str, str]]
UUIDS = [f"550e8400-e29b-41d4-a716-44665544{number:04x}" for number in range(6)]

CERTAIN = {
    "labels": (["7bx2", "abcd", "9999", "x_y"], ["7bx2", "abcd", "9999", "x_y"]),
    "prices": (["10.46", "11.34", "87.50"], ["10.46", "11.34", "87.50"]),
    "codes": (["0118", "0187", "4215", "9001"], ["0118", "0187", "4215", "9001"]),
    "a running number behind the label": (
        ["AB_0", "CD_1", "EF_2", "AB_3"],
        ["AB", "CD", "EF", "AB"],
    ),
    "with a hyphen": (["AB-7", "CD-8", "EF-9"], ["AB", "CD", "EF"]),
    "a number for each label": (["AB_1", "AB_2", "CD_1", "CD_2"], ["AB", "AB", "CD", "CD"]),
    "numbers from a file manager": (["ab", "ab (1)", "cd", "cd (2)"], ["ab", "ab", "cd", "cd"]),
    "all with a file manager's number": (["ab (1)", "cd (1)", "ef (2)"], ["ab", "cd", "ef"]),
    "copies": (["ab", "ab - Copy", "ab - Copy (2)", "cd copy 2"], ["ab", "ab", "ab", "cd"]),
    "a copy beside its original": (["ab", "ab_2", "c-d"], ["ab", "ab", "c-d"]),
    "a hash": (["ab_00019c1d", "cd_000a9c1d", "ef_77bc9c1d"], ["ab", "cd", "ef"]),
    "a timestamp": (["ab_1699999991", "cd_1699912345", "ef_1612345678"], ["ab", "cd", "ef"]),
    "a UUID": ([f"ab-{one}" for one in UUIDS], ["ab"] * 6),
    "Roboflow's hash": (
        [f"{text}_png.rf.{number:032x}" for number, text in enumerate(("ab", "cd", "ef"), 10**30)],
        ["ab", "cd", "ef"],
    ),
    "a running number before the label": (["0001_ab", "0002_cd", "0003_ef"], ["ab", "cd", "ef"]),
}


@pytest.mark.parametrize("kind", CERTAIN)
def test_the_label_is_found_in_the_file_name(kind: str) -> None:
    """Parts that all names have besides the label are removed, and the note says so."""
    names, labels = CERTAIN[kind]
    found = labels_of([f"some/folder/{name}.png" for name in names])
    assert (found.labels, found.doubt) == (labels, "")
    assert ("without its suffix" in found.note) is (names == labels)


DOUBTFUL = {
    "running numbers": ([f"{number:04}" for number in range(12)], "number the pictures"),
    "a word and a number": ([f"img_{number}" for number in range(12)], "number the pictures"),
    "UUIDs": (UUIDS, "UUIDs or hashes"),
    "hashes": ([f"{number:064x}" for number in range(10**70, 10**70 + 5)], "UUIDs or hashes"),
    "number plates": (["AB-123", "AB-512", "CD-99"], "--label-from prefix"),
    "numbers on both sides": (["115_Lube_45484", "9_ab_3", "3_x_99"], "--label-from suffix"),
    "the same word before": (["captcha_ab", "captcha_cd", "captcha_ef"], "--label-from suffix"),
    "the same word behind": (["ab_done", "cd_done", "ef_done"], "--label-from prefix"),
    "a number behind a dot": (["ab.1", "cd.2", "ef.3"], "--label-from prefix"),
    "a number behind a space": (["ab 1", "cd 2", "ef 3"], "--label-from prefix"),
    "the same letters before": (["capAB", "capCD", "capEF", "capGH", "capIJ"], r"'cap\(\.\+\)'"),
    "two suffixes": (["ab.jpg", "cd.jpg", "ef.jpg", "gh.jpg", "ij.jpg"], r"'\(\.\+\)\\.jpg'"),
    "numbers on some": (["ab_7", "cd_9", "ef", "gh"], "--label-from prefix"),
}


@pytest.mark.parametrize("kind", DOUBTFUL)
def test_file_names_that_may_not_be_labels_are_refused(
    kind: str, read: Read, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is stored until the user says how to read the names, or accepts them."""
    names, doubt = DOUBTFUL[kind]
    folder = write_pictures(tmp_path / "pictures", (f"{name}.png" for name in names))
    with pytest.raises(DataError, match=f"nothing was stored(.|\n)*{doubt}"):
        read(folder)
    assert not (tmp_path / "data").exists()
    assert "no problems found" not in capsys.readouterr().out
    assert set(read(folder, label_from="stem").values()) <= set(names)
    assert len(read(folder, accept=True)) == len(names)


def test_the_doubt_about_numbers_shows_a_name_that_keeps_its_number() -> None:
    """The number of `ab (1)` was cut off as that of a copy."""
    found = labels_of(["ab (1).png", "cd_2.png", "ef.png"])
    assert found.labels == ["ab", "cd_2", "ef"]
    assert "1 of 3 file names end with a number, such as 'cd_2'" in found.doubt


@pytest.mark.parametrize(
    ("way", "label"),
    [
        ("stem", "00_AB-1_x"),
        ("prefix", "00_AB-1"),
        ("suffix", "AB-1_x"),
        ("folder", "seven"),
        (r"\d+_(\w+)-.*", "AB"),
    ],
)
def test_label_from_overrides_the_detection(way: str, label: str) -> None:
    """The option counts, whatever the names look like."""
    assert labels_of(["a/seven/00_AB-1_x.png"], way).labels == [label]


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("middle", "it must be stem, prefix, suffix, folder, or a regular expression"),
        (r"(\d", "is no regular expression"),
        (r"(\d+)", "does not match 'ab' of ab.png"),
    ],
)
def test_a_wrong_label_from_is_refused(way: str, message: str) -> None:
    """The error says what would be right."""
    with pytest.raises(DataError, match=message):
        labels_of(["ab.png"], way)


def test_folders_as_labels_are_proposed(read: Read, tmp_path: Path) -> None:
    """The folders are named by their labels, and the pictures in them are numbered."""
    names = [f"{text}/{number}.png" for text in ("ab", "cd", "ef") for number in (1, 2, 3)]
    folder = write_pictures(tmp_path / "pictures", names)
    with pytest.raises(DataError, match="--label-from folder"):
        read(folder)
    assert read(folder, label_from="folder") == {name: name[:2] for name in names}

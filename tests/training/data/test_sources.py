import zipfile
from pathlib import Path

import pytest

from tests.stripes import picture
from training.data.dataset import Dataset, alphabet_of, digest_of, picture_size_of
from training.data.prepare import prepare
from training.exceptions import DataError

LABELS = {"ab": "ab", "ba": "ba", "abc": "abc"}


def zipped(folder: Path) -> Path:
    archive = folder.parent / "pictures.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.rglob("*"):
            file.write(path, Path("top") / path.relative_to(folder))
        file.writestr("__MACOSX/top/._ab.png", b"resource fork")
    return archive


def manifest(folder: Path, suffix: str = ".csv", delimiter: str = ",") -> Path:
    rows = [("path", "label"), ("ab.png", "ab"), ("ba.PNG", "ba"), ("more/abc.png", "abc")]
    path = (folder / "labels").with_suffix(suffix)
    path.write_text("".join(delimiter.join(row) + "\n" for row in rows), encoding="utf-8-sig")
    return path


def annotation(folder: Path, text: str) -> Path:
    path = folder / "annotation_train.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_folder_zip_and_manifest_give_the_same(folder: Path, tmp_path: Path) -> None:
    """How the pictures come changes nothing about the data set."""
    sources = [folder, zipped(folder), manifest(folder), manifest(folder, ".tsv", "\t")]
    digests = set()
    for number, source in enumerate(sources):
        samples = prepare(source, tmp_path / str(number))
        dataset = Dataset(tmp_path / str(number))
        assert sorted(dataset.samples, key=lambda s: s.sha256) == sorted(
            samples, key=lambda s: s.sha256
        )
        assert {s.label: dataset.read(s) for s in samples} == {s: picture(s) for s in LABELS}
        digests.add(digest_of(samples))
    assert len(digests) == 1
    assert alphabet_of(samples) == "abc"
    assert picture_size_of(samples) == (40, 8)


def test_the_layout_of_mjsynth(tmp_path: Path) -> None:
    """The label stands between the underscores, and may have some itself; empty lines are none."""
    folder = tmp_path / "90kDICT32px"
    names = {"2425/1/115_ab_45484": "ab", "2425/1/9_a_b_3": "a_b", "7/b c/1_c_0": "c"}
    for name, label in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jpg").write_bytes(picture(label.replace("_", " ")))
    lines = "".join(f"./{name}.jpg {place}\n\n" for place, name in enumerate(names))
    samples = prepare(annotation(folder, lines), tmp_path / "data")
    assert {sample.source: sample.label for sample in samples} == {
        f"./{name}.jpg": label for name, label in names.items()
    }


@pytest.mark.parametrize(
    "line",
    ["./1/115_Lube_45484.jpg", "./1/Lube_45484.jpg 45484", "./1/Lube.jpg 3", "115_Lube_1.jpg x"],
)
def test_a_line_that_is_not_of_mjsynth(line: str, tmp_path: Path) -> None:
    """The line is named, with what it should look like."""
    path = annotation(tmp_path, f"./2425/1/115_Lube_45484.jpg 45484\n{line}\n")
    with pytest.raises(DataError, match=r"line 2: .* is not like '\./2425/1/115_Lube_45484\.jpg"):
        prepare(path, tmp_path / "data")


def test_a_manifest_names_its_missing_pictures(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path that leads nowhere is an unreadable picture."""
    path = manifest(folder)
    path.write_text(path.read_text() + "gone.png,gone\n")
    assert len(prepare(path, tmp_path / "data")) == 3
    assert "unreadable picture: gone.png" in capsys.readouterr().out


def test_what_cannot_be_unzipped_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An encrypted or damaged picture is left out like any that cannot be read."""
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for text in ("ab", "ba", "cd"):
            archive.writestr(f"{text}.png", picture(text))
    data = bytearray(path.read_bytes())
    first, second = (data.index(name) for name in (b"ab.png", b"ba.png"))
    data[data.index(b"ab.png", first + 1) - 38] |= 1  # the flag of encryption, in the directory
    data[first - 24] |= 1
    data[second + 6 : second + 12] = b"\xff" * 6
    path.write_bytes(data)
    assert [sample.label for sample in prepare(path, tmp_path / "data")] == ["cd"]
    printed = capsys.readouterr().out
    assert "unreadable picture: ab.png: " in printed
    assert "unreadable picture: ba.png: " in printed


@pytest.mark.parametrize("name", ["labels.csv", "annotation_train.txt"])
def test_a_list_in_another_encoding(name: str, folder: Path, tmp_path: Path) -> None:
    """As spreadsheets write them; what to do is said."""
    (folder / name).write_bytes("path,label\n1/1_ü_2.png 7\n".encode("latin-1"))
    with pytest.raises(DataError, match="save it as UTF-8"):
        prepare(folder / name, tmp_path / "data")


def test_a_line_without_a_path(folder: Path, tmp_path: Path) -> None:
    """It is named by its number."""
    (folder / "labels.csv").write_text("label,path\nab,ab.png\nba\n")
    with pytest.raises(DataError, match="line 3: there is no path"):
        prepare(folder / "labels.csv", tmp_path / "data")


def test_a_manifest_without_its_columns(folder: Path, tmp_path: Path) -> None:
    """A manifest must name its columns."""
    path = folder / "labels.csv"
    path.write_text("ab.png,ab\n")
    with pytest.raises(DataError, match="it needs path and label"):
        prepare(path, tmp_path / "data")


@pytest.mark.parametrize("source", ["nothing", "notes.txt"])
def test_sources_of_no_known_kind(source: str, folder: Path, tmp_path: Path) -> None:
    """What can be given is said."""
    with pytest.raises(DataError, match=r"a folder of <label>\.png files, a zip"):
        prepare(folder / source, tmp_path / "data")

import json
import os
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.stripes import picture
from tests.training.data.conftest import texts, write_pictures
from training.data.dataset import Dataset, alphabet_of, digest_of, picture_size_of
from training.data.prepare import prepare
from training.exceptions import DataError

Read = Callable[..., dict[str, str]]
LABELS = {"ab": "ab", "ba": "ba", "abc": "abc"}


def zipped(folder: Path) -> Path:
    archive = folder.parent / "pictures.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.rglob("*"):
            file.write(path, Path("top") / path.relative_to(folder))
        file.writestr("__MACOSX/top/._ab.png", b"resource fork")
    return archive


def manifest(folder: Path) -> Path:
    rows = [("path", "label"), ("ab.png", "ab"), ("ba.PNG", "ba"), ("more/abc.png", "abc")]
    path = folder / "labels.csv"
    path.write_text("".join(",".join(row) + "\n" for row in rows), encoding="utf-8-sig")
    return path


def test_folder_zip_and_table_give_the_same_data_set(folder: Path, tmp_path: Path) -> None:
    sources = [folder, zipped(folder), manifest(folder), zipped(folder)]
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


def test_the_layout_of_mjsynth_is_read(read: Read, tmp_path: Path) -> None:
    """The label is between the first and the last underscore, and may have more underscores."""
    folder = tmp_path / "90kDICT32px"
    names = {"2425/1/115_ab_45484.jpg": "ab", "2425/1/9_a_b_3.jpg": "a_b", "7/b c/1_c_0.jpg": "c"}
    write_pictures(folder, names)
    lines = "".join(f"./{name} {name[:-4].rpartition('_')[2]}\n\n" for name in names)
    (folder / "annotation_train.txt").write_text(lines)
    assert read(folder / "annotation_train.txt") == names
    assert read(folder) == names


@pytest.mark.parametrize(
    "line",
    ["./1/115_Lube_45484.jpg", "./1/Lube_45484.jpg 45484", "./1/Lube.jpg 3", "115_Lube_1.jpg x"],
)
def test_a_line_that_does_not_match_mjsynth_is_refused(line: str, tmp_path: Path) -> None:
    """The error names the line and shows a valid line."""
    path = tmp_path / "annotation_train.txt"
    path.write_text(f"./2425/1/115_Lube_45484.jpg 45484\n{line}\n")
    with pytest.raises(DataError, match=r"line 2: .* is not like '\./2425/1/115_Lube_45484\.jpg"):
        prepare(path, tmp_path / "data")


def test_each_folder_may_have_its_own_table(read: Read, tmp_path: Path) -> None:
    """Data sets of Hugging Face have a table for each split."""
    names = ["train/0001.png", "train/0002.png", "test/0001.png"]
    folder = write_pictures(tmp_path / "pictures", names)
    for split, labels in (("train", ("ab", "cd")), ("test", ("ef",))):
        rows = [
            json.dumps({"file_name": f"{number:04}.png", "text": label})
            for number, label in enumerate(labels, start=1)
        ]
        (folder / split / "metadata.jsonl").write_text("\n".join(rows))
    assert read(folder) == dict(zip(names, ("ab", "cd", "ef"), strict=True))


def test_a_text_file_beside_each_picture_has_its_label(
    read: Read, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A picture without a text file, and a text of several lines, are named."""
    names = [f"{number:04}.png" for number in range(10)]
    folder = write_pictures(tmp_path / "pictures", names)
    for name, text in zip(names, texts(10), strict=True):
        (folder / name).with_suffix(".txt").write_text(f"{text}\n", encoding="utf-8-sig")
    (folder / "0007.txt").rename(folder / "0007.gt.txt")
    (folder / "0008.txt").write_text("two\nlines\n")
    (folder / "0009.txt").unlink()
    assert read(folder) == dict(zip(names[:8], texts(8), strict=True))
    printed = capsys.readouterr().out
    assert "the label is in the text file of the picture's name" in printed
    assert "picture without a text file: 0009.png" in printed
    assert "text of several lines: 0008.txt" in printed
    (folder / "0001.txt").write_text("0 0.5 0.5 0.25 0.125\n1 0.5 0.5 0.25 0.125\n")
    with pytest.raises(DataError, match=r"0001\.txt reads .* a box of YOLO's, no label"):
        read(folder)


def test_files_that_are_left_out_are_named(
    read: Read, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hidden files, and files that are no pictures, do not count as lost pictures."""
    folder = write_pictures(tmp_path / "pictures", ["ab.png", "cd.png", "ef.png"])
    hidden = [
        ".ipynb_checkpoints/ab-checkpoint.png", "__MACOSX/._ab.png", "._cd.png", ".DS_Store",
        "Thumbs.db",
    ]  # fmt: skip
    write_pictures(folder, hidden)
    (folder / "notes.md").write_text("notes")
    assert read(folder) == {"ab.png": "ab", "cd.png": "cd", "ef.png": "ef"}
    printed = capsys.readouterr().out
    assert all(f"hidden or system file: {name}\n" in printed for name in hidden)
    assert "file that is no picture: notes.md\n" in printed
    assert "left out: 5 × hidden or system file, 1 × file that is no picture" in printed


@pytest.mark.parametrize("suffix", [".json", ".txt"])
def test_files_that_may_have_the_labels_are_not_ignored(
    suffix: str, read: Read, tmp_path: Path
) -> None:
    """The format of the files is unknown, or fewer than half of the pictures have a text file."""
    folder = write_pictures(tmp_path / "pictures", ["x7.png", "k1.png", "f3.png"])
    (folder / "k1").with_suffix(suffix).write_text('{"label": "ab"}')
    with pytest.raises(DataError, match=rf"1 of 3 pictures have a file .* as k1\{suffix}, which"):
        read(folder)
    assert len(read(folder, label_from="stem")) == 3


def test_text_files_in_utf_16_are_read(read: Read, tmp_path: Path) -> None:
    """The editor of Windows calls UTF-16 Unicode."""
    folder = write_pictures(tmp_path / "pictures", ["1.png"])
    (folder / "1.txt").write_text("ü\r\n", encoding="utf-16")
    assert read(folder) == {"1.png": "ü"}


def test_links_and_pipes_are_reported(
    read: Read, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Broken links and pipes cannot be read; links to folders are not followed."""
    folder = write_pictures(tmp_path / "pictures", ["ab.png", "cd.png", "ef.png"])
    (folder / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "pipe.png")
    assert len(read(folder)) == 3
    printed = capsys.readouterr().out
    for name in ("gone.png", "pipe.png"):
        assert f"unreadable picture: {name}: it is a link to nothing, or no regular file" in printed
    (folder / "more").symlink_to(write_pictures(tmp_path / "other", ["gh.png"]))
    with pytest.raises(DataError, match="more is a link to a folder, whose pictures are not read"):
        read(folder)


def test_a_folder_that_cannot_be_read_is_an_error(read: Read, tmp_path: Path) -> None:
    """Otherwise, the report would say `no problems found` while pictures are missing."""
    folder = write_pictures(tmp_path / "pictures", ["ab.png"])
    place = os.open(folder, os.O_RDONLY)
    for _ in range(20):  # too long a path; missing permissions would not stop an administrator
        os.mkdir("x" * 250, dir_fd=place)
        below = os.open("x" * 250, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    with pytest.raises(DataError, match=r"the folder .*x cannot be read: File name too long"):
        read(folder)


def test_a_zip_with_different_files_of_one_name_is_refused(read: Read, tmp_path: Path) -> None:
    """Programs that append to a zip leave such files; equal copies are accepted."""
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ab.png", picture("ab"))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("ab.png", picture("ab"))
    assert read(path) == {"ab.png": "ab"}
    with (
        zipfile.ZipFile(path, "a") as archive,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        archive.writestr("ab.png", picture("cd"))
    with pytest.raises(DataError, match=r"zip has several different files called ab\.png"):
        read(path)


def test_a_table_may_name_pictures_by_the_end_of_their_paths(
    read: Read, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Case does not matter; an end that fits several pictures counts as missing."""
    names = ["images/One.png", "images/two.PNG", "images/3/x.png", " 5 .png", "images/4/x.png"]
    folder = write_pictures(tmp_path / "pictures", names)
    (folder / "labels.csv").write_text(
        "path,label\none.png,ab\ntwo.png,cd\n3\\x.png,e\n 5 .png,d\nx.png,f\n"
    )
    assert read(folder) == dict(zip(names[:4], ("ab", "cd", "e", "d"), strict=True))
    printed = capsys.readouterr().out
    assert "paths that were found by their end: 4, such as one.png (labels.csv, line 2)" in printed
    assert "missing picture: x.png (labels.csv, line 6)" in printed


def test_labels_on_which_annotators_differ_are_left_out(
    read: Read, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Label Studio exports the text of each annotator; no annotator is preferred."""
    folder = write_pictures(tmp_path / "pictures", ["1.png", "2.png"])
    typed = {"1.png": ["ab", "ab"], "2.png": ["cd", "ce"]}
    tasks = [
        {
            "id": 1,
            "data": {"image": name},
            "annotations": [{"result": [{"value": {"text": [one]}}]} for one in texts],
        }
        for name, texts in typed.items()
    ]
    (folder / "export.json").write_text(json.dumps(tasks))
    assert read(folder) == {"1.png": "ab"}
    printed = capsys.readouterr().out
    assert "duplicate with different labels: 2.png (cd), 2.png (ce): which is right?" in printed


def test_pictures_without_a_known_suffix_count_as_lost(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures are recognized by content. Archives are named, too: they may contain pictures."""
    (folder / "cd").write_bytes(picture("cd"))
    (folder / "dc.png_").write_bytes(picture("dc"))
    (folder / "more.tar.gz").write_bytes(b"\x1f\x8b")
    for number, source in enumerate((folder, zipped(folder))):
        prepare(source, tmp_path / str(number))
        printed = capsys.readouterr().out
        assert "2 × picture whose name does not end like one" in printed
        assert "1 × archive that is not unpacked, 1 × file that is no picture" in printed
    for name in texts(5):
        (folder / f"x{name}").write_bytes(picture(name))
    with pytest.raises(DataError, match="7 of 10 pictures are lost"):
        prepare(folder, tmp_path / "data")
    with pytest.raises(DataError, match=r"more\.tar\.gz is an archive that is not read; unpack it"):
        prepare(folder / "more.tar.gz", tmp_path / "data")


def test_pictures_in_other_formats_count_as_lost(read: Read, tmp_path: Path) -> None:
    """A folder of mostly photos from a phone is not reduced to the few that can be read."""
    folder = write_pictures(tmp_path / "pictures", ["ab.png", "cd.png"])
    for name in "ghijk":
        (folder / f"{name}.HEIC").write_bytes(b"heic")
    with pytest.raises(DataError, match="5 of 7 pictures are lost"):
        read(folder)
    assert len(read(folder, accept=True)) == 2


def test_pictures_that_no_table_names_are_reported(
    read: Read, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table of only a few of the pictures is refused."""
    names = [f"{number:04}.png" for number in range(10)]
    folder = write_pictures(tmp_path / "pictures", names)
    (folder / "labels.csv").write_text(
        "path,label\n"
        + "".join(f"{name},{text}\n" for name, text in zip(names, texts(6), strict=False))
    )
    assert len(read(folder)) == 6
    assert "picture that no table names: 0009.png" in capsys.readouterr().out
    (folder / "labels.csv").write_text("path,label\n0000.png,aa\n0001.png,ab\n0002.png,ac\n")
    with pytest.raises(DataError, match="7 of 10 pictures are lost"):
        read(folder)


def test_a_row_without_a_label_names_its_picture(
    read: Read, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The picture is left out once, for its empty label, whatever its name looks like."""
    folder = write_pictures(tmp_path / "pictures", [f"plate ({n}).png" for n in range(10)])
    rows = [f"plate ({n}).png,{text}\n" for n, text in enumerate([*texts(9), ""])]
    (folder / "labels.csv").write_text("path,label\n" + "".join(rows))
    assert len(read(folder)) == 9
    printed = capsys.readouterr().out
    assert "empty label: plate (9).png" in printed
    assert "picture that no table names" not in printed


def test_missing_pictures_of_a_table_are_named(
    folder: Path, read: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    """Missing pictures are named with their lines, and count as lost."""
    path = manifest(folder)
    path.write_text(path.read_text() + "gone.png,gone\n")
    assert len(read(path)) == 3
    assert "missing picture: gone.png (labels.csv, line 5)" in capsys.readouterr().out
    path.write_text(path.read_text() + "".join(f"gone{n}.png,gone\n" for n in range(4)))
    with pytest.raises(DataError, match="5 of 8 pictures are lost"):
        read(path)


def archive_of(path: Path, names: Mapping[bytes, str]) -> Path:
    """A zip with these names in bytes, and with the Unicode path of each name unless empty."""
    with zipfile.ZipFile(path, "w") as archive:
        for text, (raw, unicode) in zip(texts(80), names.items(), strict=False):
            # A placeholder with as many ASCII letters as the name has bytes.
            info = zipfile.ZipInfo("x" * len(raw))
            if unicode:
                field = b"\1" + struct.pack("<L", zlib.crc32(raw)) + unicode.encode()
                info.extra = struct.pack("<HH", 0x7075, len(field)) + field
            archive.writestr(info, picture(text))
    data = path.read_bytes()
    for raw in names:
        data = data.replace(b"x" * len(raw), raw, 1)
    # The directory at the end has a second copy of each name.
    for raw in names:
        data = data.replace(b"x" * len(raw), raw, 1)
    path.write_bytes(data)
    return path


def test_names_of_a_zip_in_utf_8_without_its_flag_are_read(read: Read, tmp_path: Path) -> None:
    """macOS writes such names, in NFD; labels are stored in NFC."""
    names = [unicodedata.normalize("NFD", text) for text in ("é", "öb", "äöü")]
    path = archive_of(tmp_path / "a.zip", {f"{name}.png".encode(): "" for name in names})
    assert sorted(read(path).values()) == ["äöü", "é", "öb"]


def test_a_zip_with_names_in_an_unknown_encoding_is_refused(read: Read, tmp_path: Path) -> None:
    """The error shows the names in likely encodings, and the user chooses an encoding."""
    path = archive_of(
        tmp_path / "a.zip", {"验证.png".encode("gbk"): "", "码.png".encode("gbk"): ""}
    )
    with pytest.raises(DataError, match=r"'验证.png' in gbk, .* in cp437.*--zip-encoding gbk"):
        read(path)
    assert sorted(read(path, zip_encoding="gbk").values()) == ["码", "验证"]
    with pytest.raises(DataError, match="cannot be read with --zip-encoding utf-8"):
        read(path, zip_encoding="utf-8")


def test_names_in_the_extra_field_of_a_zip_are_read(read: Read, tmp_path: Path) -> None:
    """Info-ZIP writes Unicode names there."""
    names = {"码a.png".encode("gbk"): "码a.png", "证证.png".encode("gbk"): "证证.png"}
    assert sorted(read(archive_of(tmp_path / "a.zip", names)).values()) == ["码a", "证证"]


def test_file_names_that_are_not_in_utf_8_are_refused(read: Read, tmp_path: Path) -> None:
    """Unpacking an archive in another encoding leaves such names."""
    folder = write_pictures(tmp_path / "pictures", ["ab.png"])
    try:
        (folder / "\udcd1\udce9.png").write_bytes(picture("ab"))
    except (OSError, UnicodeError):
        pytest.skip("this file system has names in UTF-8 only")
    with pytest.raises(DataError, match=r"'\\udcd1\\udce9.png' in .* is not in UTF-8; rename"):
        read(folder)


def test_pictures_that_cannot_be_unzipped_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Encrypted and damaged pictures are left out like any unreadable picture."""
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for text in ("ab", "ba", "cd"):
            archive.writestr(f"{text}.png", picture(text))
    data = bytearray(path.read_bytes())
    first, second = (data.index(name) for name in (b"ab.png", b"ba.png"))
    data[data.index(b"ab.png", first + 1) - 38] |= 1  # the encryption flag in the directory
    data[first - 24] |= 1
    data[second + 6 : second + 12] = b"\xff" * 6
    path.write_bytes(data)
    assert [sample.label for sample in prepare(path, tmp_path / "data")] == ["cd"]
    printed = capsys.readouterr().out
    assert "unreadable picture: ab.png: " in printed
    assert "unreadable picture: ba.png: " in printed


def test_a_file_of_gigabytes_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such a file is not read, neither from a folder nor from a zip that declares its size."""
    folder = write_pictures(tmp_path / "pictures", ["ab.png", "ba.png"])
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.writestr(file.name, file.read_bytes())
    data = bytearray(path.read_bytes())
    directory = data.index(b"ab.png", data.index(b"ab.png") + 1) - 46
    struct.pack_into("<I", data, directory + 24, 0xF0000000)  # the uncompressed size
    path.write_bytes(data)
    with (folder / "ab.png").open("r+b") as sparse:
        sparse.truncate(1 << 32)
    for number, source in enumerate((folder, path)):
        samples = prepare(source, tmp_path / str(number))
        assert [sample.label for sample in samples] == ["ba"]
        printed = capsys.readouterr().out
        assert "unreadable picture: ab.png: it has 4," in printed


def test_a_name_too_long_for_a_file_system_is_left_out(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A zip may have such a name. To look for a label in the name would take very long."""
    archive = zipped(folder)
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(f"top/a{'_a' * 1000}_1.png", picture("cc"))
    samples = prepare(archive, tmp_path / "data", accept=True)
    assert sorted(sample.label for sample in samples) == sorted(LABELS)
    assert "name that is too long: top/a_a_a" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["directory", "table"])
def test_a_damaged_zip_is_refused(damage: str, tmp_path: Path) -> None:
    """The damage is in the directory of the zip, or in a table of labels."""
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ab.png", picture("ab"))
        archive.writestr("labels.csv", "path,label\nab.png,ab\n")
    data = bytearray(path.read_bytes())
    if damage == "directory":
        data[data.index(b"PK\x01\x02")] = 0
    else:
        data[data.index(b"path,label")] ^= 1
    path.write_bytes(data)
    expected = {"directory": "is a damaged zip", "table": "labels.csv cannot be read: Bad CRC"}
    with pytest.raises(DataError, match=expected[damage]):
        prepare(path, tmp_path / "data")


@pytest.mark.parametrize("name", ["nothing", "picture.png"])
def test_a_source_of_unknown_kind_is_refused(name: str, tmp_path: Path) -> None:
    """The error says which kinds are possible."""
    (tmp_path / "picture.png").write_bytes(picture("ab"))
    with pytest.raises(DataError, match=r"takes a folder of pictures, a zip of one, or a table"):
        prepare(tmp_path / name, tmp_path / "data")

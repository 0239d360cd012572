import io
import os
import shutil
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.ocr.preprocessing import decode_gray
from tests.stripes import draw, encode, picture
from tests.training.data.conftest import texts, write_pictures
from training.data.dataset import Dataset
from training.data.prepare import main, prepare
from training.exceptions import DataError, reported

Read = Callable[..., dict[str, str]]
Printed = pytest.CaptureFixture[str]


def test_the_size_of_a_photo_is_measured_after_its_exif_rotation(tmp_path: Path) -> None:
    """Training and service also rotate a photo that was stored on its side."""
    folder = tmp_path / "photos"
    folder.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    stored = Image.open(io.BytesIO(picture("ab"))).transpose(Image.Transpose.ROTATE_90)
    stored.save(folder / "ab.png", exif=turned)
    (sample,) = prepare(folder, tmp_path / "data")
    assert (sample.width, sample.height) == (40, 8)


def test_a_folder_of_labelled_pictures_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    """A folder with the labels.csv of `captcha-ocr label` is no data set of `make data`."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "p1.png").write_bytes(picture("ab"))
    (own / "labels.csv").write_text("path,label\np1.png,ab\n")
    with pytest.raises(DataError, match=r"own exists and is not a data set of `make data`"):
        prepare(folder, own)
    assert (own / "p1.png").exists()


@pytest.mark.parametrize(("free", "fits"), [(8 << 20, True), (6 << 20, False)])
def test_a_source_that_does_not_fit_the_disk_is_refused(
    free: int, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small zip can unpack to more than the free space; duplicate pictures take no space."""
    source = tmp_path / "pictures.zip"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
        for text in texts(3):
            for name in (text, f"more/{text}"):
                archive.writestr(f"{name}.png", picture(text) + bytes(1 << 20))
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: SimpleNamespace(total=free, used=0, free=free)
    )
    if fits:
        prepare(source, tmp_path / "data")
        return
    with pytest.raises(DataError, match=r"more than 3 MiB.* at most 64 GiB, .*free.*--out"):
        prepare(source, tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["pictures.zip"]


def test_a_failure_to_write_is_reported_in_one_line(folder: Path, capsys: Printed) -> None:
    with pytest.raises(SystemExit, match="1"):
        main([str(folder), "--out", str(folder / "ab.png" / "data")])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: [Errno ")


def test_pictures_are_not_all_held_in_memory(tmp_path: Path) -> None:
    """Together, the pictures of a small zip may be larger than the memory."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    size = 4 << 20
    for text in texts(20):
        (folder / f"{text}.png").write_bytes(picture(text) + bytes(size))
    tracemalloc.start()
    try:
        prepare(folder, tmp_path / "data")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * size


def test_pictures_that_are_left_out_are_named_and_counted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each picture has a line with the reason, and the last lines count the reasons."""
    (folder / "broken.png").write_bytes(picture("ab")[:50])
    (folder / "text.png").write_bytes(b"text")
    (folder / "cd.png").write_bytes(picture("cc"))
    (folder / "dc.png").write_bytes(picture("cc"))
    (folder / "more" / "ab.png").write_bytes(picture("ab"))
    (folder / f"{'ab' * 110}.png").write_bytes(picture("dbdb"))
    with pytest.raises(DataError, match="5 of 8 pictures are lost"):
        prepare(folder, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    capsys.readouterr()
    samples = prepare(folder, tmp_path / "data", accept=True)
    assert sorted(s.label for s in samples) == ["ab", "abc", "ba"]
    assert len(list((tmp_path / "data" / "pictures").iterdir())) == 3
    lines = capsys.readouterr().out.splitlines()
    for beginning in (
        "unreadable picture: broken.png: The PNG",
        "unreadable picture: text.png: Not a picture",
        "duplicate with different labels: cd.png (cd), dc.png (dc)",
        "duplicate: ab.png (ab), more/ab.png (ab)",
        f"label too long: {'ab' * 110}.png: '{'ab' * 110}' needs 220 time steps, a model",
    ):
        assert sum(line.startswith(beginning) for line in lines) == 1, beginning
    assert "warning: too few pictures: training needs at least 10" in lines
    assert "left out: 1 × file that is no picture, 2 × unreadable picture" in lines[-2]
    assert "1 × duplicate with different labels" in lines[-2]
    assert lines[-1] == "accepted: 5 of 8 pictures are lost, for the reasons above"


def test_a_failure_leaves_the_old_data(folder: Path, tmp_path: Path) -> None:
    """Only a complete data set replaces the old data set."""
    prepare(folder, tmp_path / "data")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="none holds no pictures"):
        prepare(tmp_path / "none", tmp_path / "data")
    with pytest.raises(DataError, match="not the expected pictures"):
        prepare(folder, tmp_path / "data", digest="0")
    assert len(Dataset(tmp_path / "data").samples) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "none", "pictures"]


def test_an_interruption_leaves_old_or_new_data(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interruption may also come while files are deleted."""
    destination = tmp_path / "data"
    prepare(folder, destination)
    remove = os.rmdir

    def remove_and_interrupt(*args: Any, **kwargs: Any) -> None:
        remove(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rmdir", remove_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare(folder, destination)
    dataset = Dataset(destination)
    assert all(dataset.read(sample) for sample in dataset.samples)


def test_folders_of_the_user_are_not_overwritten(folder: Path, tmp_path: Path) -> None:
    """`make data` replaces neither a folder that it did not make, nor its own source."""
    (tmp_path / "letters").mkdir()
    with pytest.raises(DataError, match="not a data set"):
        prepare(folder, tmp_path / "letters")
    with pytest.raises(DataError, match="would be replaced"):
        prepare(folder, folder)
    assert (folder / "ab.png").exists()


def test_a_huge_label_is_shortened_in_messages(read: Read, tmp_path: Path, capsys: Printed) -> None:
    """The text file beside a picture may be a book."""
    folder = write_pictures(tmp_path / "pictures", ["1.png", "2.png"])
    (folder / "1.txt").write_text("ab")
    (folder / "2.txt").write_text("a" * 1_000_000)
    assert read(folder) == {"1.png": "ab"}
    printed = capsys.readouterr().out
    assert "label too long: 2.png: 'aaaa" in printed
    assert max(map(len, printed.splitlines())) < 1100
    (folder / "labels.csv").write_text(f"path,label\n1.png,{'a' * 100_000},b\n")
    with pytest.raises(SystemExit):
        main([str(folder), "--out", str(tmp_path / "new")])
    error = capsys.readouterr().err
    assert "line 2: 3 fields where there are 2 columns" in error
    assert len(error) < 1100


def test_control_characters_in_file_names_are_escaped(tmp_path: Path, capsys: Printed) -> None:
    """Otherwise a name could control the terminal, through the output or through an error."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "\x1b[31mab.png").write_bytes(picture("ab"))
    (folder / "\x1b[32m.png").write_bytes(b"bad")
    (folder / "\x1b[33m.txt").touch()
    with pytest.raises(SystemExit), reported():
        prepare(folder, tmp_path / "data", label_from="(x).*\x1b")
    with suppress(DataError):
        prepare(folder, tmp_path / "data")
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    for number, text in ((31, printed.out), (32, printed.out), (33, printed.out)):
        assert rf"\x1b[{number}m" in text
    assert r"\x1b" in printed.err


def test_data_without_problems_are_reported_as_such(
    read: Read, tmp_path: Path, capsys: Printed
) -> None:
    names = [f"{a}{b}{c}{d}.png" for a in "abcd" for b in "abcd" for c in "abcd" for d in "abcd"]
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in names[:120]:
        # With 120 labels, no symbol is rare.
        (folder / name).write_bytes(picture(name[:4].replace("", " ").strip()[:10]))
    read(folder)
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == "no problems found", printed


def test_the_first_pictures_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    """Before anything is stored: as a sheet and as text, with alphabet, sizes and time steps."""
    names = [f"{text.upper()}_{number}.png" for number, text in enumerate(texts(12))]
    write_pictures(tmp_path / "pictures", names)
    monkeypatch.chdir(tmp_path)
    main(["pictures"])
    printed = capsys.readouterr().out
    assert "all file names end with a running number; the label is the file name up to" in printed
    assert "the first pictures and their labels, also in report/data/first.png:" in printed
    assert "  AA_0.png  AA\n  AB_1.png  AB\n  AC_2.png" in printed
    assert "\n12 pictures, 12 different labels of 2 characters\n4 symbols\n" in printed
    assert "  Latin capital letters, 4: ABCD\n" in printed
    assert "every picture has 40×8 pixels\n" in printed
    assert "takes them as 200×50, in 50 time steps, of which the longest label, 'AA', needs 3" in (
        printed
    )
    with Image.open("report/data/first.png") as sheet:
        pixels = np.asarray(sheet.convert("L"))
    assert pixels.shape[0] < pixels.shape[1] < 1200
    # Two gray levels of the stripes, which no paper, frame or text has.
    assert {level * 255 // 4 for level in (1, 2)} <= set(np.unique(pixels).tolist())
    assert len(Dataset(tmp_path / "data").samples) == 12


def test_doubtful_labels_give_exit_status_1_until_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    """The sheet is written in any case."""
    write_pictures(tmp_path / "pictures", [f"{number:04}.png" for number in range(12)])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["pictures"])
    assert ended.value.code == 1
    assert "error: nothing was stored" in capsys.readouterr().err
    assert Path("report/data/first.png").exists()
    assert not Path("data").exists()
    main(["pictures", "--accept"])
    printed = capsys.readouterr().out
    assert "accepted: the file names, such as '0000', number the pictures" in printed
    assert "no problems found" not in printed
    assert len(Dataset(Path("data")).samples) == 12


def test_labels_are_stored_in_nfc(read: Read, tmp_path: Path, capsys: Printed) -> None:
    """A letter in two Unicode forms is one symbol."""
    folder = write_pictures(tmp_path / "pictures", ["\u00e9a.png", "e\u0301b.png", "ce\u0301.png"])
    assert sorted(read(folder).values()) == ["c\u00e9", "\u00e9a", "\u00e9b"]
    assert "2 labels in another form of Unicode: stored in NFC" in capsys.readouterr().out
    assert "e\u0301b" in read(folder, normalization="none").values()
    assert "U+0301 COMBINING ACUTE ACCENT, 2 ×: joins the character before it" in (
        capsys.readouterr().out
    )


def test_full_width_letters_beside_usual_letters_are_reported(
    read: Read, tmp_path: Path, capsys: Printed
) -> None:
    """The warning names both letters; NFKC makes them one symbol."""
    folder = write_pictures(tmp_path / "pictures", ["A1.png", "Ａ2.png", "B3.png"])
    assert "Ａ2" in read(folder).values()
    assert (
        "odd character U+FF21 FULLWIDTH LATIN CAPITAL LETTER A, 1 ×: a form of 'A', which occurs "
        "too: --normalization NFKC makes them one" in capsys.readouterr().out
    )
    assert sorted(read(folder, normalization="NFKC").values()) == ["A1", "A2", "B3"]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P", "CMYK", "I;16"])
@pytest.mark.parametrize("suffix", ["tif", "TIFF"])
def test_a_tiff_is_stored_as_a_png(
    mode: str, suffix: str, read: Read, tmp_path: Path, capsys: Printed
) -> None:
    """The service reads the same gray values as from another format."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    gray = draw("a b a").point(lambda level: 0 if level < 128 else 255)
    image = gray.convert(mode) if mode != "I;16" else Image.fromarray(
        np.asarray(gray, np.uint16) * 257
    )  # fmt: skip
    image.save(folder / f"ab.{suffix}", "TIFF")
    assert read(folder) == {f"ab.{suffix}": "ab"}
    assert "1 TIFF: stored as PNG" in capsys.readouterr().out
    dataset = Dataset(tmp_path / "data")
    stored = decode_gray(dataset.read(dataset.samples[0]))
    assert np.abs(stored - np.asarray(gray) / 255).max() < 0.02


def tiled(side: int) -> bytes:
    """A TIFF of 40×8 pixels that are the corner of a tile of `side` × `side` pixels."""
    data = zlib.compress(bytes(side * side))
    tags = {256: 40, 257: 8, 258: 8, 259: 8, 262: 1, 322: side, 323: side, 324: 122, 325: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


@pytest.mark.parametrize("kind", ["broken", "floats", "too large", "a large tile"])
def test_a_tiff_that_cannot_be_read_is_named(
    kind: str, read: Read, tmp_path: Path, capsys: Printed
) -> None:
    """The line also has the reason."""
    folder = write_pictures(tmp_path / "pictures", ["cd.png"])
    images = {
        "broken": draw("ab"),
        "floats": Image.fromarray(np.zeros((8, 40), np.float32)),
        "too large": Image.new("1", (4000, 2000)),
    }
    data = encode(images[kind], "TIFF") if kind in images else tiled(3000)
    (folder / "ab.tif").write_bytes(data[: 20 if kind == "broken" else None])
    assert read(folder) == {"cd.png": "cd"}
    assert "unreadable picture: ab.tif: The TIFF cannot be read: " in capsys.readouterr().out

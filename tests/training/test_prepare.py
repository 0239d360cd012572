import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from tests.stripes import picture
from training import prepare as prepare_module
from training.dataset import Dataset, alphabet_of, digest_of, picture_size_of
from training.exceptions import DataError
from training.prepare import prepare
from training.public_data import download

LABELS = {"ab": "ab", "ba": "ba", "abc": "abc"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three labelled pictures, one of them in a subfolder, and a file that is none."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    (folder / "ab.png").write_bytes(picture("ab"))
    (folder / "ba.PNG").write_bytes(picture("ba"))
    (folder / "more" / "abc.png").write_bytes(picture("abc"))
    (folder / "notes.txt").write_text("not a picture")
    return folder


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


def test_the_size_is_that_of_the_upright_picture(tmp_path: Path) -> None:
    """As training and serving read it, of a photo that was stored on its side."""
    folder = tmp_path / "photos"
    folder.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    stored = Image.open(io.BytesIO(picture("ab"))).transpose(Image.Transpose.ROTATE_90)
    stored.save(folder / "ab.png", exif=turned)
    (sample,) = prepare(folder, tmp_path / "data")
    assert (sample.width, sample.height) == (40, 8)


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


def test_what_is_wrong_is_named_and_counted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every picture that is left out is named with its reason, and the reasons are counted."""
    (folder / "broken.png").write_bytes(picture("ab")[:50])
    (folder / "text.png").write_bytes(b"text")
    (folder / ".png").write_bytes(picture("dddd"))
    (folder / "cd.png").write_bytes(picture("cc"))
    (folder / "dc.png").write_bytes(picture("cc"))
    (folder / "more" / "ab.png").write_bytes(picture("ab"))
    (folder / "aaaaaa.png").write_bytes(picture("dbdb"))
    samples = prepare(folder, tmp_path / "data")
    assert sorted(s.label for s in samples) == ["ab", "abc", "ba"]
    assert len(list((tmp_path / "data" / "pictures").iterdir())) == 3
    lines = capsys.readouterr().out.splitlines()
    for beginning in (
        "unreadable picture: broken.png: The PNG",
        "unreadable picture: text.png: Not a picture",
        "empty label: .png",
        "duplicate with different labels: cd.png (cd), dc.png (dc)",
        "duplicate: ab.png (ab), more/ab.png (ab)",
        "label too long: aaaaaa.png: 'aaaaaa' needs 11 time steps, the picture's width gives 10",
    ):
        assert sum(line.startswith(beginning) for line in lines) == 1, beginning
    assert "too few: training needs at least 10" in lines
    assert "2 × unreadable picture" in lines[-1]
    assert "1 × empty label" in lines[-1]
    assert "1 × duplicate with different labels" in lines[-1]


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


def test_a_failure_leaves_the_old_data(folder: Path, tmp_path: Path) -> None:
    """A data set is only replaced by one that could be made."""
    prepare(folder, tmp_path / "data")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="none holds no pictures"):
        prepare(tmp_path / "none", tmp_path / "data")
    with pytest.raises(DataError, match="not the expected pictures"):
        prepare(folder, tmp_path / "data", digest="0")
    assert len(Dataset(tmp_path / "data").samples) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "none", "pictures"]


def test_nothing_of_the_user_is_overwritten(folder: Path, tmp_path: Path) -> None:
    """A folder that `make data` did not make is not replaced, nor the source itself."""
    (tmp_path / "letters").mkdir()
    with pytest.raises(DataError, match="not a data set"):
        prepare(folder, tmp_path / "letters")
    with pytest.raises(DataError, match="would be replaced"):
        prepare(folder, folder)
    assert (folder / "ab.png").exists()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a web server over a folder `web`."""
    (tmp_path / "web").mkdir()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "web")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_download(web: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without DATA the public set is downloaded and its content checked."""
    zipped(folder).rename(tmp_path / "web" / "set.zip")
    monkeypatch.chdir(tmp_path)
    command = ["prepare", "--url", f"{web}/set.zip"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as ended:
        prepare_module.main()
    assert ended.value.code == 1
    assert not (tmp_path / "data").exists()
    expected = digest_of(prepare(folder, tmp_path / "other"))
    monkeypatch.setattr("training.public_data.DIGEST", expected)
    prepare_module.main()
    assert len(Dataset(tmp_path / "data").samples) == 3


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/set.zip", "nonsense"])
def test_offline(address: str, tmp_path: Path) -> None:
    """Without a network the way around is said."""
    with pytest.raises(DataError, match=r"make data DATA="):
        download(address, tmp_path / "set.zip")


def test_a_missing_download(web: str, tmp_path: Path) -> None:
    """An address without a file is told as such."""
    with pytest.raises(DataError, match="File not found"):
        download(f"{web}/none.zip", tmp_path / "set.zip")

import io
from pathlib import Path

import pytest
from PIL import Image

from tests.stripes import picture
from training.data.dataset import Dataset
from training.data.prepare import prepare
from training.exceptions import DataError


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

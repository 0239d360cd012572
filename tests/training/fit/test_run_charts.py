from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.fit.run_charts import draw_confusions, draw_curves
from training.fit.runs import Run


@pytest.mark.parametrize("name", ["curves", "validation", "confusions", "worst"])
def test_a_finished_run_has_its_charts(run: Run, name: str) -> None:
    """No chart is blank."""
    with Image.open(run.folder / f"{name}.png") as image:
        assert min(image.size) > 100
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 5


def test_misread_pictures_have_red_captions(run: Run) -> None:
    """The small run has learned next to nothing, so its worst pictures have red captions."""
    with Image.open(run.folder / "worst.png") as image:
        assert (np.asarray(image.convert("RGB")) == (187, 0, 0)).all(axis=2).any()


def test_curves_are_drawn_for_a_single_epoch(tmp_path: Path) -> None:
    """A run that an older version began lacks some figures."""
    columns = "epoch,strength,learning_rate,loss,val_loss,val_cer,val_exact_match"
    values = "1,0,,16.3,16.4,1.0,0.0,0.0,5.2"
    path = tmp_path / "history.csv"
    path.write_text(f"{columns},val_clean_exact_match,seconds\n{values}\n")
    draw_curves(path, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 0


@pytest.mark.parametrize(
    "pairs",
    [
        [("ab", "ab")],
        [("a", ""), ("", "b"), ("$_", "^\\")],
        [(chr(0x4E00 + n), chr(0x4E01 + n)) for n in range(3000)],
    ],
    ids=["no error", "nothing and signs", "thousands of symbols"],
)
def test_confusions_are_drawn_for_any_alphabet(
    pairs: list[tuple[str, str]], tmp_path: Path
) -> None:
    """The matrix keeps a readable size."""
    draw_confusions(pairs, tmp_path / "confusions.png")
    with Image.open(tmp_path / "confusions.png") as image:
        assert max(image.size) < 2000

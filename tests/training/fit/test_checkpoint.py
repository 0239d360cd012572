import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from training.fit.checkpoint import Progress
from training.fit.config import TrainConfig
from training.fit.runs import Run
from training.fit.schedule import planned_epochs
from training.models.crnn import build_crnn


def figures(val_loss: float, val_cer: float = 0.1, exact: float = 0.0) -> dict[str, float]:
    return {"val_loss": val_loss, "val_cer": val_cer, "val_clean_exact_match": exact}


def test_patience_counts_epochs_without_a_lower_loss() -> None:
    """A lower validation loss starts the count anew; the best epoch is kept."""
    config = TrainConfig(patience=3)
    progress = Progress()
    planned = []
    for loss in (3.0, 2.0, 2.5, 2.5, 1.0, 1.5, 1.5, 1.5):
        progress.record(figures(loss), config)
        planned.append(planned_epochs(config, progress, 0))
    assert (progress.epoch, progress.best_epoch) == (8, 5)
    assert planned == [100] * 7 + [8]
    cosine = replace(config, schedule="cosine")
    assert planned_epochs(cosine, progress, 0) == 12, "the rate comes down first"


@pytest.mark.parametrize("setting", ["keep_last", "train_on_validation"])
def test_the_last_epoch_is_kept_where_no_loss_may_choose(setting: str) -> None:
    """On request, or where validation pictures are trained on, the last epoch is the best."""
    chosen: dict[str, Any] = {setting: True}
    config = TrainConfig(**chosen)
    progress = Progress()
    for loss in (3.0, 2.0, 2.5):
        progress.record(figures(loss), config)
    assert progress.best_epoch == 3
    planned = planned_epochs(replace(config, patience=1), progress, 0)
    assert planned == (100 if config.train_on_validation else 3), "validation may say when to stop"


def test_the_plateau_of_blanks_costs_no_patience() -> None:
    """As long as nothing at all is read, training has not begun to fail."""
    progress = Progress()
    for loss in (16.3, 16.4, 16.5, 16.4):
        progress.record(figures(loss, val_cer=1.0), TrainConfig())
    assert planned_epochs(TrainConfig(patience=1), progress, 0) == 100


def test_distortions_begin_when_clean_pictures_are_read() -> None:
    """Clean pictures alone until enough of them are read; then the strength rises to its end."""
    config = TrainConfig(strength=0.8, clean_until=0.5, ramp_epochs=4)
    progress = Progress()
    strengths = []
    for exact in (0.0, 0.4, 0.5, 0.0, 0.9, 0.9, 0.9):
        strengths.append(progress.strength(config))
        progress.record(figures(1.0, exact=exact), config)
    assert strengths == [None, None, None, *map(pytest.approx, (0.2, 0.4, 0.6, 0.8))]
    assert progress.strength(config) == pytest.approx(0.8)


def test_distortions_are_gentle_until_most_clean_pictures_are_read() -> None:
    """Their strength follows what was read in the last epoch, down as well as up."""
    config = TrainConfig(strength=0.8, gentle=0.25, clean_until=0.0, ramp_epochs=1)
    progress = Progress(clean_epochs=0)
    strengths = []
    for exact in (0.5, 0.8, 0.9, 1.0, 0.7):
        strengths.append(progress.strength(config))
        progress.record(figures(1.0, exact=exact), config)
    assert strengths == pytest.approx([0.2, 0.2, 0.2, 0.5, 0.8])
    assert progress.strength(config) == pytest.approx(0.2)


def test_epochs_that_are_taught_places_are_not_distorted() -> None:
    """A distortion would move the characters away from where they are said to be."""
    config = TrainConfig(strength=0.8, clean_until=0.5, ramp_epochs=2, aligned_epochs=2)
    progress = Progress()
    strengths = []
    for _ in range(4):
        strengths.append(progress.strength(config))
        progress.record(figures(1.0, exact=0.9), config)
    assert strengths == pytest.approx([None, None, 0.8, 0.8])


def test_the_seed_recipe_never_distorts() -> None:
    """Without a strength, pictures stay clean however well they are read."""
    progress = Progress()
    progress.record(figures(1.0, exact=1.0), TrainConfig())
    assert progress.strength(TrainConfig()) is None


def test_a_run_of_an_older_version_goes_on(run: Run, config: TrainConfig, tmp_path: Path) -> None:
    """Figures that its first epochs lack stay empty in the table."""
    splits = {split: run.split(split) for split in ("train", "validation", "test")}
    resumed = Run.create(tmp_path, config, run.facts, splits)
    progress = Progress(epoch=1, history=[{"epoch": 1, **figures(2.0)}])
    progress.record({**figures(1.0), "learning_rate": 0.001}, config)
    model = build_crnn(48, 16, 4)
    model.compile("adam")
    progress.save(resumed, model)
    with (resumed.folder / "history.csv").open() as file:
        assert [row["learning_rate"] for row in csv.DictReader(file)] == ["", "0.001"]

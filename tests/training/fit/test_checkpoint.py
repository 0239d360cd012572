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
    """A lower validation loss restarts the count; the best epoch is kept."""
    config = TrainConfig(patience=3)
    progress = Progress()
    planned = []
    for loss in (3.0, 2.0, 2.5, 2.5, 1.0, 1.5, 1.5, 1.5):
        progress.record(figures(loss), config)
        planned.append(planned_epochs(config, progress, 0))
    assert (progress.epoch, progress.best_epoch) == (8, 5)
    assert planned == [100] * 7 + [8]
    cosine = replace(config, schedule="cosine")
    assert planned_epochs(cosine, progress, 0) == 12, "the learning rate falls first"


@pytest.mark.parametrize("setting", ["keep_last", "train_on_validation"])
def test_the_last_epoch_is_kept_if_validation_may_not_choose(setting: str) -> None:
    """The last epoch is kept on request, or if validation pictures are trained on."""
    chosen: dict[str, Any] = {setting: True}
    config = TrainConfig(**chosen)
    progress = Progress()
    for loss in (3.0, 2.0, 2.5):
        progress.record(figures(loss), config)
    assert progress.best_epoch == 3
    planned = planned_epochs(replace(config, patience=1), progress, 0)
    assert planned == (100 if config.train_on_validation else 3), (
        "validation may decide when to stop"
    )


def test_epochs_before_anything_is_read_cost_no_patience() -> None:
    """A model that gives only blanks has not begun to overfit."""
    progress = Progress()
    for loss in (16.3, 16.4, 16.5, 16.4):
        progress.record(figures(loss, val_cer=1.0), TrainConfig())
    assert planned_epochs(TrainConfig(patience=1), progress, 0) == 100


def test_distortions_begin_when_clean_pictures_are_read() -> None:
    """Epochs are clean until enough pictures are read; then the strength rises to its maximum."""
    config = TrainConfig(strength=0.8, clean_until=0.5, ramp_epochs=4)
    progress = Progress()
    strengths = []
    for exact in (0.0, 0.4, 0.5, 0.0, 0.9, 0.9, 0.9):
        strengths.append(progress.strength(config))
        progress.record(figures(1.0, exact=exact), config)
    assert strengths == [None, None, None, *map(pytest.approx, (0.2, 0.4, 0.6, 0.8))]
    assert progress.strength(config) == pytest.approx(0.8)


def test_distortions_are_gentle_until_most_clean_pictures_are_read() -> None:
    """The strength depends on the last epoch, so the strength can also fall."""
    config = TrainConfig(strength=0.8, gentle=0.25, clean_until=0.0, ramp_epochs=1)
    progress = Progress(clean_epochs=0)
    strengths = []
    for exact in (0.5, 0.8, 0.9, 1.0, 0.7):
        strengths.append(progress.strength(config))
        progress.record(figures(1.0, exact=exact), config)
    assert strengths == pytest.approx([0.2, 0.2, 0.2, 0.5, 0.8])
    assert progress.strength(config) == pytest.approx(0.2)


def test_epochs_with_places_of_characters_are_not_distorted() -> None:
    """A distortion would move the characters away from their places."""
    config = TrainConfig(strength=0.8, clean_until=0.5, ramp_epochs=2, aligned_epochs=2)
    progress = Progress()
    strengths = []
    for _ in range(4):
        strengths.append(progress.strength(config))
        progress.record(figures(1.0, exact=0.9), config)
    assert strengths == pytest.approx([None, None, 0.8, 0.8])


def test_the_seed_recipe_never_distorts() -> None:
    """Without a strength, pictures stay clean, however many are read."""
    progress = Progress()
    progress.record(figures(1.0, exact=1.0), TrainConfig())
    assert progress.strength(TrainConfig()) is None


def test_a_run_of_an_older_version_can_go_on(run: Run, config: TrainConfig, tmp_path: Path) -> None:
    """Figures that the first epochs lack stay empty in the table."""
    splits = {split: run.split(split) for split in ("train", "validation", "test")}
    resumed = Run.create(tmp_path, config, run.facts, splits)
    progress = Progress(epoch=1, history=[{"epoch": 1, **figures(2.0)}])
    progress.record({**figures(1.0), "learning_rate": 0.001}, config)
    model = build_crnn(48, 16, 4)
    model.compile("adam")
    progress.save(resumed, model)
    with (resumed.folder / "history.csv").open() as file:
        assert [row["learning_rate"] for row in csv.DictReader(file)] == ["", "0.001"]

from dataclasses import replace

import pytest

from training.fit.checkpoint import Progress
from training.fit.config import TrainConfig
from training.fit.schedule import learning_rate, planned_epochs, time_for_halves, warm_up


def after(config: TrainConfig, losses: list[float], cer: float = 0.1) -> list[float]:
    """The rate of the first epoch, and of the next after each validation loss."""
    progress = Progress()
    rates = [learning_rate(config, progress)]
    for loss in losses:
        figures = {"val_loss": loss, "val_cer": cer, "val_clean_exact_match": 1 - cer}
        progress.record(figures, config)
        rates.append(learning_rate(config, progress))
    return rates


def test_constant() -> None:
    """By default the rate stays as it is."""
    assert set(after(TrainConfig(), [3.0] * 9)) == {0.001}


def test_cosine_falls_once_pictures_are_read() -> None:
    """Constant before; then along a half cosine, half way down in the middle."""
    config = TrainConfig(schedule="cosine", epochs=5, clean_until=0.5)
    assert after(config, [3.0] * 3, cer=0.9) == [0.001] * 4
    rates = after(config, [3.0] * 5)
    assert rates[:2] == [0.001, 0.001]
    assert rates[3] == pytest.approx(0.000505)
    assert rates[5] == pytest.approx(0.00001)
    assert rates == sorted(rates, reverse=True)


def test_plateau_lowers_after_patience() -> None:
    """Each stretch without a lower loss halves the rate; a gain starts the count anew."""
    config = TrainConfig(schedule="plateau", plateau_patience=2, plateau_factor=0.5)
    shares = [rate / 0.001 for rate in after(config, [3, 3, 2, 2, 2, 2, 2, 1, 1])]
    assert shares == [1, 1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_the_plateau_of_blanks_lowers_nothing() -> None:
    """A model that does not read yet is not slowed down."""
    config = TrainConfig(schedule="plateau", plateau_patience=2)
    assert set(after(config, [16.0] * 9, cer=1.0)) == {0.001}


def test_warm_up() -> None:
    """The rate rises evenly over the steps, and nothing happens where there are none."""
    assert [warm_up(1.0, step, 3) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert warm_up(1.0, 0, 0) == 1.0


def test_stopping_can_watch_the_error_rate() -> None:
    """With val_cer a falling loss is no gain, and of equal rates the lowest loss is kept."""
    progress, config = Progress(), TrainConfig(monitor="val_cer")
    for loss, cer in ((3.0, 0.5), (2.0, 0.2), (1.0, 0.2), (0.5, 0.3)):
        figures = {"val_loss": loss, "val_cer": cer, "val_clean_exact_match": 0.0}
        progress.record(figures, config)
    assert progress.best_epoch == 3
    assert planned_epochs(replace(config, patience=2), progress, 0) == 4


def timed(*seconds: float) -> Progress:
    """The progress after epochs that took so long."""
    history = [
        {"seconds": one, "val_cer": 1 / number, "val_loss": 1 / number}
        for number, one in enumerate(seconds, 1)
    ]
    return Progress(len(seconds), history=history)


def test_epochs_that_the_time_allows() -> None:
    """Those of the settings, unless they would take longer than `minutes`, export included."""
    config = TrainConfig(epochs=50, minutes=10)
    assert planned_epochs(replace(config, minutes=0), timed(900.0), 0) == 50
    assert planned_epochs(config, timed(), 0) == 50
    assert planned_epochs(config, timed(40.0, 20.0), 30) == 2 + (600 - 120 - 30 - 60) // 20
    assert planned_epochs(config, timed(*[2.0] * 9), 30) == 50
    assert planned_epochs(config, timed(900.0), 0) == 1, "the time is up"


def test_pictures_that_are_learned_end_a_training() -> None:
    """The rate comes down in a few more epochs; more would be learned by heart."""
    config = TrainConfig(learned=0.98, schedule="cosine", epochs=50, train_on_validation=True)
    progress = Progress()
    planned = []
    for share in (0.5, 0.97, 0.99, 0.9):
        figures = {"val_loss": 1.0, "val_cer": 0.1, "val_clean_exact_match": share}
        progress.record(figures, config)
        planned.append(planned_epochs(config, progress, 0))
    assert planned == [50, 50, 7, 7]


def test_halves_are_trained_where_as_much_time_is_left_again() -> None:
    """Two minutes are for the export; without a limit there is always time."""
    limited = TrainConfig(minutes=10)
    assert time_for_halves(limited, 240)
    assert not time_for_halves(limited, 241)
    assert time_for_halves(TrainConfig(), 10_000)

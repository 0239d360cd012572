from dataclasses import replace

import pytest

from training.fit.checkpoint import Progress
from training.fit.config import TrainConfig
from training.fit.schedule import learning_rate, planned_epochs, time_for_halves, warm_up


def rates_of(config: TrainConfig, losses: list[float], cer: float = 0.1) -> list[float]:
    """The learning rates of the first epoch, and of the epoch after each validation loss."""
    progress = Progress()
    rates = [learning_rate(config, progress, config.epochs)]
    for loss in losses:
        figures = {"val_loss": loss, "val_cer": cer, "val_clean_exact_match": 1 - cer}
        progress.record(figures, config)
        rates.append(learning_rate(config, progress, config.epochs))
    return rates


def test_a_constant_schedule_keeps_the_learning_rate() -> None:
    """A constant schedule is the default."""
    assert set(rates_of(TrainConfig(), [3.0] * 9)) == {0.001}


def test_a_cosine_schedule_begins_once_pictures_are_read() -> None:
    """Before, the rate is constant. Then a half cosine lowers the rate, by half in the middle."""
    config = TrainConfig(schedule="cosine", epochs=5, clean_until=0.5)
    assert rates_of(config, [3.0] * 3, cer=0.9) == [0.001] * 4
    rates = rates_of(config, [3.0] * 5)
    assert rates[:2] == [0.001, 0.001]
    assert rates[3] == pytest.approx(0.000505)
    assert rates[5] == pytest.approx(0.00001)
    assert rates == sorted(rates, reverse=True)


def test_a_plateau_schedule_lowers_the_rate_after_its_patience() -> None:
    """Two epochs without a lower loss halve the rate; a lower loss restarts the count."""
    config = TrainConfig(schedule="plateau", plateau_patience=2, plateau_factor=0.5)
    shares = [rate / 0.001 for rate in rates_of(config, [3, 3, 2, 2, 2, 2, 2, 1, 1])]
    assert shares == [1, 1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_a_plateau_schedule_waits_until_pictures_are_read() -> None:
    """A model that does not read yet keeps its learning rate."""
    config = TrainConfig(schedule="plateau", plateau_patience=2)
    assert set(rates_of(config, [16.0] * 9, cer=1.0)) == {0.001}


def test_warm_up_raises_the_rate_evenly() -> None:
    """Without warm-up steps, the rate is unchanged."""
    assert [warm_up(1.0, step, 3) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert warm_up(1.0, 0, 0) == 1.0


def test_stopping_can_watch_the_error_rate() -> None:
    """With `val_cer`, a lower loss is no gain; of equal error rates, the lowest loss is kept."""
    progress, config = Progress(), TrainConfig(monitor="val_cer")
    for loss, cer in ((3.0, 0.5), (2.0, 0.2), (1.0, 0.2), (0.5, 0.3)):
        figures = {"val_loss": loss, "val_cer": cer, "val_clean_exact_match": 0.0}
        progress.record(figures, config)
    assert progress.best_epoch == 3
    assert planned_epochs(replace(config, patience=2), progress, 0) == 4


def timed(*seconds: float) -> Progress:
    """The progress after epochs of so many seconds."""
    history = [
        {"seconds": one, "val_cer": 1 / number, "val_loss": 1 / number}
        for number, one in enumerate(seconds, 1)
    ]
    return Progress(len(seconds), history=history)


def test_minutes_limit_the_number_of_epochs() -> None:
    """The limit includes the export."""
    config = TrainConfig(epochs=50, minutes=10)
    assert planned_epochs(replace(config, minutes=0), timed(900.0), 0) == 50
    assert planned_epochs(config, timed(), 0) == 50
    assert planned_epochs(config, timed(40.0, 20.0), 30) == 2 + (600 - 120 - 30 - 60) // 20
    assert planned_epochs(config, timed(*[2.0] * 9), 30) == 50
    assert planned_epochs(config, timed(900.0), 0) == 1, "the time is up"


def test_a_training_ends_soon_after_its_pictures_are_learned() -> None:
    """The rate falls in a few more epochs. Further epochs would learn the pictures by heart."""
    config = TrainConfig(learned=0.98, schedule="cosine", epochs=50, train_on_validation=True)
    progress = Progress()
    planned = []
    for share in (0.5, 0.97, 0.99, 0.9):
        figures = {"val_loss": 1.0, "val_cer": 0.1, "val_clean_exact_match": share}
        progress.record(figures, config)
        planned.append(planned_epochs(config, progress, 0))
    assert planned == [50, 50, 7, 7]


def test_halves_are_trained_if_as_much_time_is_left_as_was_spent() -> None:
    """Two minutes are kept for the export; without a limit, there is always time."""
    limited = TrainConfig(minutes=10)
    assert time_for_halves(limited, 240)
    assert not time_for_halves(limited, 241)
    assert time_for_halves(TrainConfig(), 10_000)

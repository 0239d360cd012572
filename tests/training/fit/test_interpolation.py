import keras
import numpy as np
import pytest

from training.fit.interpolation import losses_between, move_back

START = [np.full((1, 1), 2, np.float32)]


@pytest.fixture
def model() -> keras.Model:
    """A model of one weight: 2 before the training, and 12 after the training."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.full((1, 1), 12)])
    return model


def weight_of(model: keras.Model) -> float:
    return float(model.get_weights()[0].item())


def test_part_of_the_training_is_taken_back(model: keras.Model) -> None:
    """Seven tenths of the way from 2 to 12 are 9."""
    move_back(model, START, 0.7)
    assert np.isclose(weight_of(model), 9)


def test_the_loss_is_measured_for_every_share(model: keras.Model) -> None:
    """The loss is lowest at a weight of 9. Afterwards, the model has its trained weights again."""
    losses = losses_between(model, START, lambda: abs(weight_of(model) - 9))
    assert min(losses, key=losses.__getitem__) == 0.7
    assert np.isclose(losses[1.0], 3)
    assert weight_of(model) == 12

import keras
import numpy as np

from training.fit.ema import adam, averaged


def trained(momentum: float, steps: int) -> tuple[keras.Model, list[float]]:
    """A model of one weight, fitted for some steps, and the weight after each of them."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(adam(0.1, momentum), loss="mse")
    weights = []
    for _ in range(steps):
        model.train_on_batch(np.ones((1, 1)), np.full((1, 1), 5.0))
        weights.append(model.get_weights()[0].item())
    return model, weights


def test_the_average_is_exponential() -> None:
    """Every step keeps the momentum's share of the average, which starts at the first weights."""
    model, weights = trained(0.75, steps=4)
    expected = weights[0]
    for weight in weights[1:]:
        expected = 0.75 * expected + 0.25 * weight
    with averaged(model):
        assert np.isclose(model.get_weights()[0].item(), expected)


def test_training_goes_on_with_the_last_weights() -> None:
    """After a validation with the average, the weights are those of the last step."""
    model, weights = trained(0.75, steps=3)
    with averaged(model):
        assert model.get_weights()[0].item() != weights[-1]
    assert model.get_weights()[0].item() == weights[-1]


def test_without_momentum_nothing_is_averaged() -> None:
    """A momentum of 0 leaves the optimizer without an average."""
    model, weights = trained(0.0, steps=2)
    with averaged(model):
        assert model.get_weights()[0].item() == weights[-1]


def test_before_the_first_step_there_is_no_average() -> None:
    """A model that starts from a run keeps its weights until it is trained."""
    model, _ = trained(0.5, steps=0)
    model.optimizer.build(model.trainable_variables)
    first = model.get_weights()[0].item()
    with averaged(model):
        assert model.get_weights()[0].item() == first

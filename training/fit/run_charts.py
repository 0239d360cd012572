"""Draws the charts of a finished run.

runs/<run>/curves.png        loss, error rates and learning rate over the epochs
runs/<run>/validation.png    validation pictures with their readings
runs/<run>/confusions.png    which characters are read as which
runs/<run>/worst.png         the validation pictures whose labels surprise the model most
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from service.ocr.decoding.ctc import CtcCodec
from service.ocr.preprocessing import FloatArray
from training.data.contact_sheet import INK, WRONG, Cell, draw_sheet, printable
from training.evaluation.metrics import Pair, confusions
from training.fit.loader import Examples
from training.fit.runs import Run
from training.models.loss import ctc_loss
from training.synthetic.levels import image_of

_MOST_READ = 1000
_SHOWN = 60
_MOST_CHARACTERS = 40
_NOTHING = "∅"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A picture `(width, height, channels)`, its label, the text read, and the loss in nats."""

    picture: FloatArray
    label: str
    text: str
    loss: float


def draw_run(run: Run, model: keras.Model, validation: Examples, codec: CtcCodec) -> None:
    """Draws the four charts into the run's folder.

    Args:
        model: the model with the weights that the run keeps.
    """
    attempts = _attempts(model, validation, codec)
    draw_curves(run.folder / "history.csv", run.folder / "curves.png")
    even = attempts[:: max(1, len(attempts) // _SHOWN)][:_SHOWN]
    sheet = _sheet(even, f"{len(even)} of {len(validation.texts)} validation pictures, as read")
    sheet.save(run.folder / "validation.png")
    draw_confusions([(one.label, one.text) for one in attempts], run.folder / "confusions.png")
    worst = sorted(attempts, key=lambda one: (one.label == one.text, -one.loss))[:_SHOWN]
    _sheet(worst, "the most surprising labels, with the loss").save(run.folder / "worst.png")


def _attempts(model: keras.Model, validation: Examples, codec: CtcCodec) -> list[Attempt]:
    """Readings of up to `_MOST_READ` validation pictures, spread evenly."""
    count = len(validation.texts)
    places = np.unique(np.linspace(0, count - 1, min(count, _MOST_READ)).astype(np.int64))
    pictures = validation.pictures[places]
    probabilities = model.predict(pictures, batch_size=64, verbose=0)
    losses = ctc_loss(codec.blank_index)(validation.labels[places], probabilities)
    return [
        Attempt(picture, validation.texts[place], codec.decode(row), float(loss))
        for picture, place, row, loss in zip(pictures, places, probabilities, losses, strict=True)
    ]


def _sheet(attempts: Sequence[Attempt], title: str) -> Image.Image:
    cells = []
    for one in attempts:
        image = image_of(one.picture.swapaxes(0, 1).squeeze())
        right = one.label == one.text
        caption = one.label if right else f"{one.label} → {one.text or _NOTHING}"
        caption += f"  {one.loss:.2f}"
        cells.append(Cell(image, caption, INK if right else WRONG))
    width, height, _ = attempts[0].picture.shape
    return draw_sheet(cells, 5, min(max(width, 110), 240), min(max(height, 24), 120), title)


def draw_curves(history: Path, path: Path) -> None:
    """Draws the columns of a history file over the epochs."""
    with history.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = {name: [float(row[name] or "nan") for row in rows] for name in rows[0]}
    charts = {
        "loss in nats": ("loss", "val_loss"),
        "error rate and exact matches": ("val_cer", "val_exact_match", "val_clean_exact_match"),
        "learning rate": ("learning_rate",),
        "strength of distortions": ("strength",),
    }
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    for chart, (title, names) in zip(axes.flat, charts.items(), strict=True):
        for name in (name for name in names if name in columns):
            chart.plot(columns["epoch"], columns[name], label=name, marker=".", markersize=3)
        chart.set_title(title, size=10, loc="left")
        chart.set_ylim(bottom=0)
        if len(chart.lines) > 1:
            chart.legend(fontsize=8)
    for chart in axes[-1]:
        chart.set_xlabel("epoch")
        chart.xaxis.get_major_locator().set_params(integer=True)
    figure.savefig(path, dpi=110)


def draw_confusions(pairs: Sequence[Pair], path: Path) -> None:
    """Draws how often each character is read as each other; if many, the most confused ones.

    The last row and column stand for no character: characters invented, and characters missed.
    """
    counts = confusions(pairs)
    involved = {symbol: 0 for label, _ in pairs for symbol in label}
    for (expected, read), count in counts.items():
        for symbol in (expected, read):
            involved[symbol] = involved.get(symbol, 0) + count
    involved.pop("", None)
    most = sorted(involved, key=lambda symbol: -involved[symbol])[:_MOST_CHARACTERS]
    symbols = [*sorted(most), ""]
    matrix = np.array([[counts[expected, read] for read in symbols] for expected in symbols])
    side = 2.5 + 0.22 * len(symbols)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(matrix, cmap="Reds", vmin=0, vmax=max(1, matrix.max()))
    names = [printable(symbol).replace("$", r"\$") or _NOTHING for symbol in symbols]
    axes.set_xticks(range(len(symbols)), names, size=8)
    axes.set_yticks(range(len(symbols)), names, size=8)
    for row, column in np.argwhere(matrix):
        dark = matrix[row, column] > 0.6 * matrix.max()
        axes.text(
            column, row, matrix[row, column], ha="center", va="center", size=7,
            color="white" if dark else "black",
        )  # fmt: skip
    axes.set(xlabel="read", ylabel="expected")
    left_out = len(involved) - len(most)
    axes.set_title(
        f"{sum(counts.values())} errors in {sum(len(label) for label, _ in pairs)} characters"
        + (f"; {left_out} characters left out" if left_out else ""),
        size=9,
    )
    figure.savefig(path, dpi=110)

"""`make compare`: compares exported models: parameters, time, clean and robust exact match.

The models take turns with every picture while their time is measured, so that other work on the
machine slows all of them alike. Compare the ratios of the times.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from rich.progress import track

from service.ocr.recognizer import Recognizer
from training.augmentation.conditions import CONDITIONS
from training.data.dataset import Dataset, Sample
from training.data.split import SPLITS
from training.evaluation.robustness import figures_of, read_condition, summarize
from training.evaluation.target import samples_of
from training.exceptions import RunError
from training.fit.runs import Run
from training.settings import Parser

_TIMED_PICTURES = 20


@dataclass(frozen=True, slots=True)
class Contestant:
    """A model, facts about it, and pictures that it was not trained on."""

    path: Path
    architecture: str
    parameters: int
    recognizer: Recognizer
    samples: Sequence[Sample]


@dataclass(frozen=True, slots=True)
class Row:
    """The measurements of a model; `milliseconds` is CPU time for a picture."""

    contestant: Contestant
    milliseconds: float
    clean: dict[str, Any]
    robust: dict[str, Any]


def contestant_of(path: Path, dataset: Dataset, runs: Path, split: str) -> Contestant:
    """Opens a model.

    Raises:
        ModelError: the model cannot be used.
        DataError: it is unknown which pictures the model was not trained on.
    """
    recognizer = Recognizer.load(path)
    run = Run(runs / recognizer.metadata.training_run)
    if not run.folder.exists() and path.resolve().parent.name == run.name:
        # The model may be a run's own export, in the folder of the run.
        run = Run(path.resolve().parent)
    try:
        architecture = run.config.architecture
    except RunError:
        architecture = "–"
    samples = samples_of(split, dataset, recognizer, run)
    graph = onnx.load(path).graph
    return Contestant(path, architecture, parameters_of(graph), recognizer, samples)


def parameters_of(graph: onnx.GraphProto) -> int:
    """The number of trained parameters in a graph.

    The parameters of normalisations are part of the convolutions before them.
    """
    scaled = [node.input for node in graph.node if node.op_type.endswith("uantizeLinear")]
    integers = {data for data, *_ in scaled}
    scales = {name for _, *names in scaled for name in names}
    sizes = {
        weights.name: int(np.prod(weights.dims))
        for weights in graph.initializer
        if weights.data_type == onnx.TensorProto.FLOAT or weights.name in integers
        if weights.dims and weights.name not in scales
    }
    # The LSTM of ONNX has two biases, that of Keras one.
    biases = sum(sizes[node.input[3]] // 2 for node in graph.node if node.op_type == "LSTM")
    return sum(sizes.values()) - biases


def time_of(contestants: Sequence[Contestant], dataset: Dataset, rounds: int) -> list[float]:
    """CPU milliseconds of each model for a picture: the median over pictures and rounds."""
    batches = []
    for one in contestants:
        size = one.recognizer.metadata.width, one.recognizer.metadata.height
        channels = one.recognizer.metadata.channels
        batches.append(dataset.tensors(one.samples[:_TIMED_PICTURES], *size, channels))
    times: list[list[float]] = [[] for _ in contestants]
    for _ in range(rounds):
        for number in range(max(map(len, batches))):
            for one, tensors, measured in zip(contestants, batches, times, strict=True):
                place = number % len(tensors)
                started = time.thread_time()
                one.recognizer.infer(tensors[place : place + 1])
                measured.append(1000 * (time.thread_time() - started))
    return [statistics.median(measured) for measured in times]


def measure(contestants: Sequence[Contestant], dataset: Dataset, rounds: int) -> list[Row]:
    """Times all models, and reads every condition with each model."""
    rows = []
    times = time_of(contestants, dataset, rounds)
    for one, milliseconds in zip(contestants, times, strict=True):
        figures = [
            figures_of(condition, read_condition(one.recognizer, dataset, one.samples, condition))
            for condition in track(CONDITIONS, description=str(one.path))
        ]
        clean = next(row for row in figures if row["family"] == "clean")
        rows.append(Row(one, milliseconds, clean, summarize(figures)))
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table; times also as ratios to the time of the first row."""
    lines = [
        "| model | architecture | parameters | CPU-ms a picture | ratio | clean | robust mean "
        "| robust minimum |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        one = row.contestant
        lines.append(
            f"| {one.recognizer.metadata.version} | {one.architecture} | {one.parameters:,} "
            f"| {row.milliseconds:.2f} | {row.milliseconds / rows[0].milliseconds:.2f} "
            f"| {row.clean['exact']}/{row.clean['pictures']} | {row.robust['mean']:.4f} "
            f"| {row.robust['minimum']:.4f} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser("compare", __doc__)
    parser.add_argument("models", nargs="+", type=Path, help="exported models")
    parser.add_argument("--data", type=Path, default=Path("data"), help="default: %(default)s")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="default: %(default)s")
    parser.add_argument("--split", choices=(*SPLITS, "all"), default="test")
    parser.add_argument("--rounds", type=int, default=20, help="default: %(default)s")
    arguments = parser.parse_args(argv)
    dataset = Dataset(arguments.data)
    contestants = [
        contestant_of(path, dataset, arguments.runs, arguments.split) for path in arguments.models
    ]
    rows = measure(contestants, dataset, arguments.rounds)
    print(table(rows))
    print(f"\nsplit {arguments.split}, {len(CONDITIONS)} conditions")

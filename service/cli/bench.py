"""`captcha-ocr bench`: what a picture costs on this machine, without HTTP."""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.model import DEFAULT_MODEL, ModelOption, load_model

if TYPE_CHECKING:
    from service.ocr.recognizer import Recognizer

_MODEL_STAGE = "session.run"


def bench(
    model: ModelOption = DEFAULT_MODEL,
    pictures: Annotated[
        int, typer.Option(min=1, help="How many pictures to read, in each of the two parts.")
    ] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Measure what a picture costs on this machine.

    First shows the CPU time of each stage in one thread, then the pictures per second on all cores.
    Reads the golden pictures that the model contains.
    """
    from service.runtime.cpu_budget import cpu_threads

    recognizer = load_model(model)
    stages = stage_times(recognizer, pictures)
    threads = cpu_threads()
    figures = {
        "cpu_ms": {stage: round(value, 4) for stage, value in stages.items()},
        "of_session_run": {
            stage: round(value / stages[_MODEL_STAGE], 4) for stage, value in stages.items()
        },
        "threads": threads,
        "pictures_per_second": round(throughput(recognizer, pictures, threads), 1),
    }
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        _print_table(figures)


def stage_times(recognizer: "Recognizer", count: int) -> dict[str, float]:
    """Mean CPU milliseconds of a picture in each stage.

    The stages take turns picture by picture, so that a machine that is busy with something else
    slows all of them alike.
    """
    import numpy as np

    decoder = recognizer.decoder
    data = [picture.data for picture in recognizer.metadata.golden]
    tensors = [recognizer.preprocess(picture).tensor[np.newaxis] for picture in data]
    outputs = [recognizer.infer(tensor)[0] for tensor in tensors]
    stages: dict[str, Callable[[int], object]] = {
        "preprocessing": lambda i: recognizer.preprocess(data[i]),
        _MODEL_STAGE: lambda i: recognizer.infer(tensors[i]),
        "decoding": lambda i: decoder.decode(outputs[i]),
    }
    times: dict[str, list[float]] = {stage: [] for stage in stages}
    for number in range(count):
        for stage, run in stages.items():
            started = time.thread_time()
            run(number % len(data))
            times[stage].append(time.thread_time() - started)
    return {stage: 1000 * statistics.mean(values) for stage, values in times.items()}


def throughput(recognizer: "Recognizer", count: int, threads: int) -> float:
    """Pictures read per second of wall time, in the way in which `predict` reads them."""
    import tempfile

    from service.cli.reading import read_pictures
    from service.ocr.decoding.decoder import PLAIN

    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, str(number)) for number in range(len(recognizer.metadata.golden))]
        for file, picture in zip(files, recognizer.metadata.golden, strict=True):
            file.write_bytes(picture.data)
        names = [str(files[number % len(files)]) for number in range(count)]
        started = time.perf_counter()
        for _ in read_pictures(recognizer, names, PLAIN, threads):
            pass
        return count / (time.perf_counter() - started)


def _print_table(figures: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for column in ("stage", "CPU-ms a picture", f"× {_MODEL_STAGE}"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage, value in figures["cpu_ms"].items():
        table.add_row(stage, f"{value:.3f}", f"{figures['of_session_run'][stage]:.2f}")
    console = Console()
    console.print(table)
    console.print(
        f"  {figures['pictures_per_second']:.0f} pictures a second with {figures['threads']} "
        "threads"
    )

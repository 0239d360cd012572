"""Trains a model on the data set that `make data` wrote, and exports it into the run's folder.

The same command resumes an interrupted training, which ends with the same weights as without the
interruption. The recipe `auto` chooses the settings by the data; `robust` and `seed` are files in
training/recipes. Every setting that --settings lists is an option too.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from training.data.dataset import Dataset
from training.fit.config import AUTO, TrainConfig, add_config_options
from training.fit.plan import plan_of
from training.fit.runs import Run, with_start_found
from training.settings import Parser

_COMMON = ("data", "minutes", "epochs", "labels", "seed", "architecture", "init_from")


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser("train", __doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="default: %(default)s")
    parser.add_argument("--fresh", action="store_true", help="do not resume an interrupted run")
    add_config_options(parser, AUTO, _COMMON)
    arguments = parser.parse_args(argv)
    # Errors are found before TensorFlow is imported, which takes seconds.
    plan = plan_of(arguments)
    Dataset(Path(plan.config.data))
    print(plan.explanation, flush=True)
    config = with_start_found(plan.config, arguments.runs)
    started = time.monotonic()
    run = _train(config, arguments.runs, arguments.fresh)
    if config.cross_fit:
        _cross_fit(run, time.monotonic() - started)
    if config.export:
        _export(run)


def _train(config: TrainConfig, runs: Path, fresh: bool) -> Run:
    from training.tensorflow_import import import_tensorflow

    import_tensorflow()
    from training.fit.loop import train

    try:
        return train(config, runs, fresh)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command resumes after the last whole epoch") from None


def _cross_fit(run: Run, seconds: float) -> None:
    """Trains on the halves of the labelled pictures, if a training of `seconds` leaves time."""
    from training.fit.schedule import time_for_halves

    if not time_for_halves(run.config, seconds):
        print(
            "no time is left to train on each half of the labelled pictures, so confidences are "
            f"those expected of any model. More than --minutes {run.config.minutes:g} would do"
        )
        return
    print("training on each half of the labelled pictures, to calibrate the confidences")
    from training.export.cross_fit import cross_fit

    try:
        cross_fit(run, Dataset(Path(run.config.data)))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"the model itself is trained; make export-onnx RUN={run.name} exports it"
        ) from None


def _export(run: Run) -> None:
    """Exports the run into its own folder, in a separate process without a GPU."""
    command = [sys.executable, "-m", "training", "export", str(run.folder)]
    done = subprocess.run([*command, "--out", str(run.exported)], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)

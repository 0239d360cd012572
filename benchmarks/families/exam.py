"""A cell of the exam: a family, a number of labels, and a reader, which is a recipe or ddddocr."""

import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.families.catalogue import UNSEEN
from service.ocr.recognizer import Recognizer
from training.evaluation.calibration_metrics import (
    Judged,
    error_by_chance,
    expected_calibration_error,
    judge_texts,
)

OURS, SEED, DDDDOCR = "default", "seed", "ddddocr"
READERS = (OURS, SEED, DDDDOCR)

MINUTES = {800: 30, 200: 15, 50: 10}
"""Minutes that the four commands together may take, by the number of labels."""

REPOSITORY = Path(__file__).resolve().parents[2]
_PROJECT = ("Makefile", "requirements", "service", "training")
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")


class CellError(Exception):
    """A command of a cell failed."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A labelled picture of a family."""

    path: Path
    label: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a cell.

    Attributes:
        labels: number of labelled pictures for training; 0 for ddddocr.
        exact: number of unseen pictures whose text is right; for ddddocr, case is ignored.
        pictures: number of unseen pictures.
        ece: expected calibration error of the texts; None if there are no confidences.
        ece_by_chance: mean ECE of as many texts that are right exactly as often as their
            confidences say.
        seconds: wall time of each command.
        cpu_seconds: CPU time, user and system, of each command and its children.
        load_average: load average of the machine when the cell began.
        failed: the command that failed, with the end of its output; such a cell reads nothing.
        given_minutes: the minutes given to `make train`; None: not given.
    """

    family: str
    labels: int
    reader: str
    exact: int
    pictures: int
    ece: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    load_average: float = 0.0
    commit: str = ""
    failed: str = ""
    given_minutes: float | None = None
    ece_by_chance: float | None = None

    @property
    def exact_match(self) -> float:
        """Share of the unseen pictures whose text is right, 0 to 1."""
        return self.exact / self.pictures

    @property
    def refused(self) -> bool:
        """Whether training ended, but the export refused its model."""
        return self.failed.startswith("make export-onnx:")

    @property
    def minutes(self) -> float:
        """Wall time of all commands together."""
        return sum(self.seconds.values()) / 60


Key = tuple[str, int, str]


def load(path: Path) -> dict[Key, Outcome]:
    """Read the stored outcomes; if a cell is stored twice, the later one counts."""
    outcomes: dict[Key, Outcome] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            outcome = Outcome(**json.loads(line))
            outcomes[outcome.family, outcome.labels, outcome.reader] = outcome
    return outcomes


def append(path: Path, outcome: Outcome) -> None:
    """Add an outcome to the stored ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        stream.write(json.dumps(asdict(outcome)) + "\n")


def pending(
    cells: Iterable[Key], measured: Mapping[Key, Outcome], again: bool = False
) -> Iterator[Key]:
    """Give the cells to measure: new and failed ones, or all with `again`.

    A refused export is a result and no failure: the training gave no usable model.
    """
    for cell in cells:
        outcome = measured.get(cell)
        if again or outcome is None or (outcome.failed and not outcome.refused):
            yield cell


def pictures_of(folder: Path) -> tuple[list[Picture], list[Picture]]:
    """Give the pictures of a family for training, and the unseen ones."""
    with (folder / "labels.csv").open(newline="") as stream:
        pictures = [Picture(folder / row["path"], row["label"]) for row in csv.DictReader(stream)]
    return pictures[:-UNSEEN], pictures[-UNSEEN:]


def commands(reader: str, minutes: float | None) -> dict[str, list[str]]:
    """Give the targets of make in order, with the arguments that a user would give."""
    train = ["train"]
    if reader != OURS:
        train.append(f"RECIPE={reader}")
    if minutes is not None:
        train.append(f"ARGS=--minutes {minutes:g}")
    return {
        "data": ["data", "DATA=pictures"],
        "train": train,
        "export-onnx": ["export-onnx"],
        "evaluate": ["evaluate"],
    }


def run(
    family: Path,
    labels: int,
    reader: str,
    work: Path,
    repository: Path = REPOSITORY,
    minutes: float | None = None,
) -> Outcome:
    """Train on the first `labels` pictures of a family in a clean folder, then read the unseen.

    Args:
        family: folder with `labels.csv` and the pictures.
        work: folder to work in; its content is removed first.
        repository: the folder whose Makefile, packages and models are used.
        minutes: time of the training; default: that of the bar for the default recipe, unlimited
            for others.
    """
    if minutes is None and reader == OURS:
        minutes = MINUTES[labels]
    learned, unseen = pictures_of(family)
    load_average = round(os.getloadavg()[0], 2)
    _prepare(work, learned[:labels], repository)
    seconds: dict[str, float] = {}
    cpu_seconds: dict[str, float] = {}
    exact, ece, by_chance, failed = 0, None, None, ""
    try:
        for name, command in commands(reader, minutes).items():
            started, spent = time.monotonic(), _children_cpu_seconds()
            try:
                _make(work, name, command)
            finally:
                seconds[name] = round(time.monotonic() - started, 1)
                cpu_seconds[name] = round(_children_cpu_seconds() - spent, 1)
        judged = _read(work / "models/captcha.onnx", unseen, work / "unseen.csv")
        exact = int(judged.right.sum())
        ece = round(expected_calibration_error(judged), 4)
        by_chance = round(error_by_chance(judged), 4)
    except CellError as error:
        failed = str(error)
    return Outcome(
        family.name, labels, reader, exact, len(unseen), ece, seconds, cpu_seconds, load_average,
        _commit(), failed, minutes, by_chance,
    )  # fmt: skip


def _prepare(work: Path, pictures: Sequence[Picture], repository: Path) -> None:
    """Make a folder like a clone of the repository, with the user's pictures."""
    shutil.rmtree(work, ignore_errors=True)
    (work / "pictures").mkdir(parents=True)
    for name in _PROJECT:
        (work / name).symlink_to(repository / name)
    # Copied, since the export replaces the bundled model.
    shutil.copytree(repository / "models", work / "models")
    with (work / "pictures" / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label"))
        for picture in pictures:
            shutil.copy(picture.path, work / "pictures")
            writer.writerow((picture.path.name, picture.label))


def _make(work: Path, name: str, command: Sequence[str]) -> None:
    """Run a target of make in `work`, with its output in `<name>.log`.

    Raises:
        CellError: the target failed.
    """
    # Without variables of a make that started this process, which would affect this make.
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # A user does not give these: the virtual environment is in another folder, and complete.
    fixed = [f"PY={sys.executable}", "TRAINING="]
    log = work / f"{name}.log"
    with log.open("w") as stream:
        done = subprocess.run(
            ["make", *command, *fixed],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        said = log.read_text(errors="replace").strip().splitlines()[-3:]
        raise CellError(f"make {name}: exit {done.returncode}: {' / '.join(said)}"[:500])


def _read(model: Path, unseen: Sequence[Picture], table: Path) -> Judged:
    """Read the unseen pictures as the service would, and write the readings to a table."""
    recognizer = Recognizer.load(model)
    readings = [recognizer.read(picture.path.read_bytes()) for picture in unseen]
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label", "text", "confidence"))
        for picture, reading in zip(unseen, readings, strict=True):
            row = (picture.path.name, picture.label, reading.text, f"{reading.confidence:.4f}")
            writer.writerow(row)
    return judge_texts([picture.label for picture in unseen], readings)


def run_ddddocr(family: Path, python: str) -> Outcome:
    """Read the unseen pictures with ddddocr, which gets no labels; case is ignored.

    Args:
        python: the Python of the environment in which ddddocr is installed.
    """
    _, unseen = pictures_of(family)
    load_average = round(os.getloadavg()[0], 2)
    started, spent = time.monotonic(), _children_cpu_seconds()
    done = subprocess.run(
        [python, "-m", "benchmarks.families.isolated.read_ddddocr"],
        cwd=REPOSITORY,
        input="\n".join(str(picture.path.resolve()) for picture in unseen),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    texts = json.loads(done.stdout)
    pairs = zip(texts, unseen, strict=True)
    return Outcome(
        family.name,
        0,
        DDDDOCR,
        sum(text.casefold() == picture.label.casefold() for text, picture in pairs),
        len(unseen),
        seconds={"read": round(time.monotonic() - started, 1)},
        cpu_seconds={"read": round(_children_cpu_seconds() - spent, 1)},
        load_average=load_average,
        commit=_commit(),
    )


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        check=False,
    )  # fmt: skip
    return done.stdout.strip()

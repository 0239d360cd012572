"""`make bench-bulk`: measures what reading in bulk costs beside `captcha-ocr predict`.

Both read the same pictures, of which every 250th is broken. `bulk read` reads the folder, and the
shards that `bulk pack` makes from it. `predict` runs before and after `bulk read`, so that changes
in the load of the machine affect both. The CPU time of `predict` excludes its start; that of
`bulk read` is what the command prints for the processes of Ray that read. The texts must be equal.
The CPU time of the driver for a shard is measured with shards of one picture. The figures are
written to benchmarks/results/bulk.json, and from there to docs/scaling.md.
"""

import argparse
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import measurement
from benchmarks.conditions import conditions

RESULTS = Path("benchmarks/results/bulk.json")
BAR = 1.15
EVERY = 250

_TINY_SHARDS = 300


class Cost(NamedTuple):
    """Wall time of a command, CPU time of its processes, and its output."""

    seconds: float
    cpu_seconds: float
    output: str
    errors: str


def run(*arguments: object) -> Cost:
    """Runs `captcha-ocr` with these arguments."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(seconds, cpu, done.stdout, done.stderr)


def read_cpu_ms(errors: str) -> float:
    """CPU milliseconds of a picture, as `bulk read` prints them."""
    match = re.search(r"([\d.]+) CPU-ms each", errors)
    if match is None:
        raise SystemExit(errors)
    return float(match[1])


def texts(table: Path) -> dict[str, str]:
    """The texts in a table, by the names of the pictures."""
    from pyarrow import parquet

    columns = parquet.read_table(table, columns=["path", "text"]).to_pydict()
    pairs = zip(columns["path"], columns["text"], strict=True)
    return {path: text for path, text in pairs if text is not None}


def predict(folder: Path, model: Path) -> tuple[Cost, dict[str, str]]:
    """Runs `predict`: its cost, and the texts by the names of the pictures."""
    cost = run("predict", folder, "--json", "--model", model)
    answers = [json.loads(line) for line in cost.output.splitlines()]
    return cost, {Path(answer["file"]).name: answer["text"] for answer in answers}


def driver_cpu_ms(folder: Path, work: Path, model: Path) -> float:
    """CPU milliseconds of the driver for a shard."""
    from service.bulk.run import Driver, Work, cluster
    from service.bulk.shards import find_shards
    from service.bulk.tables import Asked, Table

    shards = find_shards(str(folder), 1)[:_TINY_SHARDS]
    table = str(work / "tiny")
    Table(table).begin({}, [])
    asked = Work(str(folder), table, Asked("", "", 4_000_000), 1)
    with cluster(None, None) as actors:
        driver = Driver(shards, asked, model.read_bytes(), actors, 600, lambda _: None)
        before = time.process_time()
        done = driver.run()
        cpu_seconds = time.process_time() - before
    if done.failed:
        raise SystemExit(f"{len(done.failed)} shards failed")
    return 1000 * cpu_seconds / len(shards)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bulk", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/captcha.onnx"))
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--inputs", default="folder,tar,parquet")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    measured = conditions(os.sched_getaffinity(0))
    examples = sorted(Path("examples").glob("*.png"))
    model: Path = arguments.model
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work, "folder")
        folder.mkdir()
        for number in range(arguments.pictures):
            content = examples[number % len(examples)].read_bytes()
            file = folder / f"{number:08}.png"
            file.write_bytes(content[:100] if number % EVERY == 0 else content)
        inputs = {name: Path(work, name) for name in arguments.inputs.split(",")}
        for name, path in inputs.items():
            if name != "folder":
                shard = max(1, arguments.pictures // 20)
                run("bulk", "pack", folder, path, "--format", name, "--shard-pictures", shard)
        alone = [run("predict", examples[0], "--model", model).cpu_seconds for _ in range(3)]
        start = statistics.median(alone)
        costs: dict[str, list[tuple[float, float, float]]] = {}
        for _ in range(arguments.rounds):
            before, wanted = predict(folder, model)
            reads = {}
            for name, path in inputs.items():
                table = Path(work, "table")
                shutil.rmtree(table, ignore_errors=True)
                reads[name] = run("bulk", "read", path, table, "--model", model)
                if texts(table) != wanted:
                    raise SystemExit(f"{name}: the texts differ from those of predict")
            after, _ = predict(folder, model)
            cpu_seconds = statistics.mean((before.cpu_seconds, after.cpu_seconds)) - start
            seconds = statistics.mean((before.seconds, after.seconds))
            base = 1000 * cpu_seconds / arguments.pictures
            costs.setdefault("predict", []).append((base, 1.0, seconds))
            for name, cost in reads.items():
                each = read_cpu_ms(cost.errors)
                costs.setdefault(name, []).append((each, each / base, cost.seconds))
        driver_ms = driver_cpu_ms(folder, Path(work), model)
    rows: list[dict[str, Any]] = []
    for name, measurements in costs.items():
        each, ratio, seconds = (
            statistics.median(column) for column in zip(*measurements, strict=True)
        )
        label = name if name == "predict" else f"bulk read, {name}"
        rows.append({"reads": label, "cpu_ms": each, "ratio": ratio, "seconds": seconds})
    figures = {
        "conditions": measured,
        "pictures": arguments.pictures,
        "broken": len(range(0, arguments.pictures, EVERY)),
        "rows": rows,
        "driver_cpu_ms": driver_ms,
    }
    measurement.write(figures, arguments.out)


if __name__ == "__main__":
    main()

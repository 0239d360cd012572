"""`make evaluate-robustness`: reads a split under fixed distortions, one condition at a time.

Every picture is decoded, distorted by a stated amount, encoded as PNG and read by the exported
model like an upload, under the conditions of `training.augmentation.conditions`.
"""

import io
import json
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from service.ocr.preprocessing import decode_gray, decode_rgb
from service.ocr.recognizer import Recognizer
from training.augmentation.conditions import CONDITIONS, Condition
from training.data.dataset import Dataset, Sample
from training.evaluation.calibration_metrics import draw_diagram, report_of
from training.evaluation.calibration_metrics import figures_of as reliability_of
from training.evaluation.evaluate import Result, judge
from training.evaluation.metrics import character_error_rate, exact_matches, wilson_interval
from training.evaluation.target import add_target_options, open_target
from training.settings import Parser
from training.synthetic.levels import image_of


def distorted(picture: bytes, condition: Condition, channels: int = 1) -> bytes:
    """The picture under a condition, as PNG; the same picture always gives the same bytes."""
    generator = np.random.default_rng(zlib.crc32(picture))
    pixels = decode_rgb(picture) if channels == 3 else decode_gray(picture)
    file = io.BytesIO()
    image_of(condition.distort(pixels, generator)).save(file, "PNG")
    return file.getvalue()


def read_condition(
    recognizer: Recognizer, dataset: Dataset, samples: Sequence[Sample], condition: Condition
) -> list[Result]:
    """Reads every sample under a condition, in order."""

    def read(sample: Sample) -> Result:
        picture = distorted(dataset.read(sample), condition, recognizer.metadata.channels)
        return Result(sample, recognizer.read(picture))

    with ThreadPoolExecutor() as pool:
        return list(pool.map(read, samples))


def figures_of(condition: Condition, results: Sequence[Result]) -> dict[str, Any]:
    """Exact match with its 95 % Wilson interval, and CER."""
    pairs = [result.pair for result in results]
    exact = exact_matches(pairs)
    low, high = wilson_interval(exact, len(pairs))
    return {
        "family": condition.family,
        "condition": condition.name,
        "pictures": len(pairs),
        "exact": exact,
        "exact_match": exact / len(pairs),
        "exact_match_interval": [low, high],
        "cer": character_error_rate(pairs),
    }


def summarize(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and minimum of the exact match over conditions, and the rows themselves."""
    shares = [row["exact_match"] for row in rows]
    return {
        "conditions": len(rows),
        "families": len({row["family"] for row in rows}),
        "mean": float(np.mean(shares)),
        "minimum": min(shares),
        "rows": list(rows),
    }


def table(summary: dict[str, Any]) -> str:
    """The summary as a Markdown table."""
    lines = [
        "| family | condition | exact | exact match | 95 % interval | CER |",
        "|---|---|---|---|---|---|",
    ]
    for row in summary["rows"]:
        low, high = row["exact_match_interval"]
        lines.append(
            f"| {row['family']} | {row['condition']} | {row['exact']}/{row['pictures']} "
            f"| {row['exact_match']:.4f} | {low:.4f}–{high:.4f} | {row['cer']:.4f} |"
        )
    lines.append(
        f"\n{summary['conditions']} conditions of {summary['families']} families: "
        f"mean {summary['mean']:.4f}, minimum {summary['minimum']:.4f}"
    )
    return "\n".join(lines)


def draw_chart(summary: dict[str, Any], path: Path) -> None:
    """Draws the exact match of every condition as bars, with intervals."""
    from matplotlib.figure import Figure  # takes a fraction of a second

    rows = summary["rows"][::-1]
    shares = np.array([row["exact_match"] for row in rows])
    intervals = np.array([row["exact_match_interval"] for row in rows])
    figure = Figure(figsize=(8, 0.24 * len(rows) + 1), layout="constrained")
    axes = figure.subplots()
    errors = np.abs(intervals.T - shares)
    axes.barh(range(len(rows)), shares, xerr=errors, color="#4477aa", ecolor="#888888")
    axes.set_yticks(range(len(rows)), [f"{r['family']}: {r['condition']}" for r in rows], size=8)
    axes.axvline(summary["mean"], color="#cc3311", linewidth=1)
    axes.set(xlim=(min(0.9, shares.min() - 0.05), 1.001), ylim=(-0.6, len(rows) - 0.4))
    axes.set_xlabel("exact match, with 95 % interval")
    axes.set_title(f"mean {summary['mean']:.4f}, minimum {summary['minimum']:.4f}", size=10)
    figure.savefig(path, dpi=120)


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser("robustness", __doc__)
    add_target_options(parser)
    parser.add_argument("--charts", type=Path, help="another folder for the charts")
    arguments = parser.parse_args(argv)
    target = open_target(arguments)
    read = partial(read_condition, target.recognizer, target.dataset, target.samples)
    results = [read(condition) for condition in track(CONDITIONS, description="conditions")]
    rows = [figures_of(*both) for both in zip(CONDITIONS, results, strict=True)]
    judged = judge([result for of_condition in results for result in of_condition])
    confidence = {kind: reliability_of(values) for kind, values in judged.items()}
    summary = summarize(rows) | confidence
    (target.folder / f"robustness-{target.split}.json").write_text(json.dumps(summary, indent=2))
    for charts in filter(None, (target.folder, arguments.charts)):
        draw_chart(summary, charts / "robustness.png")
        draw_diagram(judged, charts / "reliability.png")
    print(table(summary))
    print(report_of(judged))
    print(f"written to {target.folder}")

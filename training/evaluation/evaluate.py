"""`make evaluate`: reads a split with the exported ONNX model, as the service does."""

import csv
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.ocr.decoding.decoder import Reading
from service.ocr.recognizer import Recognizer
from training.data.dataset import Dataset, Sample
from training.evaluation.calibration_metrics import (
    Judged,
    draw_diagram,
    judge_characters,
    judge_texts,
    report_of,
)
from training.evaluation.metrics import (
    character_error_rate,
    confusions,
    exact_matches,
    has_adjacent_repeat,
    wilson_interval,
)
from training.evaluation.target import add_target_options, open_target
from training.settings import Parser


@dataclass(frozen=True, slots=True)
class Result:
    """A labelled picture and its reading."""

    sample: Sample
    reading: Reading

    @property
    def pair(self) -> tuple[str, str]:
        """The label and the text that was read."""
        return self.sample.label, self.reading.text

    @property
    def is_right(self) -> bool:
        """Whether the text equals the label."""
        return self.sample.label == self.reading.text


def read_samples_with(
    recognizer: Recognizer, dataset: Dataset, samples: Sequence[Sample]
) -> list[Result]:
    """Reads every sample, in order."""
    with ThreadPoolExecutor() as pool:
        readings = pool.map(lambda sample: recognizer.read(dataset.read(sample)), samples)
        return [Result(*both) for both in zip(samples, readings, strict=True)]


def summarize(results: Sequence[Result]) -> dict[str, Any]:
    """CER and exact match with its 95 % Wilson interval; the same for labels with repeats."""
    repeats = [result for result in results if has_adjacent_repeat(result.sample.label)]
    return _figures(results) | {"adjacent_repeats": _figures(repeats)}


def _figures(results: Sequence[Result]) -> dict[str, Any]:
    pairs = [result.pair for result in results]
    exact = exact_matches(pairs)
    low, high = wilson_interval(exact, len(pairs))
    return {
        "pictures": len(pairs),
        "exact": exact,
        "exact_match": round(exact / len(pairs), 6) if pairs else None,
        "exact_match_interval": [round(low, 4), round(high, 4)],
        "cer": round(character_error_rate(pairs), 6),
    }


def judge(results: Sequence[Result]) -> dict[str, Judged]:
    """Judges texts and characters: their confidences, and whether they are right."""
    labels = [result.sample.label for result in results]
    readings = [result.reading for result in results]
    return {
        "texts": judge_texts(labels, readings),
        "characters": judge_characters(labels, readings),
    }


def report(results: Sequence[Result], title: str) -> str:
    """The summary as lines of text, with every misread picture."""
    summary = summarize(results)
    lines = [title, _line("exact match", summary)]
    lines.append(_line("  with adjacent repeats", summary["adjacent_repeats"]))
    for (expected, read), count in confusions(r.pair for r in results).most_common():
        lines.append(f"{count} × {expected or 'nothing'} read as {read or 'nothing'}")
    for result in results:
        if not result.is_right:
            lines.append(
                f"misread: {result.sample.source} is {result.sample.label!r}, read as "
                f"{result.reading.text!r} with confidence {result.reading.confidence:.3f}"
            )
    return "\n".join(lines)


def _line(name: str, figures: dict[str, Any]) -> str:
    if not figures["pictures"]:
        return f"{name}: no pictures"
    low, high = figures["exact_match_interval"]
    return (
        f"{name}: {figures['exact']}/{figures['pictures']} = {figures['exact_match']:.4f} "
        f"(95 % interval {low:.4f} to {high:.4f}), CER {figures['cer']:.4f}"
    )


def write_results(folder: Path, split: str, results: Sequence[Result]) -> None:
    """Writes `<split>.json` with the summary and `<split>.csv` with a row per picture."""
    folder.mkdir(parents=True, exist_ok=True)
    counts = confusions(result.pair for result in results).most_common()
    summary = summarize(results) | {
        "confusions": [
            {"expected": expected, "read": read, "count": count}
            for (expected, read), count in counts
        ]
    }
    (folder / f"{split}.json").write_text(
        json.dumps(summary, indent=2, ensure_ascii=False), encoding="utf-8"
    )
    with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("sha256", "source", "label", "text", "exact", "confidence"))
        for result in results:
            confidence = f"{result.reading.confidence:.6f}"
            sample, exact = result.sample, int(result.is_right)
            writer.writerow((sample.sha256, sample.source, *result.pair, exact, confidence))


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser("evaluate", __doc__)
    add_target_options(parser)
    arguments = parser.parse_args(argv)
    target = open_target(arguments)
    started = time.monotonic()
    results = read_samples_with(target.recognizer, target.dataset, target.samples)
    seconds = time.monotonic() - started
    write_results(target.folder, target.split, results)
    version = target.recognizer.metadata.version
    judged = judge(results)
    draw_diagram(judged, target.folder / f"reliability-{target.split}.png")
    print(report(results, f"{arguments.model}, version {version}, split {target.split}"))
    print(report_of(judged))
    print(f"{seconds:.1f} s; written to {target.folder}")

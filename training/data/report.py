"""Reports the content of a prepared data set, and what may be wrong with it.

Writes a text, histograms, a contact sheet with labels, and contact sheets of near duplicates and
of suspicious labels if there are any.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from service.ocr.exceptions import printable
from service.ocr.recognizer import Recognizer
from training.data.charts import draw_histograms, draw_pairs, draw_samples, draw_suspicions
from training.data.checks import describe, named, visible, warnings_about
from training.data.dataset import Dataset, digest_of
from training.data.inspection import MOST_COMPARED, SAME_PIXELS, Inspection, inspect
from training.data.label_errors import (
    CONFIDENT,
    Opinion,
    find_suspicious,
    opinions_of,
    read_opinions,
)
from training.data.split import FEWEST_SAMPLES, SPLITS
from training.exceptions import DataError, reported

_MOST_LINES = 30
_RARE = 10


def report(inspection: Inspection) -> str:
    """The findings as text."""
    sections = [_counts, _characters, _sizes, _warnings, _duplicates, _suspicions]
    return "\n\n".join("\n".join(section(inspection)) for section in sections) + "\n"


def _counts(found: Inspection) -> Iterator[str]:
    yield from describe(found.samples)
    yield f"digest {digest_of(found.samples)}"
    if found.splits:
        counts = Counter(found.splits.values())
        yield "splits: " + ", ".join(f"{split} {counts[split]}" for split in SPLITS)
    else:
        yield f"too few to be split: training needs at least {FEWEST_SAMPLES}"
    texts = Counter(sample.label for sample in found.samples)
    repeated = sum(count > 1 for count in texts.values())
    yield f"{repeated} labels on more than one picture"
    yield "characters a label: " + ", ".join(
        f"{length} × {count}" for length, count in sorted(found.lengths.items())
    )


def _characters(found: Inspection) -> Iterator[str]:
    counts = found.characters.most_common()
    yield "how often each symbol occurs:"
    shown = counts if len(counts) <= 2 * _MOST_LINES else counts[:_MOST_LINES]
    yield "  " + "  ".join(f"{visible(symbol)} {count}" for symbol, count in shown)
    if len(shown) < len(counts):
        yield f"  … and {len(counts) - len(shown)} more"
    rare = [visible(symbol) for symbol, count in counts if count < _RARE]
    if rare:
        yield f"{len(rare)} of them less than {_RARE} times, which is hard to learn from: " + (
            named(rare, _MOST_LINES)
        )


def _sizes(found: Inspection) -> Iterator[str]:
    counts = found.sizes.most_common()
    yield f"{len(counts)} different picture sizes:"
    for (width, height), count in counts[:_RARE]:
        yield f"  {width}×{height}: {count}"
    if len(counts) > _RARE:
        yield f"  … and {len(counts) - _RARE} more"


def _warnings(found: Inspection) -> Iterator[str]:
    warnings = warnings_about(found.samples, found.look)
    for warning in warnings:
        yield f"warning: {warning}"
    if not warnings:
        yield "no warnings"


def _duplicates(found: Inspection) -> Iterator[str]:
    if found.compared < len(found.samples):
        yield f"of the {len(found.samples)} pictures, {found.compared} were compared:"
    same = sum(pair.correlation >= SAME_PIXELS for pair in found.pairs)
    across = sum(pair.across for pair in found.pairs)
    yield (
        f"{len(found.pairs)} pairs of nearly equal pictures, {same} of them equal, "
        f"{across} across splits"
    )
    # Pairs across splits come first, since they spoil figures.
    order = sorted(
        found.pairs, key=lambda pair: (not pair.across, pair.first.label == pair.second.label)
    )
    for pair in order[:_MOST_LINES]:
        places = " and ".join(
            f"{sample.source} ({sample.label}{', ' if split else ''}{split})"
            for sample, split in zip((pair.first, pair.second), pair.splits, strict=True)
        )
        yield f"  {pair.correlation:.4f}  {places}"
    if len(order) > _MOST_LINES:
        yield f"  … and {len(order) - _MOST_LINES} more"


def _suspicions(found: Inspection) -> Iterator[str]:
    if found.suspicions is None:
        yield "suspicious labels: name a model, MODEL=models/captcha.onnx, to look for them"
        return
    yield (
        f"{len(found.suspicions)} of {found.judged} judged labels are contradicted by a "
        f"confidence of {CONFIDENT} or more"
    )
    for suspicion in found.suspicions[:_MOST_LINES]:
        sample, opinion = suspicion.sample, suspicion.opinion
        yield (
            f"  {sample.source}: labelled {sample.label!r}, read as {opinion.text!r} with "
            f"confidence {opinion.confidence:.3f}"
        )
    if len(found.suspicions) > _MOST_LINES:
        yield f"  … and {len(found.suspicions) - _MOST_LINES} more"


def write_report(dataset: Dataset, inspection: Inspection, folder: Path) -> str:
    """Writes report.txt and the charts into a folder; returns the text."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        # A sheet of an earlier report would be out of date.
        if old.stem in ("histograms", "samples", "duplicates", "suspicious"):
            old.unlink()
    text = report(inspection)
    (folder / "report.txt").write_text(text, encoding="utf-8")
    draw_histograms(inspection, folder / "histograms.png")
    draw_samples(dataset, inspection).save(folder / "samples.png")
    if inspection.pairs:
        draw_pairs(dataset, inspection).save(folder / "duplicates.png")
    if inspection.suspicions:
        draw_suspicions(dataset, inspection).save(folder / "suspicious.png")
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training inspect", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"), help="default: %(default)s")
    parser.add_argument("--model", type=Path, help="an exported model to judge the labels")
    parser.add_argument(
        "--readings", type=Path, help="or a table of readings: sha256, text, confidence"
    )
    parser.add_argument(
        "--compare", type=int, default=MOST_COMPARED,
        help="pictures to compare with each other; default: %(default)s",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("report/data"))
    options = parser.parse_args(arguments)
    with reported():
        dataset = Dataset(options.data)
        if not dataset.samples:
            raise DataError(f"{options.data} holds no pictures.")
        inspection = inspect(dataset, options.compare)
        opinions: dict[str, Opinion] = {}
        if options.model:
            opinions |= opinions_of(Recognizer.load(options.model), dataset, inspection.samples)
        if options.readings:
            opinions |= read_opinions(options.readings)
        if options.model or options.readings:
            found = find_suspicious(inspection.samples, opinions)
            judged = sum(sample.sha256 in opinions for sample in inspection.samples)
            inspection = replace(inspection, suspicions=found, judged=judged)
        for line in write_report(dataset, inspection, options.out).splitlines():
            print(printable(line))
    print(f"\nwritten to {options.out}")


if __name__ == "__main__":
    main()

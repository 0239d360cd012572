"""Draws contact sheets and histograms of a data set and of the findings about it."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from training.data.contact_sheet import INK, WRONG, Cell, draw_sheet, printable
from training.data.dataset import Dataset, Sample
from training.data.inspection import Inspection
from training.data.legibility import open_rgb

_SHOWN = 60
_BARS = 40
_LARGEST = (240, 120)
_SMALLEST = (80, 24)


def draw_first(dataset: Dataset, count: int) -> Image.Image:
    """The first pictures of a set with their labels."""
    first = dataset.samples[:count]
    cells = [Cell(picture_of(dataset, sample), sample.label) for sample in first]
    title = f"the first {len(first)} of {len(dataset.samples)} pictures and their labels"
    return draw_sheet(cells, 4, *_space(first), title)


def draw_samples(dataset: Dataset, inspection: Inspection) -> Image.Image:
    """Pictures with their labels, spread evenly over the set."""
    ordered = sorted(inspection.samples, key=lambda sample: sample.sha256)
    chosen = ordered[:: max(1, len(ordered) // _SHOWN)][:_SHOWN]
    cells = [Cell(picture_of(dataset, sample), sample.label) for sample in chosen]
    title = f"{len(cells)} of {len(ordered)} pictures and their labels"
    return draw_sheet(cells, 5, *_space(chosen), title)


def draw_pairs(dataset: Dataset, inspection: Inspection) -> Image.Image:
    """Nearly equal pictures side by side; in red if their labels or splits differ."""
    pairs = sorted(inspection.pairs, key=lambda pair: not pair.across)[: _SHOWN // 2]
    cells = []
    for pair in pairs:
        both = zip((pair.first, pair.second), pair.splits, strict=True)
        bad = pair.across or pair.first.label != pair.second.label
        cells += [
            Cell(
                picture_of(dataset, sample),
                f"{sample.label}  {split}",
                WRONG if bad else INK,
            )
            for sample, split in both
        ]
    title = f"{len(pairs)} of {len(inspection.pairs)} pairs of nearly equal pictures"
    samples = [sample for pair in pairs for sample in (pair.first, pair.second)]
    return draw_sheet(cells, 4, *_space(samples), title)


def draw_suspicions(dataset: Dataset, inspection: Inspection) -> Image.Image:
    """Pictures whose label a model contradicts, with both texts and the confidence."""
    found = (inspection.suspicions or ())[:_SHOWN]
    cells = [
        Cell(
            picture_of(dataset, one.sample),
            f"{one.sample.label} → {one.opinion.text} {one.opinion.confidence:.3f}",
            WRONG,
        )
        for one in found
    ]
    title = "label → what the model reads, and its confidence"
    return draw_sheet(cells, 5, *_space([one.sample for one in found]), title)


def draw_misread(dataset: Dataset, misread: Sequence[tuple[Sample, str]]) -> Image.Image:
    """Misread samples, with the label and the text that was read in each."""
    cells = [
        Cell(picture_of(dataset, sample), f"{sample.label} → {text or 'nothing'}", WRONG)
        for sample, text in misread
    ]
    space = _space([sample for sample, _ in misread])
    return draw_sheet(cells, 5, *space, f"{len(cells)} misread: label → what was read")


def picture_of(dataset: Dataset, sample: Sample) -> Image.Image:
    """A sample's picture in RGB, transparent parts white."""
    return open_rgb(dataset.read(sample))


def _space(samples: Sequence[Sample]) -> tuple[int, int]:
    """The width and height of the largest picture, within limits."""
    widest = max((sample.width for sample in samples), default=0)
    tallest = max((sample.height for sample in samples), default=0)
    return (
        min(max(widest, _SMALLEST[0]), _LARGEST[0]),
        min(max(tallest, _SMALLEST[1]), _LARGEST[1]),
    )


def draw_histograms(inspection: Inspection, path: Path) -> None:
    """Draws how often each length, character and size occurs."""
    from matplotlib.figure import Figure  # takes a fraction of a second

    lengths = [(str(length), count) for length, count in sorted(inspection.lengths.items())]
    sizes = [(f"{w}×{h}", count) for (w, h), count in inspection.sizes.most_common(_BARS // 2)]
    common = inspection.characters.most_common(_BARS)
    characters = [(printable(symbol), count) for symbol, count in common]
    more = len(inspection.characters) - len(common)
    charts = {
        "characters a label": lengths,
        "characters" + (f", the {_BARS} most frequent; {more} more" if more else ""): characters,
        "picture sizes" + (", the most frequent" if len(sizes) < len(inspection.sizes) else ""): (
            sizes
        ),
    }
    figure = Figure(figsize=(9, 7.5), layout="constrained")
    rows = figure.subplots(len(charts), 1)
    for axes, (title, bars) in zip(rows, charts.items(), strict=True):
        names, counts = zip(*bars, strict=True)
        axes.bar(range(len(bars)), counts, color="#4477aa", width=0.8)
        turned = 90 if max(map(len, names)) * len(names) > 100 else 0
        axes.set_xticks(range(len(bars)), [name.replace("$", r"\$") for name in names])
        axes.tick_params("x", rotation=turned)
        axes.set_xlim(-0.6, max(len(bars), 6) - 0.4)
        axes.set_title(title, size=10, loc="left")
        axes.set_ylabel("times" if bars is characters else "pictures")
    figure.savefig(path, dpi=110)

"""Writes docs/families.md and docs/families.png from the results of the exam."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.bars import Bar
from benchmarks.families.catalogue import FAMILIES, UNSEEN
from benchmarks.families.exam import DDDDOCR, MINUTES, OURS, SEED, Key, Outcome
from benchmarks.markdown import number, table

RESULTS = Path("benchmarks/results/families.jsonl")
PAGE = Path("docs/families.md")
CHART = PAGE.with_suffix(".png")

MEAN_AND_LEAST = {800: (0.95, 0.88), 200: (0.88, 0.70), 50: (0.70, 0.40)}
"""Bars of exact match by the number of labels: the mean and the least of the families."""
LARGEST_ECE = 0.05

Outcomes = dict[Key, Outcome]

_HEAD = """# Families

Written by `make bench-families` from `benchmarks/results/families.jsonl`.

This benchmark shows how well training works for kinds of pictures that it was not developed for.
Generators of other projects draw ten of these families, with fixed seeds; two are readouts, drawn
with a font and distorted as by a camera. Training shares no code and no drawing rules with them;
[Fonts](#fonts) says which fonts it shares. For each number of labels, the README's commands run in
a clean folder, with no option but the minutes that the bar allows: `make data`, `make train`,
`make export-onnx`, `make evaluate`. Then the exported model reads {unseen} pictures of the family
that training has not seen, as the service does.

`make bench-families` needs Node.js 20 and Python 3.11 for the generators, and many hours on two
cores. It resumes where it was interrupted; `ARGS="--families gvcode,trdg --labels 200"` runs a
part, `ARGS="--minutes 5"` gives each training five minutes, and `ARGS=--again` measures everything
again.
"""

_NOTES = """
A person must be able to read the pictures, so some generators do not run with their defaults:

- `claptcha` warps half as much; its default cuts letters off.
- `multicolorcaptcha` draws at its lowest level, without circles and lines across the picture, and
  without fonts of hairlines, contours or ornaments.
- `gvcode` draws wider pictures, so that the last digit is inside.
- `django-simple-captcha` draws its pictures for high-resolution screens, twice as large.
- `captcha` scales all characters to one height, so `captcha-240x80` leaves out one symbol of each
  pair that differs in case only; `captcha-80x30` has fewer dots.
- `captcha-160x60` uses the defaults, with which O and 0 can hardly be told apart.
- `trdg` uses six plain fonts and its default background, without patterns or photographs.
- `svg-captcha` leaves out `l`, which looks like `I` in its font.
- `dot-matrix` leaves out `O`, which looks like `0`, and separates with `-` and `/` only, not `:`.

## Fonts

`models/base.npz`, which the default recipe starts from, was trained on pictures in 925 fonts of
npm's @fontsource packages. None of the font files that the table names is among them, but some
have relatives there. Noto Mono is Droid Sans Mono except for details, so the base has seen the font
of `captcha-160x60`. Other fonts are similar: Noto Sans to Droid Sans and Open Sans, Carlito to
Lato, Arimo to Arial and FreeSans. Roboto Slab, Ubuntu Condensed, Bitstream Vera Sans, Comicbook
Smash, DSEG7 and Doto have no relative there. The base knows Aldrich, Graduate, Kaushan Script and
Londrina Solid, so `multicolorcaptcha` is drawn without these. It has seen displays of segments and
dots that its own code draws.
"""


def write(outcomes: Outcomes, page: Path = PAGE, chart: Path = CHART) -> None:
    """Write the page and the chart."""
    shown = f"\n![Exact match by family]({chart.name})\n" if outcomes else ""
    parts = [
        _HEAD.format(unseen=UNSEEN),
        "## Bars\n\n" + bars_table(bars_of(outcomes)) + shown,
        "## The families\n\n" + _families_table() + _NOTES,
        "## Exact match\n\n" + _matches_table(outcomes),
        "## Calibration and time\n\n" + _costs_table(outcomes),
    ]
    if outcomes:
        draw(outcomes, chart)
    failures = [outcome for outcome in outcomes.values() if outcome.failed]
    if failures:
        rows = [[o.family, str(o.labels), o.reader, f"`{o.failed}`"] for o in failures]
        parts.append("## Failed\n\n" + table(["family", "labels", "recipe", "how"], rows))
    page.write_text("\n".join(parts), encoding="utf-8")


def bars_of(outcomes: Outcomes) -> list[tuple[int, Bar]]:
    """Give the bars of the default recipe, each with the number of families that were measured."""
    bars: list[tuple[int, Bar]] = []
    for labels, (mean, least) in MEAN_AND_LEAST.items():
        own = [
            outcome
            for (_, count, reader), outcome in outcomes.items()
            if (count, reader) == (labels, OURS)
        ]
        matches = [outcome.exact_match for outcome in own]
        errors = [outcome.ece for outcome in own if outcome.ece is not None]
        minutes = [outcome.minutes for outcome in own]
        what = f"{labels} labels"
        bars += [
            (len(own), Bar(f"{what}: exact match, mean", _mean(matches), mean, at_least=True)),
            (
                len(own),
                Bar(
                    f"{what}: exact match, least", min(matches, default=None), least, at_least=True
                ),
            ),
            (len(own), Bar(f"{what}: text ECE, largest", max(errors, default=None), LARGEST_ECE)),
            (
                len(own),
                Bar(f"{what}: minutes, longest", max(minutes, default=None), MINUTES[labels]),
            ),
        ]
    return bars


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def bars_table(bars: Sequence[tuple[int, Bar]]) -> str:
    """Give a table of the bars: whether each is met, and on how many families."""
    verdicts = {True: "met", False: "missed", None: "not measured"}
    rows = [
        [
            bar.name,
            number(bar.value, 3),
            f"{'≥' if bar.at_least else '≤'} {bar.bound:g}",
            f"{families} of {len(FAMILIES)}",
            verdicts[bar.met],
        ]
        for families, bar in bars
    ]
    return table(["bar", "measured", "bound", "families", ""], rows)


def line_of(outcome: Outcome) -> str:
    """Give the outcome of a cell in one line."""
    return (
        f"exact {outcome.exact}/{outcome.pictures} = {outcome.exact_match:.3f}, "
        f"ECE {number(outcome.ece, 3)}, {outcome.minutes:.1f} min, "
        f"{sum(outcome.cpu_seconds.values()) / 60:.1f} CPU-min"
    )


def _families_table() -> str:
    rows = [
        [f.name, f.generator, f.size, str(f.symbols), f.length, f.manner, f.fonts]
        for f in FAMILIES.values()
    ]
    return table(["family", "generator", "size", "symbols", "length", "manner", "fonts"], rows)


def _matches_table(outcomes: Outcomes) -> str:
    columns = [
        (0, DDDDOCR),
        *((labels, reader) for labels in sorted(MINUTES) for reader in (SEED, OURS)),
    ]
    head = ["family", "ddddocr, no labels"]
    head += [f"{labels} labels, {reader}" for labels, reader in columns[1:]]
    rows = [
        [name, *(_match(outcomes.get((name, *column))) for column in columns)] for name in FAMILIES
    ]
    return table(head, rows) + (
        f"\nThe figures are shares of {UNSEEN} unseen pictures whose whole text is right. ddddocr "
        "is a model of another project. It gives no confidences of texts, and its case is ignored. "
        "*seed* is `make train RECIPE=seed`, which starts from random weights.\n"
    )


def _match(outcome: Outcome | None) -> str:
    if outcome is None:
        return "–"
    return "failed" if outcome.failed else number(outcome.exact_match, 3)


def _costs_table(outcomes: Outcomes) -> str:
    rows = [
        [
            name,
            str(labels),
            number(outcome.ece, 3),
            number(outcome.ece_by_chance, 3),
            "–" if outcome.given_minutes is None else f"{outcome.given_minutes:g}",
            number(outcome.minutes, 1),
            number(sum(outcome.cpu_seconds.values()) / 60, 1),
            number(outcome.seconds.get("train", 0) / 60, 1),
            number(outcome.load_average, 1),
            outcome.commit,
        ]
        for labels in sorted(MINUTES)
        for name in FAMILIES
        if (outcome := outcomes.get((name, labels, OURS)))
    ]
    head = [
        "family",
        "labels",
        "text ECE",
        "by chance",
        "given minutes",
        "minutes",
        "CPU minutes",
        "of them `make train`",
        "load before",
        "commit",
    ]
    return table(head, rows) + (
        f"\nAll rows are of the default recipe. *By chance* is the mean ECE of {UNSEEN} texts that "
        "are right exactly as often as their confidences say. *Given minutes* were given to "
        "`make train`, and may be less than the bar allows. *Minutes* are the wall time of the "
        "four commands together, *CPU minutes* their user and system time. A *load before* above "
        "0.5 says that the machine was busy.\n"
    )


def draw(outcomes: Outcomes, path: Path) -> None:
    """Draw the exact match of each family with ddddocr, seed and the default recipe."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = list(FAMILIES)
    figure, axes = plt.subplots(figsize=(9, 0.45 * len(names) + 1.6), layout="constrained")
    series = [
        (0, DDDDOCR, "x", "#999999", "ddddocr, no labels"),
        (800, SEED, "s", "#ccbb44", "seed, 800 labels"),
        *((labels, OURS, "o", color, f"default, {labels} labels")
          for labels, color in ((50, "#99ccee"), (200, "#4477aa"), (800, "#112255"))),
    ]  # fmt: skip
    for labels, reader, marker, color, title in series:
        points = [
            (outcome.exact_match, place)
            for place, name in enumerate(names)
            if (outcome := outcomes.get((name, labels, reader)))
        ]
        if points:
            matches, places = zip(*points, strict=True)
            axes.scatter(matches, places, marker=marker, color=color, label=title, s=48, zorder=2)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel(f"exact match on {UNSEEN} unseen pictures")
    axes.grid(True, alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)

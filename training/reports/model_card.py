"""`make card`: writes the model card from the model's metadata and its evaluations."""

import csv
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from service.ocr.metadata import ModelMetadata
from service.ocr.recognizer import Recognizer
from training.data import download as public_data
from training.data.dataset import digest_of
from training.data.split import SPLITS
from training.evaluation.aims import aims_missed, training_time
from training.evaluation.metrics import wilson_interval
from training.evaluation.robustness import table
from training.evaluation.sweep_tables import series_section
from training.exceptions import RunError
from training.fit.runs import INT8, Run
from training.reports.provenance import commands_of, fitted_to, settings_of
from training.settings import Parser

_TEMPLATE = """# {name} {version}

Reads pictures of {width}×{height} pixels, or stretched to that, with a few of these
{symbols} characters on them: `{alphabet}`. {parameters} in the ONNX file, exported by
`make export-onnx{quantized}` from the run `{training_run}`.

Written by `make card`; every figure below is printed by the command beside it.

## Data

{data}

| split | pictures | digest (SHA-256 over the sorted lines `<picture's SHA-256> <label>`) |
|---|---|---|
{splits}
Together: `{data_digest}`.

The split of a picture depends only on its content (`training/data/split.py`). The
model was fitted to {fitted}; no test picture was
seen in training.

## Recipe

{commands} with these settings{besides}:

```toml
{settings}```

{time}

## Figures on the test split

{clean}

{robust}
{aims}

{confidence}
{rejection}
{series}## Use and limits

For auditing codes on one's own site, and for reading meters, labels and tickets of one's own.
Not for getting around the protection of other people's sites.

It knows the characters above and no others: pictures of another family need a model of their
own, which the README's four commands make. A picture of another shape is stretched. The confidences
were calibrated on distorted pictures of this family, and are valid for such pictures.
"""

_PUBLIC_DATA = (
    "The public set `captcha_images_v2.zip` of the GitHub repository "
    "AakashKumarNain/CaptchaCracker: 1040 labelled pictures of 200×50 pixels with five characters "
    "each; `make data` downloads it and checks the digest.\n\n"
    "One label is wrong and was kept: {wrong}. The picture is in the training split, so the "
    "figures on the test split are the same with and without it."
)
_OWN_DATA = "Labelled pictures that `make data DATA=…` was given."
_NOT_DISTORTED = "Not read under distortions: `make evaluate-robustness` does it.\n"
_NOT_REJECTED = "Not tried on pictures without text: `make evaluate-rejection` does it.\n"


def _minutes(run: Run) -> float:
    with (run.folder / "history.csv").open(newline="", encoding="utf-8") as file:
        return sum(float(epoch["seconds"]) for epoch in csv.DictReader(file)) / 60


def write_card(model: Path, runs: Path) -> str:
    """The card of an exported model, as Markdown.

    Only the cards of models of the public set have the aims and the series of trainings.

    Raises:
        RunError: the run that the model names is missing, or was not evaluated on its test split.
    """
    metadata = Recognizer.load(model).metadata
    run = Run(runs / metadata.training_run)
    public = metadata.data_digest == public_data.DIGEST
    clean = _evaluation(run, "test")
    if clean is None:
        raise RunError(f"{run.folder} was not evaluated; run `make evaluate` first.")
    robustness = _evaluation(run, "robustness-test")
    rejection = _evaluation(run, "rejection-test")
    minutes = _minutes(run)
    card = _TEMPLATE.format(
        **_described(metadata),
        parameters=f"{model.stat().st_size / 1e6:.1f} MB",
        quantized=" QUANTIZE=int8" if metadata.version.endswith(INT8) else "",
        symbols=len(metadata.alphabet),
        data=_public_data() if public else _OWN_DATA,
        splits="".join(
            f"| {split} | {len(run.split(split))} | `{digest_of(run.split(split))}` |\n"
            for split in SPLITS
        ),
        fitted=fitted_to(run.config),
        commands=commands_of(run, runs),
        besides=" and the augmentation of `training/augmentation/policy.py`"
        if run.config.strength
        else "",
        settings=settings_of(run.config),
        time=f"The epochs of its last run took {minutes:.{int(minutes < 10)}f} minutes together, "
        "other work on that machine included." + (f" {training_time(minutes)}" if public else ""),
        clean=_clean(clean),
        robust=_robust(robustness) if robustness else _NOT_DISTORTED,
        aims=aims_missed(clean, robustness) if public and robustness else "",
        confidence=_confidence(robustness) if robustness else "",
        rejection=_rejection(rejection) if rejection else _NOT_REJECTED,
        series=series_section(model.parent, (metadata.data_digest, digest_of(run.split("test")))),
    )
    return re.sub("\n{3,}", "\n\n", card)


def _public_data() -> str:
    wrong = (f"`{label}` shows {shown}" for label, shown in public_data.WRONG_LABELS.items())
    return _PUBLIC_DATA.format(wrong=", ".join(wrong))


def _described(metadata: ModelMetadata) -> dict[str, Any]:
    described = asdict(metadata)
    return {key: value for key, value in described.items() if key not in ("golden", "figures")}


def _evaluation(run: Run, name: str) -> dict[str, Any] | None:
    """The results of an evaluation; None if there was no such evaluation."""
    try:
        text = (run.folder / "evaluation" / f"{name}.json").read_text(encoding="utf-8")
    except OSError:
        return None
    evaluation: dict[str, Any] = json.loads(text)
    return evaluation


def _clean(summary: dict[str, Any]) -> str:
    lines = [
        "`make evaluate`:",
        "",
        "| pictures | exact | exact match | 95 % interval | CER |",
        "|---|---|---|---|---|",
    ]
    rows = {"all": summary, "with adjacent repeats": summary["adjacent_repeats"]}
    for name, row in rows.items():
        if not row["pictures"]:
            continue
        low, high = row["exact_match_interval"]
        lines.append(
            f"| {name} | {row['exact']}/{row['pictures']} | {row['exact_match']:.4f} "
            f"| {low:.4f}–{high:.4f} | {row['cer']:.4f} |"
        )
    return "\n".join(lines)


def _robust(summary: dict[str, Any]) -> str:
    return (
        "`make evaluate-robustness`: every test picture under fixed distortions "
        "(`training/augmentation/conditions.py`).\n\n"
        "![exact match per condition](robustness.png)\n\n"
        + table(summary)
        + "\n"
        + _pooled(summary["texts"])
    )


def _pooled(texts: dict[str, Any]) -> str:
    low, high = wilson_interval(texts["right"], texts["count"])
    return (
        f"All readings together: {texts['right']}/{texts['count']}, 95 % interval {low:.4f}–"
        f"{high:.4f}. The interval assumes independent readings, but all conditions have the same "
        "pictures.\n"
    )


def _confidence(summary: dict[str, Any]) -> str:
    lines = [
        "The same command judges the confidences over all of these conditions together (ECE over "
        "15 bins; AUROC, how often a right reading has a higher confidence than a wrong one).",
        "",
        "![reliability diagram](reliability.png)",
        "",
        "| of | right | ECE | AUROC |",
        "|---|---|---|---|",
    ]
    for kind in ("texts", "characters"):
        row = summary[kind]
        lines.append(
            f"| {kind} | {row['right']}/{row['count']} | {_figure(row['ece'])} "
            f"| {_figure(row['auroc'])} |"
        )
    return "\n".join(lines) + "\n"


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


def _rejection(summary: dict[str, Any]) -> str:
    low, high = summary["interval"]
    kinds = ", ".join(
        f"{kind} {found}/{count}" for kind, (found, count) in summary["kinds"].items()
    )
    return (
        f"`make evaluate-rejection`: of {summary['pictures']} pictures without such a text, "
        f"{summary['flagged']} = {summary['flagged_share']:.4f} (95 % interval {low:.4f}–"
        f"{high:.4f}) are read as empty or with a confidence below {summary['threshold']:.4f}, "
        f"which 98 % of the clean test pictures reach: {kinds}.\n"
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser("card", __doc__)
    parser.add_argument("--model", type=Path, default=Path("models/captcha.onnx"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path("models/README.md"))
    arguments = parser.parse_args(argv)
    arguments.out.write_text(write_card(arguments.model, arguments.runs), encoding="utf-8")
    print(f"written to {arguments.out}")

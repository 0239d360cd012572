"""The results of series of runs: JSON files, and tables in Markdown for the model card."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from training.data.download import DIGEST, WRONG_LABELS
from training.evaluation.metrics import wilson_interval

LABEL_CURVE = "label-curve.json"
CROSS_VALIDATION = "cross-validation.json"

MOST_MISREAD = 1
"""Aim for the cross-validation: at most this many of all pictures are misread."""


def write_summary(path: Path, summary: Mapping[str, Any]) -> Path:
    """Writes the results of a series for the model card; returns the path."""
    path.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def label_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| labelled pictures | exact, each seed | mean exact match | 95 % interval |",
        "|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["exact_match_interval"]
        each = ", ".join(f"{exact}/{row['pictures']}" for exact in row["exact"])
        lines.append(
            f"| {row['labels']} | {each} | {row['exact_match']:.4f} | {low:.4f}–{high:.4f} |"
        )
    return "\n".join(lines)


def fold_table(summary: dict[str, Any]) -> str:
    """The folds as a Markdown table, the sum, and the errors."""
    lines = ["| fold | exact |", "|---|---|"]
    for number, fold in enumerate(summary["folds"], 1):
        lines.append(f"| {number} | {fold['exact']}/{fold['pictures']} |")
    low, high = summary["exact_match_interval"]
    lines.append(
        f"\nAll: {summary['exact']}/{summary['pictures']} = {summary['exact_match']:.4f} "
        f"(95 % interval {low:.4f}–{high:.4f}), CER {summary['cer']:.5f}."
    )
    over = len(summary["errors"]) - MOST_MISREAD
    outcome = f"missed by {over}" if over > 0 else "reached"
    lines.append(f"The aim of at most {MOST_MISREAD} misread picture was {outcome}.")
    lines += [f"`{e['label']}` was read as `{e['read']}`." for e in summary["errors"]]
    if summary["digest"] == DIGEST:
        lines.append(_without_wrong_labels(summary))
    return "\n".join(lines)


def _without_wrong_labels(summary: dict[str, Any]) -> str:
    misread = {error["label"] for error in summary["errors"]}
    pictures = summary["pictures"] - len(WRONG_LABELS)
    exact = summary["exact"] - len(WRONG_LABELS.keys() - misread)
    low, high = wilson_interval(exact, pictures)
    labels = ", ".join(f"`{label}`, which shows {shown}" for label, shown in WRONG_LABELS.items())
    return (
        f"\nWithout {labels}: {exact}/{pictures} = {exact / pictures:.4f} "
        f"(95 % interval {low:.4f}–{high:.4f})."
    )


def series_section(folder: Path, digests: Collection[str]) -> str:
    """The section of the model card on the series of trainings in a model's folder.

    Args:
        digests: the digests of the model's data and of its test split. Series on other pictures
            are left out.
    """
    parts = []
    curve = _measured(folder / LABEL_CURVE)
    if curve.get("test_digest") in digests:
        parts.append(
            "## With few labels\n\n"
            "These figures are of other models. Each was trained on the given number of labelled "
            "pictures and read the test split (digest `" + curve["test_digest"] + "`), starting "
            f"from `{curve['started_from']}`: `make label-curve`. The interval is Wilson's over "
            "the readings of all seeds.\n\n![exact match by labelled pictures](label-curve.png)\n\n"
            + label_table(curve["rows"])
        )
    folds = _measured(folder / CROSS_VALIDATION)
    if folds.get("digest") in digests:
        start = folds["start_trained_by"]
        parts.append(
            "## Every picture, unseen\n\n"
            "These figures are of ten other models. Each was trained on nine tenths of the "
            f"pictures and read the rest (digest of all: `{folds['digest']}`), starting from "
            f"`{folds['started_from']}`"
            + (f", which was trained by {start}" if start else "")
            + ": `make cross-validate`"
            + ".\n\n"
            + fold_table(folds)
        )
    return "".join(part + "\n\n" for part in parts)


def _measured(path: Path) -> dict[str, Any]:
    """The results of a series; empty if there was no such series."""
    if not path.exists():
        return {}
    summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return summary

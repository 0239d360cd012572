import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from training.data.charts import draw_misread
from training.data.dataset import Dataset
from training.data.download import DIGEST
from training.data.label_errors import read_opinions
from training.evaluation import cross_validate, label_curve
from training.evaluation.evaluate import write_results
from training.evaluation.sweep import name_of_start, read_held_out, trained
from training.evaluation.sweep_tables import fold_table, label_table, series_section
from training.exceptions import ConfigError
from training.fit.base_file import BASE
from training.fit.config import TrainConfig
from training.fit.runs import Run


def test_a_finished_run_of_the_series_is_not_trained_again(run: Run, config: TrainConfig) -> None:
    """The same settings give the existing run, which reads its own test split."""
    dataset = Dataset(Path(config.data))
    again = trained(config, run.folder.parent)
    assert again.folder == run.folder
    assert [result.sample for result in read_held_out(again, dataset)] == run.split("test")


def test_folds_are_read_by_models_that_have_not_seen_them(
    config: TrainConfig, tmp_path: Path
) -> None:
    """No picture that a fold reads is in its run's other splits. A second call trains nothing."""
    quick = replace(config, epochs=1, generated=0, backgrounds=0, strength=0.0)
    (results,) = folds = list(cross_validate.read_folds(quick, tmp_path, folds=(3,)))
    dataset = Dataset(Path(config.data))
    assert len(results) == 4
    (path,) = tmp_path.glob("*-fold-3")
    seen = set(Run(path).split("train") + Run(path).split("validation"))
    assert not seen & set(Run(path).split("test"))
    summary = cross_validate.summarize(folds)
    assert summary["pictures"] == 4
    assert summary["exact"] + len(summary["errors"]) == summary["pictures"]

    before = sorted(tmp_path.iterdir())
    assert list(cross_validate.read_folds(quick, tmp_path, folds=(3,))) == folds
    assert sorted(tmp_path.iterdir()) == before, "a second call trained again"

    write_results(tmp_path, "all", results)
    opinions = read_opinions(tmp_path / "all.csv")
    assert {digest: one.text for digest, one in opinions.items()} == {
        result.sample.sha256: result.reading.text for result in results
    }
    pairs = [(result.sample, result.reading.text) for result in results]
    some, none = (draw_misread(dataset, chosen) for chosen in (pairs, []))
    assert np.asarray(some).std() > 0
    assert some.height > none.height


def settings_of(config: TrainConfig) -> label_curve.Settings:
    return lambda labels, seed: replace(config, labels=labels, seed=seed)


def test_a_label_curve_with_too_many_labels_trains_nothing(
    config: TrainConfig, tmp_path: Path
) -> None:
    """Without this check, the command would fail only after hours."""
    with pytest.raises(ConfigError, match="labels is 999; the training split has"):
        label_curve.measure(settings_of(config), [4, 999], 1, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_label_curve_has_a_row_for_each_number_of_labels(
    run: Run, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each seed draws other labels; the row has every exact match and an interval."""
    asked = []

    def trained(settings: TrainConfig, runs: Path) -> Run:
        asked.append((settings.labels, settings.seed))
        return run

    monkeypatch.setattr(label_curve, "trained", trained)
    (row,) = label_curve.measure(settings_of(config), [4], 2, tmp_path)
    assert asked == [(4, 1), (4, 2)]
    assert len(row["exact"]) == 2
    assert 0 <= row["exact_match_interval"][0] <= row["exact_match_interval"][1] <= 1
    label_curve.draw_curve([row], tmp_path / "curve.png")
    assert np.asarray(Image.open(tmp_path / "curve.png")).std() > 0


def test_the_base_is_named_without_its_folder() -> None:
    """Another start of a series, a run or a model, is named as in the settings."""
    assert name_of_start(TrainConfig(init_from=str(BASE))) == "base.npz"
    assert name_of_start(TrainConfig(init_from="runs/first")) == "runs/first"


def test_the_card_shows_each_series_with_its_command_and_digest(tmp_path: Path) -> None:
    """The card also shows intervals, and only series of the same data."""
    assert series_section(tmp_path, ("abc", "def")) == ""
    row = {
        "labels": 50, "pictures": 104, "exact": [99, 103], "exact_match": 0.97115,
        "exact_match_interval": [0.93, 0.98],
    }  # fmt: skip
    assert "| 50 | 99/104, 103/104 | 0.9711 | 0.9300–0.9800 |" in label_table([row])
    summary: dict[str, Any] = {
        "pictures": 20, "exact": 19, "exact_match": 0.95, "exact_match_interval": [0.76, 0.99],
        "cer": 0.01, "digest": "abc", "folds": [{"pictures": 20, "exact": 19}],
        "started_from": "x", "start_trained_by": "`y`",
        "errors": [{"source": "s", "label": "ab", "read": "a"}],
    }  # fmt: skip
    assert "All: 19/20 = 0.9500 (95 % interval 0.7600–0.9900)" in fold_table(summary)
    assert "`ab` was read as `a`" in fold_table(summary)
    assert "picture was reached" in fold_table(summary)
    assert "picture was missed by 2" in fold_table(summary | {"errors": 3 * summary["errors"]})
    assert "Without" not in fold_table(summary)
    right = fold_table(summary | {"digest": DIGEST})
    assert "Without `cdcb3`, which shows edcb3: 18/19 = 0.9474" in right
    wrong = {"source": "s", "label": "cdcb3", "read": "edcb3"}
    assert "edcb3: 19/19" in fold_table(summary | {"digest": DIGEST, "errors": [wrong]})
    curve = {"started_from": "runs/p", "test_digest": "def", "rows": [row]}
    (tmp_path / "label-curve.json").write_text(json.dumps(curve))
    (tmp_path / "cross-validation.json").write_text(json.dumps(summary))
    assert "With few labels" not in series_section(tmp_path, ("abc", "other"))
    assert "Every picture" not in series_section(tmp_path, ("other", "def"))
    section = series_section(tmp_path, ("abc", "def"))
    for expected in (
        "starting from `runs/p`", "`def`",
        "starting from `x`, which was trained by `y`: `make cross-validate`.", "`abc`",
    ):  # fmt: skip
        assert expected in section

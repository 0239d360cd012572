from pathlib import Path

import numpy as np
import pytest

from service.ocr.recognizer import Recognizer
from tests import stripes
from training.augmentation.conditions import CONDITIONS
from training.data.dataset import Dataset
from training.data.prepare import prepare
from training.evaluation import compare
from training.evaluation.compare import contestant_of, table
from training.exceptions import DataError
from training.models.registry import build_model


@pytest.fixture
def striped(tmp_path: Path) -> Dataset:
    """Pictures of stripes, one of them with a wrong label."""
    (tmp_path / "pictures").mkdir()
    for number, text in enumerate(("ab", "ba", "cd", "abcd", "dcba")):
        label = "aa" if number == 0 else text
        picture = stripes.picture(" ".join(text))
        (tmp_path / "pictures" / f"{label}.png").write_bytes(picture)
    prepare(tmp_path / "pictures", tmp_path / "data")
    return Dataset(tmp_path / "data")


def test_models_are_compared_on_the_same_pictures(
    striped: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The table has a row for each model; times are relative to the first model."""
    first = stripes.write_model(tmp_path / "first.onnx")
    second = stripes.write_model(tmp_path / "second.onnx", version="2")
    monkeypatch.setattr(compare, "CONDITIONS", CONDITIONS[:3])
    arguments = [str(first), str(second), "--split", "all", "--rounds", "1"]
    compare.main([*arguments, "--data", str(striped.folder)])
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("|")
    ][2:]
    assert [row[0] for row in rows] == ["1", "2"]
    assert [row[5] for row in rows] == ["4/5", "4/5"]
    assert rows[0][4] == "1.00"
    assert rows[0][2] == "5", "the stripes' levels are the only weights of the graph"


def test_pictures_that_a_model_may_have_seen_are_refused(striped: Dataset, tmp_path: Path) -> None:
    """A model without its run is compared only on its own data or, on request, on all pictures."""
    path = stripes.write_model(tmp_path / "model.onnx")
    with pytest.raises(DataError, match="it is unknown which"):
        contestant_of(path, striped, tmp_path, "test")
    assert contestant_of(path, striped, tmp_path, "all").architecture == "–"


def test_figures_are_rounded_in_the_table(recognizer: Recognizer) -> None:
    one = compare.Contestant(Path("a"), "crnn", 432_596, recognizer, [])
    row = compare.Row(one, 2.0, {"exact": 103, "pictures": 104}, {"mean": 0.98, "minimum": 0.85})
    line = table([row, compare.Row(one, 3.0, row.clean, row.robust)]).splitlines()[-1]
    assert line == "| 1 | crnn | 432,596 | 3.00 | 1.50 | 103/104 | 0.9800 | 0.8500 |"


def test_parameters_are_counted_as_keras_counts_them() -> None:
    """The model is that of the tutorial."""
    from training.export.onnx_export import convert

    model = build_model("crnn", 48, 16, 4)
    # The file would leave out biases of zero, and store equal weights once.
    generator = np.random.default_rng(0)
    model.set_weights([generator.normal(size=w.shape) for w in model.get_weights()])
    assert compare.parameters_of(convert(model).graph) == model.count_params()

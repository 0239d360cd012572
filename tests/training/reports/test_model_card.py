import json
import shutil
from pathlib import Path

import onnx
import pytest

from service.ocr.recognizer import Recognizer
from training.data.download import DIGEST
from training.evaluation.evaluate import summarize
from training.evaluation.sweep_tables import series_section
from training.exceptions import RunError
from training.fit.runs import Run
from training.reports.model_card import _clean, _public_data, write_card

ROOT = Path(__file__).parents[3]
ROW = {
    "pictures": 2,
    "exact": 1,
    "exact_match": 0.5,
    "exact_match_interval": [0.1, 0.9],
    "cer": 0.2,
}


def test_the_card_has_no_row_without_pictures() -> None:
    """The test split of a small set may have no label with adjacent repeats."""
    none = summarize([])["adjacent_repeats"]
    text = _clean({**ROW, "adjacent_repeats": none})
    assert "| all | 1/2 | 0.5000 | 0.1000–0.9000 | 0.2000 |" in text
    assert "adjacent" not in text
    assert "| with adjacent repeats | 1/2 |" in _clean({**ROW, "adjacent_repeats": ROW})


def test_the_card_of_a_users_model_has_its_own_figures(
    exported: Path, run: Run, tmp_path: Path
) -> None:
    """The card has commands for the missing figures, and nothing about the public set."""
    copy = tmp_path / "runs" / run.folder.name
    shutil.copytree(run.folder, copy)
    shutil.rmtree(copy / "evaluation", ignore_errors=True)
    models = shutil.copytree(ROOT / "models", tmp_path / "models")
    model = Path(shutil.copy(exported, models / "captcha.onnx"))
    with pytest.raises(RunError, match="run `make evaluate` first"):
        write_card(model, copy.parent)

    (copy / "evaluation").mkdir()
    (copy / "evaluation" / "test.json").write_text(json.dumps({**ROW, "adjacent_repeats": ROW}))
    card = write_card(model, copy.parent)
    for expected in (
        "`make data DATA=…`", "| all | 1/2 |", "`make evaluate-robustness` does it",
        "`make evaluate-rejection` does it", "`7AB`",
    ):  # fmt: skip
        assert expected in card
    for other in ("CaptchaCracker", "cdcb3", "The aim", "With few labels", ".png)"):
        assert other not in card
    assert "exported by\n`make export-onnx` from" in card

    quantized = onnx.load(model)
    (version,) = (entry for entry in quantized.metadata_props if entry.key == "version")
    version.value += "-int8"
    onnx.save(quantized, model)
    assert "`make export-onnx QUANTIZE=int8` from" in write_card(model, copy.parent)


def test_the_bundled_card_agrees_with_the_files_beside_it() -> None:
    """The card also names the wrong label of the public set."""
    models = ROOT / "models"
    if Recognizer.load(models / "captcha.onnx").metadata.data_digest != DIGEST:
        pytest.skip("models/captcha.onnx was trained on other pictures than the public set")
    card = (models / "README.md").read_text(encoding="utf-8")
    curve = json.loads((models / "label-curve.json").read_text(encoding="utf-8"))
    assert series_section(models, (DIGEST, curve["test_digest"])) in card
    assert _public_data() in card

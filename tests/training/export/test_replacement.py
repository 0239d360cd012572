import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from service.ocr.recognizer import Recognizer
from tests import stripes
from training.__main__ import main
from training.data.dataset import Dataset
from training.data.prepare import prepare
from training.exceptions import ExportError
from training.export.command import compare
from training.export.replacement import chance_of_luck, replace_model
from training.fit.config import TrainConfig
from training.fit.runs import Run


@pytest.fixture
def striped(tmp_path: Path) -> Dataset:
    """Twelve pictures that the stripe model reads."""
    texts = ["ab", "ba", "ac", "ca", "ad", "da", "bc", "cb", "bd", "db", "cd", "dc"]
    folder = tmp_path / "pictures"
    folder.mkdir()
    for text in texts:
        (folder / f"{text}.png").write_bytes(stripes.picture(text))
    prepare(folder, tmp_path / "data")
    return Dataset(tmp_path / "data")


def blind_model(path: Path) -> Path:
    """Writes a stripe model with its alphabet in another order, so that it reads no text right."""
    stripes.write_model(path, alphabet="badc")
    return path


def test_the_old_model_is_kept_beside_the_new_one(striped: Dataset, tmp_path: Path) -> None:
    """A new model that is equally good replaces the old one, which can be copied back."""
    new = stripes.write_model(tmp_path / "new.onnx", version="2")
    served = stripes.write_model(tmp_path / "served.onnx", version="1")
    kept = replace_model(new, served, striped, striped.samples)
    assert kept == tmp_path / "served.previous.onnx"
    assert Recognizer.load(served).metadata.version == "2"
    assert Recognizer.load(kept).metadata.version == "1"
    assert new.exists()


def test_without_an_old_model_nothing_is_kept(striped: Dataset, tmp_path: Path) -> None:
    """The folder of the model is created."""
    new = stripes.write_model(tmp_path / "new.onnx")
    assert replace_model(new, tmp_path / "models" / "m.onnx", striped, striped.samples) is None
    assert (tmp_path / "models" / "m.onnx").exists()


@pytest.mark.parametrize("old", [True, False])
def test_a_model_that_reads_nothing_is_refused(old: bool, striped: Dataset, tmp_path: Path) -> None:
    """With or without an old model: the served model stays, unless the export is forced."""
    served = tmp_path / "served.onnx"
    if old:
        stripes.write_model(served, version="1")
    blind = blind_model(tmp_path / "blind.onnx")
    with pytest.raises(ExportError, match=r"reads none of 12 test pictures\..*FORCE=1"):
        replace_model(blind, served, striped, striped.samples)
    assert served.exists() == old
    assert not old or Recognizer.load(served).metadata.version == "1"
    replace_model(blind, served, striped, striped.samples, force=True)
    assert served.read_bytes() == blind.read_bytes()


def test_a_model_that_reads_none_of_a_few_pictures_is_accepted(
    striped: Dataset, tmp_path: Path
) -> None:
    """Nearly all characters are right. Five pictures may all be hard, but 20 may not."""
    new = stripes.write_model(tmp_path / "new.onnx")
    served = tmp_path / "served.onnx"
    hard = [replace(sample, label=sample.label + "x") for sample in striped.samples]
    with pytest.raises(ExportError, match="reads none of 24 test pictures"):
        replace_model(new, served, striped, hard * 2)
    replace_model(new, served, striped, hard[:5])
    assert served.exists()


def test_a_model_that_reads_significantly_worse_is_refused(
    striped: Dataset, tmp_path: Path
) -> None:
    """2 pictures of 12 instead of 12 are no bad luck; the error gives both figures."""
    half = [
        replace(sample, label=sample.label if number % 2 else "x")
        for number, sample in enumerate(striped.samples)
    ]
    served = stripes.write_model(tmp_path / "served.onnx", version="1")
    # The new model confuses c and d, so it reads only `ab` and `ba`.
    worse = stripes.write_model(tmp_path / "worse.onnx", version="2", alphabet="abdc")
    with pytest.raises(ExportError, match=r"reads 2 of 12 test pictures, the old one 12"):
        replace_model(worse, served, striped, striped.samples)
    assert replace_model(worse, served, striped, half[:1] + striped.samples[:2]) is not None


def test_the_chance_of_luck_agrees_with_a_count_by_hand() -> None:
    """Five pictures lost and none gained have a chance of 1 in 32."""
    old, new = [True] * 5 + [False] * 5, [False] * 10
    assert chance_of_luck(old, new) == 1 / 32
    assert chance_of_luck(old, old) == 1
    assert chance_of_luck([True, False], [False, True]) == 0.75


def test_the_figures_of_old_and_new_model_are_shown_side_by_side() -> None:
    """Without an old model, the new model is shown alone."""
    new = replace(stripes.metadata(), version="1.0")
    old = replace(stripes.metadata(), version="0.9")
    lines = compare(old, new).splitlines()
    assert lines[0].split() == ["old", "new"]
    assert next(line for line in lines if line.startswith("version")).split() == [
        "version",
        "0.9",
        "1.0",
    ]
    assert compare(None, new).splitlines()[0].split() == ["new"]


def test_train_and_export_replace_the_served_model(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`train` exports its run, and `export` copies the exported file to the served path."""
    one_epoch = replace(config, epochs=1, architecture="residual-crnn", channels=3)
    one_epoch.save(tmp_path / "one.toml")
    runs, served = tmp_path / "runs", tmp_path / "models" / "captcha.onnx"
    assert main(["train", "--runs", str(runs), "--config", str(tmp_path / "one.toml")]) == 0
    run = Run.find(runs, None)
    assert run.is_current(run.exported)
    export = ["export", "--runs", str(runs), "--out", str(served)]
    with pytest.raises(SystemExit):
        main(export)
    assert "reads none of 4 test pictures" in capsys.readouterr().err
    assert main([*export, "--force"]) == 0
    assert served.read_bytes() == run.exported.read_bytes()
    recognizer = Recognizer.load(served)
    recognizer.verify()
    assert recognizer.metadata.training_run == run.name
    assert (recognizer.metadata.width, recognizer.metadata.channels) == (48, 3)
    assert 0 < recognizer.metadata.min_confidence < 1
    shutil.rmtree(run.folder)

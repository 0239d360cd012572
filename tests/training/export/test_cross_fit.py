import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from service.ocr.decoding.decoder import Reading
from service.ocr.recognizer import Recognizer
from training.data.dataset import Dataset
from training.data.label_errors import read_opinions
from training.evaluation.evaluate import Result
from training.export.calibrate import calibration_of
from training.export.cross_fit import cross_fit
from training.export.held_out import COPIES, HeldOut, held_out_of, report_held_out
from training.fit.config import TrainConfig
from training.fit.runs import Run


@pytest.fixture
def own_run(run: Run, tmp_path: Path) -> Run:
    """A copy of the small run, which a test may change."""
    return Run(Path(shutil.copytree(run.folder, tmp_path / "runs" / run.name)))


@dataclass(frozen=True)
class CrossFitted:
    """A run whose weights are those of the small run plus 1, and what its halves have read."""

    run: Run
    found: HeldOut


@pytest.fixture(scope="module")
def cross_fitted(run: Run, data: Path, tmp_path_factory: pytest.TempPathFactory) -> CrossFitted:
    """Half of the training is kept: both halves together have their lowest loss there."""
    folder = tmp_path_factory.mktemp("runs") / run.name
    own_run = Run(Path(shutil.copytree(run.folder, folder)))
    config = replace(
        run.config, init_from=str(run.folder), interpolated=True, train_on_validation=True
    )
    config.save(folder / "config.toml")
    model = run.load_model()
    model.set_weights([weight + 1 for weight in model.get_weights()])
    own_run.save_best(model)
    losses = iter([{1.0: 5.0, 0.9: 1.0, 0.5: 2.0}, {1.0: 1.0, 0.9: 5.0, 0.5: 2.0}])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.export.cross_fit.losses_between", lambda *_: next(losses))
        return CrossFitted(own_run, cross_fit(own_run, Dataset(data)))


def test_every_labelled_picture_is_read_by_a_model_that_has_not_seen_it(
    cross_fitted: CrossFitted, dataset: Dataset, exported: Path
) -> None:
    """Once, in the order of the halves; the export prefers the halves to the validation split."""
    own_run, found = cross_fitted.run, cross_fitted.found
    labelled = own_run.split("train") + own_run.split("validation")
    assert sorted(found.labels) == sorted(sample.label for sample in labelled)
    assert len({sample.sha256 for sample in found.samples}) == len(labelled) == 36
    assert found.clean.shape == (36, 12, 4)
    assert found.distorted.shape == (COPIES, 36, 12, 4)
    # Each picture is read by one of two models, which are not the exported one.
    tensors = dataset.tensors(found.samples, 48, 16)
    seen_all = Recognizer.load(exported).infer(tensors)
    assert not np.allclose(found.clean, seen_all, atol=1e-3)
    assert sorted(path.name for path in own_run.folder.glob("*fit*")) == ["cross-fit.npz"]

    stored = held_out_of(own_run, Recognizer.load(exported), dataset)
    assert stored.samples == found.samples
    assert np.allclose(stored.clean, found.clean, atol=1e-3)
    assert np.allclose(stored.distorted, found.distorted, atol=1e-3)


def test_the_halves_choose_how_much_of_the_training_is_kept(
    cross_fitted: CrossFitted, run: Run
) -> None:
    """The share with the lowest summed loss of both halves is kept."""
    before, after = run.load_model().get_weights(), cross_fitted.run.load_model().get_weights()
    for now, then in zip(after, before, strict=True):
        assert np.allclose(now, then + 0.5, atol=1e-5)


def test_without_halves_the_validation_split_is_read(
    run: Run, dataset: Dataset, exported: Path
) -> None:
    """Distorted copies of the split calibrate the model, unless the split has too few pictures."""
    recognizer = Recognizer.load(exported)
    found = held_out_of(run, recognizer, dataset)
    assert found.samples == run.split("validation")
    assert calibration_of(recognizer, found).temperature == 1.2
    assert calibration_of(recognizer, found).text.scale == 1.0
    more = HeldOut.of(recognizer, dataset, run.split("train"), run.config.augmentation)
    assert calibration_of(recognizer, more).text.scale != 1.0


def test_halves_are_complements(dataset: Dataset) -> None:
    """Together, both halves are all labelled pictures; no picture is in both."""
    from training.data.split import split_by_content
    from training.fit.datamodule import labelled_samples

    splits = split_by_content(dataset.samples)
    for config in (TrainConfig(), TrainConfig(labels=9), TrainConfig(train_on_validation=True)):
        first, second = (labelled_samples(replace(config, half=half), splits) for half in (1, 2))
        assert not set(first) & set(second)
        assert set(first) | set(second) == set(labelled_samples(config, splits))
        assert abs(len(first) - len(second)) <= 1


def test_the_report_names_doubtful_labels(own_run: Run) -> None:
    """A confident reading may differ from the label; a command to show the picture is given."""
    samples = own_run.split("validation")[:4]
    texts = [sample.label for sample in samples[:3]] + ["BBBB"]
    results = [
        Result(sample, Reading(text, 0.95, ())) for sample, text in zip(samples, texts, strict=True)
    ]
    report = report_held_out(own_run, results)
    assert report.startswith(f"is the label right? {samples[3].source} is {samples[3].label!r}, ")
    assert "read as 'BBBB' with confidence 0.950" in report
    table = own_run.folder / "evaluation" / "held-out.csv"
    assert f"make inspect READINGS={table}" in report
    assert read_opinions(table)[samples[3].sha256].text == "BBBB"

    assert report_held_out(own_run, results[:3]) == ""


def test_the_report_gives_the_exact_match_of_models_with_half_of_the_labels(own_run: Run) -> None:
    """The run was cross-fitted."""
    samples = own_run.split("train")[:4]
    texts = [sample.label for sample in samples[:3]] + ["BBBB"]
    results = [
        Result(sample, Reading(text, 0.4, ())) for sample, text in zip(samples, texts, strict=True)
    ]
    probabilities = np.zeros((4, 12, 4), np.float32)
    HeldOut(samples, probabilities, np.stack([probabilities] * COPIES)).save(own_run)
    report = report_held_out(own_run, results)
    assert "two models read 3 in the other half: 0.75 (95 % interval 0.30 to 0.95)" in report
    assert "is the label right" not in report

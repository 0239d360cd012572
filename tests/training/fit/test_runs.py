import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from training.exceptions import RunError
from training.fit.config import TrainConfig
from training.fit.runs import Run, with_start_found


def test_a_run_counts_as_finished_only_at_its_end(
    run: Run, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed run is not exported half done, and can always be resumed or begin anew."""
    splits = {split: run.split(split) for split in ("train", "validation", "test")}
    killed = Run.create(tmp_path, config, run.facts, splits)
    killed.best_weights.write_bytes(b"half of the weights")
    assert not killed.finished
    assert killed.load_progress() is None, "the run begins anew"
    killed.save_progress({"epoch": 1})
    killed.epoch_weights(1).write_bytes(b"weights")

    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "glob", kill)
        with pytest.raises(KeyboardInterrupt):
            killed.finish()
    killed.unlock()
    assert killed.finished
    assert Run.find_interrupted(tmp_path, config, run.facts) is None


def test_only_an_unlocked_run_of_the_same_settings_and_data_is_resumed(
    run: Run, config: TrainConfig, tmp_path: Path
) -> None:
    """A run that is being trained is locked."""
    splits = {split: run.split(split) for split in ("train", "validation", "test")}
    waiting = Run.create(tmp_path, config, run.facts, splits)
    assert Run.find_interrupted(tmp_path, config, run.facts) is None, "it is locked by this process"
    waiting.unlock()
    assert Run.find_interrupted(tmp_path, replace(config, epochs=9), run.facts) is None
    assert Run.find_interrupted(tmp_path, config, replace(run.facts, data_digest="x")) is None
    found = Run.find_interrupted(tmp_path, config, run.facts)
    assert found is not None
    assert found.folder == waiting.folder


def test_a_run_is_found_by_default_by_name_or_by_folder(run: Run, tmp_path: Path) -> None:
    """The default is the newest finished run; an unfinished or a missing run is an error."""
    with pytest.raises(RunError, match="make train"):
        Run.find(tmp_path, None)
    for name in ("20200101-000000-old", "20300101-000000-new", "20310101-000000-unfinished"):
        shutil.copytree(run.folder, tmp_path / name)
    (tmp_path / "20310101-000000-unfinished" / "progress.json").write_text("{}")
    assert Run.find(tmp_path, None).name == "20300101-000000-new"
    assert Run.find(tmp_path, "20200101-000000-old").name == "20200101-000000-old"
    assert Run.find(tmp_path, str(run.folder)).name == run.name
    with pytest.raises(RunError, match="is not finished: 0 of 3 epochs"):
        Run.find(tmp_path, "20310101-000000-unfinished")
    with pytest.raises(RunError, match="no run nothing"):
        Run.find(tmp_path, "nothing")


def test_a_starting_run_is_found_by_the_name_in_the_settings(run: Run) -> None:
    """The newest finished run of that name is used; the settings keep the folder of the run."""
    found = with_start_found(TrainConfig(init_from="small"), run.folder.parent)
    assert Path(found.init_from) == run.folder
    assert with_start_found(found, Path("elsewhere")) == found
    assert with_start_found(TrainConfig(init_from="x.onnx"), run.folder).init_from == "x.onnx"

from dataclasses import replace
from pathlib import Path

from training.config import TrainConfig
from training.provenance import commands_of, fitted_to
from training.runs import Run


def test_what_a_model_saw() -> None:
    """The sentence names the splits, the generated pictures and who chose the epoch."""
    plain = fitted_to(TrainConfig())
    assert plain == "the training split; the validation split chose the epoch"
    more = fitted_to(TrainConfig(train_on_validation=True, generated=9))
    assert "the training and the validation split, and to 9 generated pictures" in more
    assert "chose" not in more
    assert "the last epoch was kept" in fitted_to(TrainConfig(keep_last=True))


def test_the_commands_go_back_to_the_beginning(run: Run, tmp_path: Path) -> None:
    """Of a run that started from another, the other's command comes first."""
    runs = run.folder.parent
    assert commands_of(run, runs) == "`make data && make train RECIPE=robust`"
    splits = {split: run.split(split) for split in ("train", "validation", "test")}
    next_config = replace(run.config, init_from=run.name)
    second = Run.create(tmp_path, next_config, run.facts, splits)
    assert commands_of(second, runs) == (
        "`make data && make train RECIPE=robust`, then "
        f"`make train RECIPE=refine FINETUNE={run.name}`"
    )
    assert commands_of(second, tmp_path).startswith("`make train RECIPE=refine FINETUNE=")

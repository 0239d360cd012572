"""Says in words what a model was trained on, and by which commands."""

from pathlib import Path

from training.exceptions import RunError
from training.fit.base_file import BASE
from training.fit.config import RECIPES, TrainConfig, load_config
from training.fit.runs import Run


def fitted_to(config: TrainConfig) -> str:
    """Describes the pictures that a model was fitted to, and how its epoch was chosen."""
    splits = "the training split"
    choice, judge = "the validation split chose the epoch", "validation"
    if config.keep_last:
        choice = "the last epoch was kept"
    if config.train_on_validation:
        splits = "the training and the validation split"
        choice, judge = "the last epoch was kept", "test"
    if config.generated:
        splits += f", and to {config.generated} generated pictures (`training/synthetic`)"
    return f"{splits}; {choice}, and confidences were calibrated on the {judge} split"


def settings_of(config: TrainConfig) -> str:
    """The settings as TOML, without the many amounts of the augmentation.

    Paths in the project's folder become relative to it.
    """
    lines = (line for line in config.lines() if not line.startswith("augmentation."))
    return "".join(lines).replace(f"{BASE.parents[1]}/", "")


def commands_of(run: Run, runs: Path) -> str:
    """The command that trained a run, after the commands that trained its starting model."""
    config = run.config
    if Path(config.init_from).name == BASE.name:
        return "`make data && make train`"
    if config.init_from:
        command = f"`make train FINETUNE={config.init_from}`"
        before = commands_of_start(config, runs)
        return f"{before}, then {command}" if before else command
    recipe = "robust" if config.strength else "seed"
    return f"`make data && make train RECIPE={recipe}{_arguments(config, recipe)}`"


def commands_of_start(config: TrainConfig, runs: Path) -> str:
    """The commands that trained the starting model of a run; empty if its run is missing."""
    try:
        return commands_of(Run.find(runs, config.init_from), runs)
    except RunError:
        return ""


def _arguments(config: TrainConfig, recipe: str) -> str:
    """The options that differ from the recipe in its current version."""
    own, usual = (c.by_name() for c in (config, load_config(RECIPES / f"{recipe}.toml", {})))
    options = [
        f"--{key.replace('_', '-')} {str(value).lower() if isinstance(value, bool) else value}"
        for key, value in own.items()
        if key != "init_from" and value != usual[key]
    ]
    return f' ARGS="{" ".join(options)}"' if options else ""

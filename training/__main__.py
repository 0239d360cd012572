"""The command line of training, `python -m training <verb>`; `make` has a target for each verb."""

import importlib
import sys
from collections.abc import Callable, Sequence

from training.exceptions import reported
from training.settings import nearest

VERBS = {
    "data": ("training.data.prepare", "check and store labelled pictures"),
    "inspect": ("training.data.report", "report on the stored pictures and their labels"),
    "synthetic": ("training.synthetic.generate", "generate labelled pictures"),
    "base": ("training.base.command", "make the model that trainings start from"),
    "preview": ("training.reports.preview", "draw every distortion of training"),
    "train": ("training.fit.train", "train a model, or resume an interrupted training"),
    "export": ("training.export.command", "export a run to the model that is served"),
    "evaluate": ("training.evaluation.evaluate", "read a split through the exported model"),
    "compare": ("training.evaluation.compare", "exported models side by side"),
    "robustness": ("training.evaluation.robustness", "read a split under fixed distortions"),
    "rejection": ("training.evaluation.rejection", "tell pictures without text from others"),
    "label-curve": ("training.evaluation.label_curve", "exact match by number of labels"),
    "cross-validate": ("training.evaluation.cross_validate", "read each picture unseen"),
    "calibrate": ("training.export.calibrate", "fit the exported model's confidences anew"),
    "card": ("training.reports.model_card", "write the model card from the evaluations"),
}
"""The module of each verb, and the verb's help text. The module's `main` takes the arguments."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a verb and returns the exit status; prints one sentence for an error of the user."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        print(f"error: there is no verb {verb}; {nearest(verb, VERBS)}", file=sys.stderr)
        return 2
    run: Callable[[Sequence[str]], None] = importlib.import_module(VERBS[verb][0]).main
    try:
        with reported():
            run(rest)
    except KeyboardInterrupt as interruption:
        print(f"\ninterrupted{f'; {interruption}' if interruption.args else ''}", file=sys.stderr)
        return 130
    return 0


def _help() -> str:
    width = max(map(len, VERBS)) + 2
    lines = [f"  {verb:{width}}{meaning}" for verb, (_, meaning) in VERBS.items()]
    return "\n".join(
        ["usage: python -m training <verb> [options]", "", *lines, "",
         "python -m training <verb> --help describes the options of a verb."]
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

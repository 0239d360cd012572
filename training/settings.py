"""Declares settings with their help texts, and the parser that every command uses."""

import argparse
import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import field
from typing import Any, NoReturn


def setting(default: Any, meaning: str, choices: Sequence[str] = ()) -> Any:
    """A dataclass field with a default, a help text, and the values that are allowed for a text."""
    return field(default=default, metadata={"help": meaning, "choices": tuple(choices)})


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest known names, or all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=2)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known are {', '.join(known)}."


class Parser(argparse.ArgumentParser):
    """A parser that answers an unknown option or choice with the nearest names."""

    def __init__(self, verb: str, description: str | None) -> None:
        super().__init__(
            prog=f"python -m training {verb}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Ends the command with exit status 2."""
        unknown = re.match(r"unrecognized arguments: (-\S*?)(=|\s|$)", message)
        choice = re.match(r"argument .*: invalid choice: '(.*)' \(choose from (.*)\)", message)
        if unknown:
            hint = nearest(unknown[1], self._option_string_actions)
            message = f"there is no option {unknown[1]}; {hint}"
        elif choice:
            message = f"{choice[1]!r} is not known; " + nearest(
                choice[1], [name.strip("' ") for name in choice[2].split(",")]
            )
        self.exit(2, f"error: {message}\n")

"""Declares a setting with its meaning, so that help texts and files can show it."""

from collections.abc import Sequence
from dataclasses import field
from typing import Any


def setting(default: Any, meaning: str, choices: Sequence[str] = ()) -> Any:
    """A dataclass field with a default, what it means in words, and which texts it may be."""
    return field(default=default, metadata={"help": meaning, "choices": tuple(choices)})

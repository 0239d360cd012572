"""Declares a setting with its meaning, so that help texts and files can show it."""

from dataclasses import field
from typing import Any


def setting(default: Any, meaning: str) -> Any:
    """A dataclass field with a default, and what it means in words."""
    return field(default=default, metadata={"help": meaning})

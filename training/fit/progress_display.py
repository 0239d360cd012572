"""Shows the progress of an epoch: a bar on a terminal, elsewhere a line every minute."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

_LINE_SECONDS = 60.0


Advance = Callable[[int, float], None]
"""Called after every step with the number of pictures so far and their mean loss."""


@contextmanager
def epoch_display(
    epoch: int, epochs: int, pictures: int, most_seconds: float = math.inf
) -> Iterator[Advance]:
    """Shows the progress of one epoch.

    Args:
        epoch: number of the epoch, from 1.
        epochs: number of epochs that are planned.
        pictures: number of pictures in the epoch.
        most_seconds: seconds after which no other epoch begins.
    """
    started = shown = time.monotonic()
    title = f"epoch {epoch:3}/{epochs}"

    def state(seen: int, loss: float) -> str:
        passed = time.monotonic() - started
        this, whole = (passed * (count * pictures / seen - 1) for count in (1, epochs - epoch + 1))
        left = max(this, min(whole, most_seconds - passed))
        return f"loss {loss:7.3f}  {duration(left)} left"

    if sys.stdout.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
                   TextColumn("{task.fields[state]}"))  # fmt: skip
        with Progress(*columns, console=Console(), transient=True) as bar:
            task = bar.add_task(title, total=pictures, state="")

            def advance_bar(seen: int, loss: float) -> None:
                bar.update(task, completed=seen, state=state(seen, loss))

            yield advance_bar
        return

    def advance_lines(seen: int, loss: float) -> None:
        nonlocal shown
        if time.monotonic() - shown >= _LINE_SECONDS:
            shown = time.monotonic()
            print(f"{title}  {seen / pictures:4.0%}  {state(seen, loss)}", flush=True)

    yield advance_lines


def duration(seconds: float) -> str:
    """A time in words, such as `40 s`, `12 min` or `1 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"

"""Pictures for the base, which separate processes draw into memory that the training reads.

The pool is a ring: the newest picture replaces the oldest. Each picture is used several times,
each time augmented differently, since drawing a picture takes longer than a training step on a
GPU.
"""

import ctypes
import json
import multiprocessing
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.ocr.decoding.ctc import CtcCodec
from service.ocr.exceptions import LabelError
from training.base.alphabet import ALPHABET
from training.data.dataset import PADDING, time_steps_of
from training.synthetic.alignment import frames_of
from training.synthetic.fonts import Font, read_fonts
from training.synthetic.generate import Drawing
from training.synthetic.negatives import draw_background
from training.synthetic.pictures import draw
from training.synthetic.random_styles import random_style
from training.synthetic.texts import random_text

WIDTH, HEIGHT, CHANNELS = 200, 50, 3
LONGEST = 12
CODEC = CtcCodec(ALPHABET, len(ALPHABET))
_TIME_STEPS = time_steps_of(WIDTH)
_NEGATIVES = 0.02
_EMPTY = 0.02
_HELD_OUT = 20
"""One of this many families of fonts is kept for validation."""


def load_fonts(folder: Path) -> tuple[Font, ...]:
    """The fonts of a folder, reduced to the symbols of the base; caches the list in `index.json`.

    Raises:
        DataError: the folder has no font.
    """
    index = folder / "index.json"
    if not index.exists():
        wanted = frozenset(ALPHABET)
        entries = [
            (Path(font.path).name, "".join(sorted(font.symbols & wanted)), font.capital)
            for font in read_fonts([folder])
        ]
        index.write_text(json.dumps(entries))
    return tuple(
        Font(str(folder / name), frozenset(symbols), capital)
        for name, symbols, capital in json.loads(index.read_text())
    )


def split_fonts(fonts: Sequence[Font]) -> tuple[tuple[Font, ...], tuple[Font, ...]]:
    """The fonts to train on, and the fonts of the families that are kept for validation."""
    families = sorted({_family(font) for font in fonts})
    kept = set(families[::_HELD_OUT])
    return (
        tuple(font for font in fonts if _family(font) not in kept),
        tuple(font for font in fonts if _family(font) in kept),
    )


def _family(font: Font) -> str:
    return Path(font.path).stem.rsplit("-", 2)[0]


def random_drawing(fonts: Sequence[Font], rng: np.random.Generator) -> Drawing:
    """A picture in a random style; a few have no text."""
    chance = rng.random()
    if chance < _NEGATIVES:
        gray = (draw_background(WIDTH, HEIGHT, rng) * 255).astype(np.uint8)
        return Drawing(Image.fromarray(gray).convert("RGB"), "", ())
    style = random_style(fonts, rng)
    empty = chance < _NEGATIVES + _EMPTY
    while True:
        text = "" if empty else random_text(style.symbols, ALPHABET, rng)
        try:
            CODEC.encode(text, _TIME_STEPS)
        except LabelError:
            continue
        return draw(text, style, WIDTH, HEIGHT, rng)


class Batch(NamedTuple):
    """Pictures, uint8 `(n, width, height, 3)`; labels, int32 `(n, LONGEST)`, filled up with
    `PADDING`; and the classes of the time steps, int32 `(n, time steps)`."""

    pictures: NDArray[np.uint8]
    labels: NDArray[np.int32]
    frames: NDArray[np.int32]


def _arrays(
    folder: Path, capacity: int, mode: Literal["r+", "w+"]
) -> tuple[NDArray[np.uint8], NDArray[np.int8], NDArray[np.uint8]]:
    """Maps the files of the pool's arrays into memory: pictures, labels and frames."""
    shape = (capacity, WIDTH, HEIGHT, CHANNELS)
    return (
        np.memmap(folder / "pictures", np.uint8, mode, shape=shape),
        np.memmap(folder / "labels", np.int8, mode, shape=(capacity, LONGEST)),
        np.memmap(folder / "frames", np.uint8, mode, shape=(capacity, _TIME_STEPS)),
    )


class Pool:
    """Starts processes that draw until `stop`.

    Args:
        folder: the folder of the pool's files, 30 KB a picture; best in memory.
        capacity: number of pictures, rounded down to a multiple of the number of processes.
        processes: number of processes that draw.
        uses: average uses of a picture, at least; no more pictures are drawn than this needs.
        seed: seed of the pictures; the same seed gives the same pictures, in another order.
    """

    def __init__(
        self,
        folder: Path,
        capacity: int,
        processes: int,
        fonts: Sequence[Font],
        seed: int,
        uses: float = 1.0,
    ) -> None:
        self._capacity = capacity // processes * processes
        self._pictures, self._labels, self._frames = _arrays(folder, self._capacity, "w+")
        context = multiprocessing.get_context("spawn")
        self._drawn = context.RawArray("q", processes)
        self._stop = context.RawValue("b", 0)
        self._wanted = context.RawValue("q", self._capacity)
        self._sampled, self._uses = 0, uses
        shared = (folder, self._capacity, self._drawn, self._wanted, self._stop)
        self._processes = [
            context.Process(target=_draw_into, args=(*shared, number, fonts, seed), daemon=True)
            for number in range(processes)
        ]
        for process in self._processes:
            process.start()

    @property
    def drawn(self) -> int:
        """Number of pictures drawn so far."""
        return sum(self._drawn)

    def wait_for(self, count: int) -> None:
        """Waits until this number of pictures is drawn.

        Raises:
            RuntimeError: a process ended.
        """
        while self.drawn < count:
            if not all(process.is_alive() for process in self._processes):
                raise RuntimeError("a process that draws has ended")
            time.sleep(0.1)

    def sample(self, count: int, rng: np.random.Generator) -> Batch:
        """Random pictures from the pool."""
        processes = len(self._processes)
        self._sampled += count
        self._wanted.value = max(self._capacity, int(self._sampled / self._uses))
        ring = self._capacity // processes
        worker = rng.integers(0, processes, count)
        filled = np.minimum(np.array(self._drawn[:]), ring)[worker]
        places = worker * ring + (rng.random(count) * filled).astype(np.int64)
        return Batch(
            self._pictures[places],
            self._labels[places].astype(np.int32),
            self._frames[places].astype(np.int32),
        )

    def stop(self) -> None:
        """Ends the processes."""
        self._stop.value = 1
        for process in self._processes:
            process.join()


def _draw_into(
    folder: Path,
    capacity: int,
    drawn: ctypes.Array[ctypes.c_longlong],
    wanted: ctypes.c_longlong,
    stop: ctypes.c_byte,
    number: int,
    fonts: Sequence[Font],
    seed: int,
) -> None:
    pictures, labels, frames = _arrays(folder, capacity, "r+")
    processes = len(drawn)
    ring = capacity // processes
    rng = np.random.default_rng([seed, number])
    trainer = multiprocessing.parent_process()
    while not stop.value and (trainer is None or trainer.is_alive()):
        if drawn[number] * processes >= wanted.value:
            time.sleep(0.01)
            continue
        try:
            drawing = random_drawing(fonts, rng)
        except Exception:
            # One font in a thousand may fail at some size, which must not end a night's work.
            traceback.print_exc()
            continue
        fill(pictures, labels, frames, number * ring + drawn[number] % ring, drawing)
        drawn[number] += 1


def fill(
    pictures: NDArray[np.uint8],
    labels: NDArray[np.int8],
    frames: NDArray[np.uint8],
    place: int,
    drawing: Drawing,
) -> None:
    """Writes a picture, its label and its frames into the arrays."""
    classes = CODEC.encode(drawing.text, _TIME_STEPS)
    pictures[place] = np.asarray(drawing.image).transpose(1, 0, 2)
    labels[place] = PADDING
    labels[place, : len(classes)] = classes
    frames[place] = frames_of(drawing, WIDTH, CODEC)

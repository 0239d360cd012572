"""`make bench-formats`: measures the costliest accepted picture of every kind.

Prints the CPU time of reading it, divided by that of reading a normal picture. For each kind, the
pictures have as many pixels as are accepted, and samples of different amplitudes; the costliest one
counts. Normal and costly pictures take turns, so that a busy machine slows both alike.
"""

import argparse
import time
from pathlib import Path

from benchmarks.costly_pictures import SMOOTH, costliest, kinds
from service.ocr.preprocessing import DEFAULT_MAX_PIXELS
from service.ocr.recognizer import Recognizer

AMPLITUDES = (0, 1, 15, 255, SMOOTH)
BAR = 15


def cpu_seconds(recognizer: Recognizer, picture: bytes) -> float:
    """CPU time of reading a picture once."""
    started = time.process_time()
    recognizer.read(picture)
    return time.process_time() - started


def ratio(recognizer: Recognizer, normal: bytes, picture: bytes, rounds: int) -> float:
    """The least CPU time of a picture, divided by the least of a normal one."""
    base = costly = float("inf")
    for _ in range(rounds):
        base = min(base, *(cpu_seconds(recognizer, normal) for _ in range(5)))
        costly = min(costly, cpu_seconds(recognizer, picture))
    return costly / base


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.formats", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/captcha.onnx"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-pixels", type=int, default=DEFAULT_MAX_PIXELS)
    arguments = parser.parse_args()
    recognizer = Recognizer.load(arguments.model, max_pixels=arguments.max_pixels)
    normal = sorted(Path("examples").glob("*.png"))[0].read_bytes()
    print(f"{'kind':<36} {'bytes':>9} {'pixels':>9} {'× a normal picture':>19}")
    worst = 0.0
    for name, encode in kinds().items():
        pictures = list(costliest(encode, arguments.max_pixels, AMPLITUDES))
        found = [ratio(recognizer, normal, picture, arguments.rounds) for picture in pictures]
        costly = pictures[found.index(max(found))]
        size = recognizer.preprocess(costly)
        worst = max(worst, *found)
        print(f"{name:<36} {len(costly):>9} {size.width * size.height:>9} {max(found):>19.1f}")
    print(f"The most expensive costs {worst:.1f} × a normal picture; the bar is {BAR}.")


if __name__ == "__main__":
    main()

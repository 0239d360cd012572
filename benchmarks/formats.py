"""`make bench-formats`: what the dearest accepted picture of every kind costs.

Prints the CPU time of reading it, divided by that of reading a normal picture. For each kind the
pictures have as many pixels as are accepted, and samples of different amplitudes; the dearest of
them counts. Normal and dear pictures take turns, so that a busy machine slows both alike.
"""

import argparse
import time
from pathlib import Path

from benchmarks.dear_pictures import SMOOTH, dearest, kinds
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
    """Least CPU time of a picture, divided by that of a normal one."""
    base = dear = float("inf")
    for _ in range(rounds):
        base = min(base, *(cpu_seconds(recognizer, normal) for _ in range(5)))
        dear = min(dear, cpu_seconds(recognizer, picture))
    return dear / base


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
        pictures = list(dearest(encode, arguments.max_pixels, AMPLITUDES))
        found = [ratio(recognizer, normal, picture, arguments.rounds) for picture in pictures]
        dear = pictures[found.index(max(found))]
        size = recognizer.preprocess(dear)
        worst = max(worst, *found)
        print(f"{name:<36} {len(dear):>9} {size.width * size.height:>9} {max(found):>19.1f}")
    print(f"The dearest costs {worst:.1f} × a normal picture; the bar is {BAR}.")


if __name__ == "__main__":
    main()

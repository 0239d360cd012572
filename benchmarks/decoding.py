"""`make bench-decoding`: measures the CPU time of decoding, beside that of the model.

The stages alternate for every picture, so that other load on the machine slows all of them alike.
The pictures are the examples, as they are and distorted.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from service.ocr.decoding.decoder import PLAIN, Question
from service.ocr.recognizer import Recognizer
from training.augmentation.conditions import CONDITIONS
from training.evaluation.robustness import distorted


def measure(recognizer: Recognizer, pictures: list[bytes], rounds: int) -> dict[str, list[float]]:
    """CPU milliseconds of each stage, one figure for each picture and round."""
    decoder = recognizer.decoder
    tensors = [recognizer.preprocess(picture).tensor[np.newaxis] for picture in pictures]
    outputs = [recognizer.infer(tensor)[0] for tensor in tensors]
    stages: dict[str, Callable[[int], object]] = {
        "session.run": lambda i: recognizer.infer(tensors[i]),
        "text, confidences and spans": lambda i: decoder.decode(outputs[i], PLAIN),
        "and 3 alternatives": lambda i: decoder.decode(outputs[i], Question(alternatives=3)),
    }
    times: dict[str, list[float]] = {stage: [] for stage in stages}
    for _ in range(rounds):
        for number in range(len(pictures)):
            for stage, run in stages.items():
                started = time.thread_time()
                run(number)
                times[stage].append(1000 * (time.thread_time() - started))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoding", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/captcha.onnx"))
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    recognizer = Recognizer.load(arguments.model)
    examples = [path.read_bytes() for path in sorted(Path("examples").glob("*.png"))]
    for kind, pictures in {
        "clean": examples,
        "distorted": [distorted(e, c) for e in examples for c in CONDITIONS[1:]],
    }.items():
        rounds = max(1, arguments.rounds * len(examples) // len(pictures))
        times = measure(recognizer, pictures, rounds)
        base = statistics.mean(times["session.run"])
        print(f"{kind} pictures, CPU time of one:")
        for stage, values in times.items():
            mean = statistics.mean(values)
            print(
                f"  {stage:<28} mean {mean:.3f} ms, median {statistics.median(values):.3f} ms, "
                f"{mean / base:.2f} × session.run"
            )


if __name__ == "__main__":
    main()

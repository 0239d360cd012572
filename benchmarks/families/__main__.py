"""The exam: twelve families of pictures, learned from 50, 200 and 800 labels.

For each family and number of labels, runs `make data`, `make train`, `make export-onnx` and
`make evaluate` in a clean folder, as a user would, then reads 200 pictures that training has not
seen. Each combination is a cell. Cells that are already measured are skipped, and the page is
rewritten after each cell.
"""

import argparse
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.families import exam, report
from benchmarks.families.catalogue import FAMILIES


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.families", description=__doc__)
    parser.add_argument("--families", default=",".join(FAMILIES), help="default: all twelve")
    parser.add_argument("--labels", default="50,200,800", help="default: %(default)s")
    parser.add_argument(
        "--readers",
        default=",".join(exam.READERS),
        help="recipes to train with, and ddddocr, which gets no labels; default: %(default)s",
    )
    parser.add_argument(
        "--minutes", type=float, help="time of each training; default: what the bar allows"
    )
    parser.add_argument("--again", action="store_true", help="repeat measured cells, too")
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="default: %(default)s")
    parser.add_argument(
        "--work", type=Path, default=Path("build/families"), help="default: %(default)s"
    )
    parser.add_argument(
        "--python",
        default=".venv-families/bin/python",
        help="Python of the generators' environment; default: %(default)s",
    )
    arguments = parser.parse_args()
    families = _among(parser, "--families", arguments.families, list(FAMILIES))
    labels = _among(parser, "--labels", arguments.labels, [str(count) for count in exam.MINUTES])
    readers = _among(parser, "--readers", arguments.readers, list(exam.READERS))

    # The bars apply to two processors.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    pictures = arguments.work / "pictures"
    drawing = [arguments.python, "-m", "benchmarks.families.isolated.draw", str(pictures)]
    subprocess.run([*drawing, "--families", ",".join(families)], check=True)

    cells = _cells(families, [int(count) for count in labels], readers)
    measured = exam.load(arguments.results)
    for family, count, reader in exam.pending(cells, measured, arguments.again):
        print(f"{family}, {reader}" + (f", {count} labels" if count else ""), flush=True)
        if reader == exam.DDDDOCR:
            outcome = exam.run_ddddocr(pictures / family, arguments.python)
        else:
            work = arguments.work / f"{family}-{count}-{reader}"
            outcome = exam.run(
                pictures / family, count, reader, work.resolve(), minutes=arguments.minutes
            )
        exam.append(arguments.results, outcome)
        print(f"  {outcome.failed or report.line_of(outcome)}", flush=True)
        report.write(exam.load(arguments.results))


def _among(parser: argparse.ArgumentParser, option: str, given: str, known: list[str]) -> list[str]:
    names = given.split(",")
    for name in names:
        if name not in known:
            parser.error(f"{option}: there is no {name!r}, only {', '.join(known)}")
    return names


def _cells(families: list[str], labels: list[int], readers: list[str]) -> Iterator[exam.Key]:
    """Gives the cells, cheap ones first, so that the page has results early."""
    if exam.DDDDOCR in readers:
        yield from ((family, 0, exam.DDDDOCR) for family in families)
    for reader in readers:
        if reader != exam.DDDDOCR:
            yield from ((family, count, reader) for count in labels for family in families)


if __name__ == "__main__":
    main()

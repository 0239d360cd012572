"""`make data`: checks labelled pictures and stores them as the data set that training reads."""

import argparse
import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from rich.progress import track

from service.ocr.decoding.ctc import shortest_path
from service.ocr.exceptions import PictureError
from service.ocr.preprocessing import decode_gray
from training.data import download as public_data
from training.data.dataset import (
    Sample,
    alphabet_of,
    digest_of,
    picture_size_of,
    time_steps_of,
    write_samples,
)
from training.data.sources import Entry, open_source
from training.data.split import FEWEST_SAMPLES
from training.exceptions import DataError, reported


def prepare(source: Path, destination: Path, digest: str | None = None) -> list[Sample]:
    """Stores every usable picture of `source` under `destination`, replacing what was there.

    Names each picture that is left out on standard output, and counts them at the end.

    Args:
        digest: what `digest_of` must give for the pictures, where that is known.

    Raises:
        DataError: no picture of `source` can be used, they are not those of the digest, or
            `source` lies inside `destination`.
    """
    if source.resolve().is_relative_to(destination.resolve()):
        raise DataError(f"{source} lies in {destination}, which would be replaced; move it.")
    if destination.exists() and not (destination / "labels.csv").exists():
        raise DataError(f"{destination} exists and is not a data set of `make data`; move it.")
    destination.parent.mkdir(parents=True, exist_ok=True)
    # Built beside its place, so that a failure half way leaves the old data set alone.
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".data-") as temporary:
        building = Path(temporary) / "data"
        (building / "pictures").mkdir(parents=True)
        with open_source(source) as entries:
            samples, problems = _store(entries, building / "pictures")
        samples, contradictions = _without_contradictions(samples)
        samples, too_long = _without_too_long(samples)
        problems += contradictions + too_long
        for left_out in {path.name for path in (building / "pictures").iterdir()} - {
            sample.sha256 for sample in samples
        }:
            (building / "pictures" / left_out).unlink()
        if not samples and not problems:
            raise DataError(f"{source} holds no pictures.")
        _report(samples, problems)
        if not samples:
            raise DataError(f"no picture of {source} can be used.")
        if digest not in (None, digest_of(samples)):
            raise DataError(f"these are not the expected pictures: their digest is not {digest}.")
        write_samples(building / "labels.csv", samples)
        if destination.exists():
            shutil.rmtree(destination)
        building.rename(destination)
    return samples


Problem = tuple[str, str]
"""A kind of problem, and the sentence that names the picture."""


def _store(entries: Iterable[Entry], folder: Path) -> tuple[list[Sample], list[Problem]]:
    samples: list[Sample] = []
    problems: list[Problem] = []
    for entry in track(list(entries), description="reading pictures"):
        if not entry.label:
            problems.append(("empty label", f"{entry.name}: the label is empty"))
            continue
        try:
            data = entry.read()
            height, width = decode_gray(data).shape
        except (OSError, ValueError, PictureError) as error:
            problems.append(("unreadable picture", f"{entry.name}: {error}"))
            continue
        digest = hashlib.sha256(data).hexdigest()
        (folder / digest).write_bytes(data)
        samples.append(Sample(digest, entry.label, width, height, entry.name))
    return samples, problems


def _without_contradictions(samples: list[Sample]) -> tuple[list[Sample], list[Problem]]:
    """Drops repeated pictures; where the repeats' labels differ, every one of them."""
    copies: dict[str, list[Sample]] = {}
    for sample in samples:
        copies.setdefault(sample.sha256, []).append(sample)
    kept: list[Sample] = []
    problems: list[Problem] = []
    for group in copies.values():
        names = ", ".join(f"{sample.source} ({sample.label})" for sample in group)
        if len({sample.label for sample in group}) > 1:
            problems.append(("duplicate with different labels", f"{names}: which is right?"))
            continue
        if len(group) > 1:
            problems.append(("duplicate", f"{names}: the same picture, kept once"))
        kept.append(group[0])
    return kept, problems


def _without_too_long(samples: list[Sample]) -> tuple[list[Sample], list[Problem]]:
    if not samples:
        return [], []
    time_steps = time_steps_of(picture_size_of(samples)[0])
    too_long = {sample for sample in samples if shortest_path(sample.label) > time_steps}
    problems = [
        (
            "label too long",
            f"{sample.source}: {sample.label!r} needs {shortest_path(sample.label)} time steps, "
            f"the picture's width gives {time_steps}",
        )
        for sample in samples
        if sample in too_long
    ]
    return [sample for sample in samples if sample not in too_long], problems


def _report(samples: list[Sample], problems: list[Problem]) -> None:
    for kind, sentence in problems:
        print(f"{kind}: {sentence}")
    if samples:
        width, height = picture_size_of(samples)
        lengths = sorted({len(sample.label) for sample in samples})
        alphabet = alphabet_of(samples)
        print(
            f"{len(samples)} pictures, mostly {width}×{height}; labels of {lengths[0]} to "
            f"{lengths[-1]} characters over {len(alphabet)} symbols: {alphabet}"
        )
        print(f"digest {digest_of(samples)}")
    if 0 < len(samples) < FEWEST_SAMPLES:
        print(f"too few: training needs at least {FEWEST_SAMPLES}")
    counts = Counter(kind for kind, _ in problems)
    print(", ".join(f"{count} × {kind}" for kind, count in counts.items()) or "no problems found")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.data.prepare", description=__doc__)
    parser.add_argument(
        "source", nargs="?", type=Path, metavar="DATA",
        help="a folder of <label>.png files, a zip of it, a CSV/TSV manifest (path,label), or "
        "MJSynth's annotation_train.txt; without it the public data set is downloaded",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("data"), help="default: %(default)s")
    parser.add_argument("--url", default=public_data.URL, help="where the public data set is")
    arguments = parser.parse_args()
    with reported():
        if arguments.source is not None:
            prepare(arguments.source, arguments.out)
            return
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "captcha_images_v2.zip"
            public_data.download(arguments.url, archive)
            prepare(archive, arguments.out, public_data.DIGEST)


if __name__ == "__main__":
    main()

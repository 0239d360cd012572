"""Checks labelled pictures, shows how they were read, and stores them as the data set that
training reads."""

import argparse
import hashlib
import io
import shutil
import tempfile
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH
from rich.progress import track

from service.ocr.decoding.ctc import shortest_path
from service.ocr.exceptions import PictureError, printable
from service.ocr.preprocessing import DEFAULT_MAX_PIXELS, decode_gray
from training.data import download as public_data
from training.data.charts import draw_first
from training.data.checks import (
    FLAT,
    counted,
    describe,
    doubts_about,
    look_at,
    visible,
    warnings_about,
)
from training.data.dataset import (
    Dataset,
    Sample,
    digest_of,
    is_dataset,
    time_steps_of,
    working_size,
    write_samples,
)
from training.data.filenames import WAYS
from training.data.sources import LeftOut, Source, open_source
from training.exceptions import DataError, reported, shortened

NORMALIZATIONS = ("NFC", "NFKC", "none")

_FIRST = 8
_SHEET = "first.png"
_FEW_LOST = 3
_FEW_LOST_SHARE = 0.02
_MOST_NAMED = 20
_TIFF = (b"II*\0", b"MM\0*")
_MOST_STORED_BYTES = 64 << 30
"""Limit of a data set: a few megabytes of a zip can hold thousands of pictures of 64 MiB."""

_FREE_BYTES = 1 << 30
"""Bytes that stay free on the disk, or half of the free space if that is less."""


def prepare(
    source: Path,
    destination: Path,
    digest: str | None = None,
    *,
    label_from: str | None = None,
    normalization: str = "NFC",
    zip_encoding: str | None = None,
    accept: bool = False,
    report: Path | None = None,
) -> list[Sample]:
    """Stores every usable picture of `source` in `destination`, replacing an old data set.

    Prints how labels were found, the first pictures with their labels, what was left out and why,
    and what may be wrong.

    Args:
        digest: the expected result of `digest_of`, if it is known.
        label_from, zip_encoding: passed to `open_source`.
        normalization: one of `NORMALIZATIONS`, the Unicode form of the stored labels.
        accept: whether to store the data even if labels are doubtful or more than a few pictures
            are lost.
        report: folder for `first.png`, the first pictures with their labels.

    Raises:
        DataError: no picture of `source` can be used, the digest is another, the labels are
            doubtful and not accepted, the pictures need too much of the disk, or `source` is
            inside `destination`.
    """
    if source.resolve().is_relative_to(destination.resolve()):
        raise DataError(f"{source} lies in {destination}, which would be replaced; move it.")
    if destination.exists() and not is_dataset(destination):
        raise DataError(f"{destination} exists and is not a data set of `make data`; move it.")
    destination.parent.mkdir(parents=True, exist_ok=True)
    # Built in a temporary folder beside it, so that a failure leaves the old data set unchanged.
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".data-") as temporary:
        building = Path(temporary) / "data"
        (building / "pictures").mkdir(parents=True)
        with open_source(source, label_from, zip_encoding) as opened:
            stored = _store(opened, building / "pictures", normalization)
        stored = _without_too_long(_without_contradictions(stored))
        samples = stored.samples
        write_samples(building / "labels.csv", samples)
        kept = {sample.sha256 for sample in samples}
        for picture in (building / "pictures").iterdir():
            if picture.name not in kept:
                picture.unlink()
        if not samples and not any(one.lost for one in stored.left_out):
            found = f", but {_counted(stored.left_out)}" if stored.left_out else ""
            raise DataError(f"{source} holds no pictures{found}.")
        dataset = Dataset(building)
        if report is not None:
            report.mkdir(parents=True, exist_ok=True)
            (report / _SHEET).unlink(missing_ok=True)
            if samples:
                draw_first(dataset, _FIRST).save(report / _SHEET)
        _show(opened.notes + stored.notes, dataset, stored, report)
        if not samples:
            raise DataError(f"no picture of {source} can be used.")
        if digest not in (None, digest_of(samples)):
            raise DataError(f"these are not the expected pictures: their digest is not {digest}.")
        doubts = [*opened.doubts, *doubts_about(samples), *_losses(stored)]
        if doubts and not accept:
            raise DataError(
                "nothing was stored, since the labels may not be what they seem:\n  - "
                + "\n  - ".join(doubts)
                + "\nCorrect that, or pass --accept if all is as it should be."
            )
        for doubt in doubts:
            print(f"accepted: {printable(doubt)}")
        # Renamed, since deleting takes so long that a user may interrupt it.
        if destination.exists():
            destination.rename(Path(temporary) / "old")
        building.rename(destination)
    return samples


@dataclass(slots=True)
class _Stored:
    """The result of storing the entries of a source."""

    samples: list[Sample] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    flat: set[str] = field(default_factory=set)
    """Digests of pictures without contrast in gray."""
    notes: list[str] = field(default_factory=list)


def _store(source: Source, folder: Path, normalization: str) -> _Stored:
    stored = _Stored(left_out=list(source.left_out))
    respelled = tiffs = written = 0
    free = shutil.disk_usage(folder).free
    most = min(_MOST_STORED_BYTES, max(free - _FREE_BYTES, free // 2))
    for entry in track(source.entries, description="reading pictures"):
        label = entry.label
        if normalization != "none":
            label = unicodedata.normalize(normalization, label)  # type: ignore[arg-type]
        respelled += label != entry.label
        try:
            data = entry.read()
            if data.startswith(_TIFF):
                data = _png_of_tiff(data)
                tiffs += 1
            gray = decode_gray(data)
        except (OSError, ValueError, PictureError) as error:
            stored.left_out.append(LeftOut("unreadable picture", f"{entry.name}: {error}", lost=1))
            continue
        digest = hashlib.sha256(data).hexdigest()
        if gray.std() < FLAT:
            stored.flat.add(digest)
        if not (folder / digest).exists():
            written += len(data)
            if written > most:
                raise DataError(
                    f"the pictures up to {entry.name} unpack to more than {most >> 20:,} MiB. A "
                    f"data set has at most {_MOST_STORED_BYTES >> 30} GiB, and leaves 1 GiB of the "
                    f"disk free, of which {free >> 20:,} MiB are. Leave pictures out, make them "
                    "smaller, or pass --out with a folder on a larger disk."
                )
            (folder / digest).write_bytes(data)
        height, width = gray.shape
        stored.samples.append(Sample(digest, label, width, height, entry.name))
    if respelled:
        stored.notes.append(
            f"{counted(respelled, 'label')} in another form of Unicode: stored in {normalization}"
        )
    if tiffs:
        stored.notes.append(f"{counted(tiffs, 'TIFF')}: stored as PNG, without loss")
    return stored


def _png_of_tiff(data: bytes) -> bytes:
    """The first page of a TIFF as a PNG, which the service reads.

    Raises:
        ValueError: the TIFF is too large or broken, or its samples are neither gray nor colour.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
            tags: Any = image.tag_v2  # type: ignore[attr-defined]
            # A tile is unpacked as a whole, even if the picture is smaller.
            tile = tags.get(TILEWIDTH, 0) * tags.get(TILELENGTH, 0)
            if max(image.width * image.height, tile) > DEFAULT_MAX_PIXELS:
                raise ValueError(f"{image.width}×{image.height} pixels, or a tile, are too many")
            if image.mode in ("F", "I"):
                raise ValueError(f"its samples ({image.mode}) are not of 1, 8 or 16 bits")
            upright: Image.Image = ImageOps.exif_transpose(image)
            if upright.mode in ("CMYK", "YCbCr", "LAB"):
                upright = upright.convert("RGB")
            elif upright.mode.startswith("I;16"):
                upright = upright.convert("I;16")
            file = io.BytesIO()
            upright.save(file, "PNG")
    except Exception as error:
        # Pillow raises many types of exception for a broken file.
        raise ValueError(f"The TIFF cannot be read: {error}.") from error
    return file.getvalue()


def _without_contradictions(stored: _Stored) -> _Stored:
    """Drops repeated pictures, and every copy of a picture whose copies differ in their labels."""
    copies: dict[str, list[Sample]] = defaultdict(list)
    for sample in stored.samples:
        copies[sample.sha256].append(sample)
    kept: list[Sample] = []
    left_out = list(stored.left_out)
    for group in copies.values():
        names = ", ".join(f"{sample.source} ({sample.label})" for sample in group)
        if len({sample.label for sample in group}) > 1:
            kind = "duplicate with different labels"
            left_out.append(LeftOut(kind, f"{names}: which is right?", lost=len(group)))
            continue
        if len(group) > 1:
            left_out.append(LeftOut("duplicate", f"{names}: the same picture, kept once"))
        kept.append(group[0])
    return replace(stored, samples=kept, left_out=left_out)


def _without_too_long(stored: _Stored) -> _Stored:
    """Drops pictures with labels that a model of these pictures cannot emit."""
    if not stored.samples:
        return stored
    time_steps = time_steps_of(working_size(stored.samples)[0])
    kept: list[Sample] = []
    left_out = list(stored.left_out)
    for sample in stored.samples:
        needed = shortest_path(sample.label)
        if needed <= time_steps:
            kept.append(sample)
            continue
        left_out.append(
            LeftOut(
                "label too long",
                f"{sample.source}: {sample.label!r} needs {needed} time steps, a model of these "
                f"pictures has {time_steps}",
                lost=1,
            )
        )
    return replace(stored, samples=kept, left_out=left_out)


def _losses(stored: _Stored) -> list[str]:
    """A doubt, if more than a few pictures are lost."""
    lost = sum(one.lost for one in stored.left_out)
    total = lost + len(stored.samples)
    if lost <= max(_FEW_LOST, _FEW_LOST_SHARE * total):
        return []
    return [f"{lost} of {total} pictures are lost, for the reasons above"]


def _counted(left_out: Sequence[LeftOut]) -> str:
    kinds = Counter(one.kind for one in left_out)
    return ", ".join(f"{count} × {kind}" for kind, count in kinds.items())


def _show(notes: Sequence[str], dataset: Dataset, stored: _Stored, report: Path | None) -> None:
    """Prints what was read, what was left out and what may be wrong."""
    samples = dataset.samples
    for note in notes:
        print(printable(note))
    if samples:
        sheet = f", also in {report / _SHEET}" if report is not None else ""
        print(f"\nthe first pictures and their labels{sheet}:")
        for sample in samples[:_FIRST]:
            print(f"  {printable(sample.source)}  {''.join(map(visible, sample.label))}")
        print("", *describe(samples), f"digest {digest_of(samples)}", sep="\n")
    kinds: dict[str, list[LeftOut]] = defaultdict(list)
    for one in stored.left_out:
        kinds[one.kind].append(one)
    if kinds:
        print("\nleft out:")
    for kind, members in kinds.items():
        for one in members[:_MOST_NAMED]:
            print(f"{kind}: {shortened(printable(one.name))}")
        if len(members) > _MOST_NAMED:
            print(f"{kind}: … and {len(members) - _MOST_NAMED} more")
    flat = [sample for sample in samples if sample.sha256 in stored.flat]
    warnings = warnings_about(samples, look_at(dataset, flat))
    print()
    for warning in warnings:
        print(f"warning: {printable(warning)}")
    if kinds:
        print(f"left out: {_counted(stored.left_out)}")
    elif not warnings:
        print("no problems found")


_EPILOG = (
    """\
A label is looked for in tables of labels in the folder, then in a text file beside each
picture, then in the file names. --label-from says where it is:
  table   in a table
  text    in the text file of the picture's name
"""
    + "".join(f"  {way:7} in {meaning}\n" for way, (_, meaning) in WAYS.items())
    + """\
or a regular expression that matches the file name without its suffix, with the label in
parentheses, such as '\\d+_(.+)'.
"""
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "source", nargs="?", type=Path, metavar="DATA",
        help="a folder of pictures, a zip of one, or a table of paths and labels (CSV, TSV, JSON "
        "lines, JSON, PaddleOCR's or MJSynth's text); without it the public data set is downloaded",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("data"), help="default: %(default)s")
    parser.add_argument("--url", default=public_data.URL, help="address of the public data set")
    parser.add_argument(
        "--label-from", metavar="WAY", help="where the label of a picture is; see below"
    )
    parser.add_argument(
        "--normalization", choices=NORMALIZATIONS, default="NFC",
        help="the Unicode form of labels; NFKC unifies full-width and half-width characters; "
        "default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--zip-encoding", metavar="NAME", help="encoding of names in the zip, such as gbk or cp437"
    )
    parser.add_argument(
        "--report", type=Path, default=Path("report/data"),
        help="folder for first.png, the first pictures; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--accept", action="store_true",
        help="store the data even if labels are doubtful or more than a few pictures are lost",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    with reported():
        if options.source is not None:
            prepare(
                options.source,
                options.out,
                label_from=options.label_from,
                normalization=options.normalization,
                zip_encoding=options.zip_encoding,
                accept=options.accept,
                report=options.report,
            )
            return
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "captcha_images_v2.zip"
            public_data.download(options.url, archive)
            prepare(archive, options.out, public_data.DIGEST, report=options.report)


if __name__ == "__main__":
    main()

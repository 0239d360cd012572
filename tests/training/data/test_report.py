import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import stripes
from training.data import report as data_report
from training.data.dataset import Dataset
from training.data.duplicates import find_duplicates, fingerprint
from training.data.inspection import Inspection, inspect
from training.data.label_errors import find_suspicious, opinions_of, read_opinions
from training.data.prepare import prepare
from training.data.report import report, write_report
from training.exceptions import DataError
from training.synthetic.generate import generate

Labelled = tuple[str, bytes]


def data_set(folder: Path, pictures: Sequence[Labelled]) -> Dataset:
    """A prepared data set of labels and PNG files."""
    folder.mkdir(exist_ok=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        manifest = csv.writer(file)
        manifest.writerow(("path", "label"))
        for number, (label, picture) in enumerate(pictures):
            (folder / f"{number}.png").write_bytes(picture)
            manifest.writerow((f"{number}.png", label))
    prepare(folder / "labels.csv", folder.parent / "data", accept=True)
    return Dataset(folder.parent / "data")


def drawn(count: int, alphabet: str = "AB7", lengths: Sequence[int] = (2, 3)) -> list[Labelled]:
    drawings = generate(count, alphabet, lengths, 60, 24, seed=3)
    return [(drawing.text, drawing.png()) for drawing in drawings]


def encoded(picture: bytes, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(picture)).save(file, **options)
    return file.getvalue()


def test_the_same_picture_in_another_file_is_found(tmp_path: Path) -> None:
    """Equal and nearly equal pixels are found; other pictures are not."""
    pictures = drawn(30)
    equal = ("AB", encoded(pictures[4][1], format="BMP"))
    nearly = (pictures[7][0], encoded(pictures[7][1], format="JPEG", quality=60))
    found = inspect(data_set(tmp_path / "pictures", [*pictures, equal, nearly])).pairs
    assert [{pair.first.source, pair.second.source} for pair in found] == [
        {"4.png", "30.png"},
        {"7.png", "31.png"},
    ]
    assert found[0].correlation == pytest.approx(1, abs=1e-3)
    assert found[1].correlation < found[0].correlation


def test_pairs_of_duplicates_are_found_at_any_distance() -> None:
    """Each pair comes once, although pictures are compared block by block."""
    generator = np.random.default_rng(0)
    grays = [generator.random((20, 50), np.float32) for _ in range(600)]
    grays[599], grays[300] = grays[0], grays[299]
    pairs = find_duplicates([fingerprint(gray) for gray in grays])
    assert {(pair.first, pair.second) for pair in pairs} == {(0, 599), (299, 300)}


def test_flat_pictures_are_no_duplicates() -> None:
    """Flat pictures are reported as flat instead."""
    flat = fingerprint(np.full((20, 50), 0.5, np.float32))
    assert find_duplicates([flat, flat]) == []


def test_duplicates_across_splits_are_reported(tmp_path: Path) -> None:
    """A pair of a test picture and a training picture comes first, and in red."""
    pictures = drawn(40)
    copies = [(label, encoded(picture, format="BMP")) for label, picture in pictures]
    dataset = data_set(tmp_path / "pictures", pictures + copies)
    inspection = inspect(dataset)
    across = [pair for pair in inspection.pairs if pair.across]
    assert len(inspection.pairs) == 40
    assert 0 < len(across) < 40
    assert all(set(pair.splits) <= {"train", "validation", "test"} for pair in across)
    text = write_report(dataset, inspection, tmp_path / "report")
    assert f"40 pairs of nearly equal pictures, 40 of them equal, {len(across)} across" in text
    sheet = np.asarray(Image.open(tmp_path / "report" / "duplicates.png"))
    assert (sheet == (187, 0, 0)).all(axis=2).any()


def test_labels_that_a_model_contradicts_are_found(
    stripe_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong label is reported with the reading of the model; right labels are not reported."""
    from service.ocr.recognizer import Recognizer

    pictures = [(text, stripes.picture(text.replace("", " "))) for text in ("ab", "cd", "ba")]
    wrong = ("dd", stripes.picture("a b c"))
    foreign = ("xy", stripes.picture("c a"))
    dataset = data_set(tmp_path / "pictures", [*pictures, wrong, foreign])
    recognizer = Recognizer.load(stripe_model)
    opinions = opinions_of(recognizer, dataset, dataset.samples)
    assert len(opinions) == 4, "the model has no opinion on letters that it does not know"
    assert "reading 4 pictures with the model" in capsys.readouterr().out
    (found,) = find_suspicious(dataset.samples, opinions)
    assert (found.sample.label, found.opinion.text) == ("dd", "abc")
    assert found.opinion.confidence > 0.9


def test_opinions_can_come_from_a_table(tmp_path: Path) -> None:
    """`make evaluate` writes such a table; for other tables, the error names missing columns."""
    path = tmp_path / "test.csv"
    path.write_text("sha256,source,label,text,exact,confidence\nff,a.png,ab,ac,0,0.95\n")
    assert read_opinions(path)["ff"].text == "ac"
    path.write_text("sha256,source\nff,a.png\n")
    with pytest.raises(DataError, match="lacks the column confidence and text"):
        read_opinions(path)
    path.write_text("sha256,text,confidence\nff,ab,high\n")
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_opinions(path)
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_opinions(tmp_path / "none.csv")


def command(data: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> str:
    arguments = ["inspect", "--data", str(data), "--out", str(out), *options]
    monkeypatch.setattr(sys, "argv", arguments)
    data_report.main()
    return (out / "report.txt").read_text(encoding="utf-8")


ODD = {
    "one picture": drawn(1),
    "labels of one character": drawn(20, "AB", (1,)),
    "thousands of symbols": [
        (chr(0x4E00 + 3 * n) + chr(0x4E01 + 3 * n) + "$", picture)
        for n, (_, picture) in enumerate(drawn(1200))
    ],
    "a different size each": [
        ("a", encoded(picture, format="PNG"))
        for size in range(1, 30)
        for picture in [stripes.encode(Image.new("L", (7 * size, 61 - 2 * size), 8 * size))]
    ],
    "spaces and signs": [(label, p) for label, (_, p) in zip("%_^$\\", drawn(5), strict=True)],
}


@pytest.mark.parametrize("kind", ODD)
def test_the_report_is_written_for_any_data_set(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines and charts of the report keep a readable size."""
    data_set(tmp_path / "pictures", ODD[kind])
    out = tmp_path / "report"
    text = command(tmp_path / "data", out, monkeypatch)
    assert text.startswith(f"{len(ODD[kind])} picture")
    assert max(map(len, text.splitlines())) < 2000
    for name in ("histograms.png", "samples.png"):
        with Image.open(out / name) as image:
            assert max(image.size) < 5000


def test_the_report_says_what_was_not_checked(
    data: Path, stripe_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report says how to name a model, and how many of many pictures were compared."""
    out = tmp_path / "report"
    text = command(data, out, monkeypatch, "--compare", "7")
    assert "name a model" in text
    assert "of the 40 pictures, 7 were compared" in text
    (out / "suspicious.png").write_bytes(b"old")
    text = command(data, out, monkeypatch, "--model", str(stripe_model))
    assert "0 of 0 judged labels are contradicted by a confidence of 0.9 or more" in text
    assert not (out / "suspicious.png").exists(), "an old sheet is left behind"


def test_characters_in_no_training_picture_are_reported(tmp_path: Path) -> None:
    """A model cannot learn a character that only held-out pictures have."""
    pictures = drawn(20)
    probe = inspect(data_set(tmp_path / "probe", pictures))
    held_out = next(s for s in probe.samples if probe.splits[s.sha256] == "test")
    relabelled = [
        ("Q" if f"{number}.png" == held_out.source else label, picture)
        for number, (label, picture) in enumerate(pictures)
    ]
    inspection: Inspection = inspect(data_set(tmp_path / "pictures", relabelled))
    assert "warning: symbols that are in no training picture, by chance: Q\n" in report(inspection)

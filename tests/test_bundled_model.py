"""The shipped model does what its metadata and card state, on examples and on the real data."""

from pathlib import Path

import keras
import numpy as np
import pytest

from service.ocr.decoding.decoder import Reading
from service.ocr.decoding.likelihood import log_likelihood
from service.ocr.preprocessing import preprocess
from service.ocr.recognizer import Recognizer
from training.data.dataset import Dataset, digest_of
from training.data.download import DIGEST, WRONG_LABELS
from training.data.prepare import prepare
from training.data.split import split_by_content
from training.evaluation.evaluate import read_samples_with
from training.evaluation.metrics import exact_matches
from training.evaluation.rejection import evaluate_rejection
from training.synthetic.generate import generate

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.png"))
PUBLIC_SET = ROOT.parent / "shared" / "data" / "captcha_images_v2.zip"


@pytest.fixture(scope="module")
def bundled() -> Recognizer:
    """The shipped model. Skips the test if a model for other pictures has replaced it."""
    recognizer = Recognizer.load(ROOT / "models" / "captcha.onnx")
    if recognizer.metadata.data_digest != DIGEST:
        pytest.skip("models/captcha.onnx was trained on other pictures than the public set")
    return recognizer


def test_there_are_examples() -> None:
    """A newcomer finds at least six pictures to post."""
    assert len(EXAMPLES) >= 6


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_read(example: Path, bundled: Recognizer) -> None:
    """Every example is read correctly; the file's name is its text."""
    assert bundled.read(example.read_bytes()).text == example.stem


def test_reading_in_a_batch_gives_the_same_answers(bundled: Recognizer) -> None:
    """Texts are equal to those of single pictures; confidences are equal except for rounding."""
    pictures = [example.read_bytes() for example in EXAMPLES]
    for count in (2, 3, 4):
        together = bundled.read_all(pictures[:count])
        for picture, found in zip(pictures[:count], together, strict=True):
            assert isinstance(found, Reading)
            alone = bundled.read(picture)
            assert found.text == alone.text
            assert found.confidence == pytest.approx(alone.confidence, abs=1e-5)


def test_the_model_reads_its_golden_pictures_as_at_its_export(bundled: Recognizer) -> None:
    """The texts are those that the metadata state."""
    bundled.verify()


def test_the_model_card_describes_this_version(bundled: Recognizer) -> None:
    """The card was written for the shipped version and its data."""
    card = (ROOT / "models" / "README.md").read_text(encoding="utf-8")
    assert bundled.metadata.version in card
    assert bundled.metadata.data_digest in card


@pytest.mark.skipif(not PUBLIC_SET.exists(), reason=f"the public set is not at {PUBLIC_SET}")
def test_the_model_is_as_exact_on_the_real_test_split_as_stated(
    bundled: Recognizer, tmp_path: Path
) -> None:
    """Reading the held-out real pictures gives the number of exact matches in the metadata."""
    samples = prepare(PUBLIC_SET, tmp_path / "data")
    assert len(samples) == 1040
    assert digest_of(samples) == DIGEST
    splits = split_by_content(samples)
    assert {sample.label for sample in splits["train"]} >= WRONG_LABELS.keys(), "as the card says"
    test = splits["test"]
    results = read_samples_with(bundled, Dataset(tmp_path / "data"), test)
    exact = exact_matches(result.pair for result in results)
    assert exact == bundled.metadata.figures["exact"]
    assert exact >= 103


def test_spans_are_where_the_characters_are(bundled: Recognizer) -> None:
    """On generated pictures, whose character boxes are known, spans and boxes have a mean
    intersection over union of at least 0.5, and 95 % of the spans have their centre in the box.
    """
    metadata = bundled.metadata
    overlaps, centred = [], []
    for drawing in generate(200, metadata.alphabet, (5,), metadata.width, metadata.height, seed=77):
        reading = bundled.read(drawing.png())
        if reading.text != drawing.text:
            continue
        for character, (x0, _, x1, _) in zip(reading.characters, drawing.boxes, strict=True):
            left, right = character.span
            shared = max(0.0, min(right, x1) - max(left, x0))
            overlaps.append(shared / (max(right, x1) - min(left, x0)))
            centred.append(abs((left + right) / 2 - (x0 + x1) / 2) < (x1 - x0) / 2)
    assert len(overlaps) > 5 * 150
    assert np.mean(overlaps) >= 0.5
    assert np.mean(centred) >= 0.95


def test_pictures_of_other_content_are_flagged(bundled: Recognizer) -> None:
    """At least 95 % of at least 300 pictures of at least 12 kinds are flagged, at the threshold of
    clean examples.
    """
    clean = [bundled.read(example.read_bytes()).confidence for example in EXAMPLES]
    summary = evaluate_rejection(bundled, clean)
    assert len(summary["kinds"]) >= 12
    assert summary["pictures"] >= 300
    assert summary["flagged_share"] >= 0.95


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_likelihoods_equal_the_ctc_loss_of_keras(example: Path, bundled: Recognizer) -> None:
    """On real outputs, for the right text and for another text."""
    metadata = bundled.metadata
    tensor = preprocess(example.read_bytes(), metadata.width, metadata.height)
    rows = np.maximum(bundled.infer(tensor[np.newaxis])[0].astype(np.float64), 1e-9)
    for text in (example.stem, example.stem[:2] + example.stem[::-1]):
        label = bundled.codec.encode(text, len(rows))
        loss = keras.ops.ctc_loss(
            np.array([label]),
            np.log(rows)[np.newaxis].astype(np.float32),
            np.array([len(label)]),
            np.array([len(rows)]),
            mask_index=metadata.blank_index,
        )
        found = log_likelihood(rows, label, metadata.blank_index)
        assert found == pytest.approx(-float(loss[0]), rel=1e-4, abs=1e-4)

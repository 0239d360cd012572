import argparse
import json
import string
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.ocr.preprocessing import preprocess
from service.ocr.recognizer import Recognizer
from training.base.alphabet import ALPHABET
from training.base.fonts import TABLE
from training.base.pool import Pool, load_fonts, random_drawing, split_fonts
from training.fit.base_file import BASE, read_base
from training.synthetic.fonts import shipped_fonts
from training.synthetic.pictures import Style, draw

ONNX = BASE.with_name("base.onnx")
PERMISSIVE = {"OFL-1.1", "Apache-2.0", "MIT", "CC0-1.0", "Unlicense"}


@pytest.fixture
def fonts(tmp_path: Path) -> Path:
    """A folder of two font families; the first family is held out."""
    folder = tmp_path / "fonts"
    folder.mkdir()
    for name, font in zip("ab", shipped_fonts(), strict=False):
        (folder / f"{name}-400-normal.ttf").write_bytes(Path(font.path).read_bytes())
    return folder


def test_the_files_of_the_base_are_small_and_agree() -> None:
    base, metadata = read_base(BASE), Recognizer.load(ONNX).metadata
    assert BASE.stat().st_size + ONNX.stat().st_size < 10_000_000
    assert base.alphabet == metadata.alphabet == ALPHABET
    assert base.channels == metadata.channels == 3
    Recognizer.load(ONNX).verify()


@pytest.mark.parametrize("symbols", [string.digits, string.ascii_uppercase + string.digits])
def test_the_base_reads_fonts_that_it_was_not_trained_on(symbols: str) -> None:
    """The base is told the symbols, as in training on a family; DejaVu is none of its fonts."""
    recognizer = Recognizer.load(ONNX)
    rng = np.random.default_rng(0)
    light = Style(shipped_fonts())
    dark = replace(light, papers=((20, 30, 60),), inks=((250, 220, 90),), canvas=(120, 40))
    texts = ["".join(rng.choice(list(symbols), 5)) for _ in range(40)]
    pictures = [
        draw(text, dark if number % 2 else light, 160, 60, rng).png()
        for number, text in enumerate(texts)
    ]
    tensors = np.stack([preprocess(picture, 200, 50, 3) for picture in pictures])
    known = np.array([symbol in symbols for symbol in ALPHABET] + [True])
    read = [recognizer.codec.decode(steps * known) for steps in recognizer.infer(tensors)]
    assert sum(a == b for a, b in zip(read, texts, strict=True)) >= 36


def test_the_base_builds_for_any_width_and_agrees_with_its_onnx_file() -> None:
    from training.base.export import build

    base = read_base(BASE)
    pictures = np.random.default_rng(0).random((2, 200, 50, 3), np.float32)
    ours = build(base, 200, 50).predict(pictures, verbose=0)
    assert np.abs(ours - Recognizer.load(ONNX).infer(pictures)).max() < 1e-4
    assert build(base, 320, 50).output_shape == (None, 80, len(ALPHABET) + 1)


def test_the_fonts_have_permissive_licences() -> None:
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    assert len({entry["package"] for entry in table}) == len(table) > 400
    assert {entry["licence"] for entry in table} <= PERMISSIVE


def test_fonts_are_held_out_by_family(fonts: Path) -> None:
    found = load_fonts(fonts)
    assert load_fonts(fonts) == found  # read back from the index
    trained, kept = split_fonts(found)
    assert [Path(f.path).name for f in trained] == ["b-400-normal.ttf"]
    assert [Path(f.path).name for f in kept] == ["a-400-normal.ttf"]


def test_some_pictures_have_no_text() -> None:
    rng = np.random.default_rng(0)
    texts = [random_drawing(shipped_fonts(), rng).text for _ in range(150)]
    assert 0 < texts.count("") < 20


def test_the_pool_gives_pictures_with_labels_and_frames(fonts: Path, tmp_path: Path) -> None:
    pool = Pool(tmp_path, 20, 1, load_fonts(fonts), seed=1)
    try:
        pool.wait_for(5)
        batch = pool.sample(8, np.random.default_rng(0))
    finally:
        pool.stop()
    assert batch.pictures.shape == (8, 200, 50, 3)
    assert batch.labels.max() < len(ALPHABET)
    for labels, frames in zip(batch.labels, batch.frames, strict=True):
        assert set(frames.tolist()) <= {*labels.tolist(), len(ALPHABET)}


def test_the_loss_of_a_picture_is_ctc_or_frame_cross_entropy() -> None:
    from training.base.loss import aligned_or_ctc
    from training.models.loss import ctc_loss, frame_loss

    rng = np.random.default_rng(0)
    blank = len(ALPHABET)
    probabilities = rng.random((3, 50, blank + 1)).astype(np.float32)
    probabilities /= probabilities.sum(axis=2, keepdims=True)
    labels = np.full((3, 12), -1, np.int32)
    labels[0, :3], labels[1, :2] = (5, 5, 7), (1, 2)
    frames = rng.integers(0, blank + 1, (3, 50)).astype(np.int32)
    truth = np.concatenate((labels, frames, [[0], [1], [0]]), axis=1).astype(np.int32)
    found = np.array(aligned_or_ctc(truth, probabilities))
    ctc, aligned = ctc_loss(blank)(labels, probabilities), frame_loss(frames, probabilities)
    assert np.allclose(found, [ctc[0], aligned[1], ctc[2]], rtol=1e-4)


def test_pictures_are_distorted_only_in_training() -> None:
    from training.base.augment import Augment

    augment = Augment(seed=1)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (6, 40, 20, 3), np.uint8)
    fixed = np.zeros((6, 1), np.int32)
    assert np.allclose(augment(pictures, fixed), pictures / 255, atol=1e-6)
    changed = np.array(augment(pictures, fixed, training=True))
    assert changed.shape == pictures.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert not np.allclose(changed, pictures / 255, atol=0.05)


def test_a_training_is_resumed_where_it_stopped(fonts: Path, tmp_path: Path) -> None:
    from training.base.train import train

    arguments = argparse.Namespace(
        fonts=fonts, out=tmp_path / "run", minutes=0.001, batch_size=2, steps=1, every=0.0,
        processes=1, capacity=10, pool=tmp_path, first=3, validation=1, seed=1, uses=1.0,
        bfloat16=False,
    )  # fmt: skip
    train(arguments)
    train(arguments)
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    steps = [json.loads(line)["steps"] for line in lines]
    assert steps == [1, 2]
    assert read_base(tmp_path / "run" / "base.npz").alphabet == ALPHABET

import os
from pathlib import Path

import pytest

from tests.stripes import picture
from training.data.dataset import Dataset
from training.data.prepare import prepare
from training.fit.config import TrainConfig
from training.fit.runs import Run
from training.synthetic.generate import generate

ALPHABET = "AB7"
WIDTH, HEIGHT = 48, 16


def write_labelled(folder: Path, count: int, seed: int = 0) -> Path:
    """Writes generated pictures as `<number>/<label>.png`."""
    for number, drawing in enumerate(generate(count, ALPHABET, (2, 3), WIDTH, HEIGHT, seed)):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / f"{drawing.text}.png").write_bytes(drawing.png())
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small prepared data set: 40 generated pictures with 2 or 3 characters."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare(write_labelled(folder / "pictures", 40), folder / "data")
    return folder / "data"


@pytest.fixture(scope="session")
def config(data: Path) -> TrainConfig:
    """A short training on the small data set, with distortions from the first epoch on."""
    return TrainConfig(
        name="small", data=str(data), width=WIDTH, height=HEIGHT, epochs=3, schedule="cosine",
        strength=1.0, clean_until=0.0, ramp_epochs=2, generated=8, backgrounds=4, spliced=0.5,
        average=0.9,
    )  # fmt: skip


@pytest.fixture(scope="session")
def run(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of the real training. Tests share the run: a further run costs CPU seconds."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    from training.fit.loop import train

    return train(config, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def exported(run: Run, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX file of the small run."""
    from training.export.onnx_export import export

    path = tmp_path_factory.mktemp("models") / "captcha.onnx"
    export(run, Dataset(data), path)
    return path


@pytest.fixture
def dataset(data: Path) -> Dataset:
    """The small data set, opened."""
    return Dataset(data)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three labelled pictures, one of them in a subfolder, and a file that is no picture."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    (folder / "ab.png").write_bytes(picture("ab"))
    (folder / "ba.PNG").write_bytes(picture("ba"))
    (folder / "more" / "abc.png").write_bytes(picture("abc"))
    (folder / "notes.txt").write_text("not a picture")
    return folder

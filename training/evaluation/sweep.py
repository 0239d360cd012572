"""Trains the missing runs of a series, and reads with each run."""

from contextlib import suppress
from pathlib import Path

from service.ocr.decoding.decoder import Decoder
from training.data.dataset import Dataset, digest_of
from training.evaluation.evaluate import Result
from training.exceptions import ConfigError, RunError
from training.fit.base_file import BASE
from training.fit.config import TrainConfig
from training.fit.runs import Run
from training.tensorflow_import import import_tensorflow


def trained(config: TrainConfig, runs: Path) -> Run:
    """The finished run of these settings and data; trains or resumes the run if needed.

    So an interrupted series is resumed when its command is called again.
    """
    import_tensorflow()
    import keras

    from training.fit.loop import train

    digest = digest_of(Dataset(Path(config.data)).samples)
    for folder in sorted(runs.glob("*/")):
        run = Run(folder)
        with suppress(RunError, ConfigError):
            if run.finished and run.config == config and run.facts.data_digest == digest:
                return run
    # Frees the graphs of earlier models, which would pile up.
    keras.backend.clear_session()
    return train(config, runs)


def name_of_start(config: TrainConfig) -> str:
    """The model that the runs of a series start from; for the base, only its file name."""
    return BASE.name if config.init_from == str(BASE) else config.init_from


def read_held_out(run: Run, dataset: Dataset) -> list[Result]:
    """Reads a run's own test split with the weights that it keeps, without calibration."""
    import_tensorflow()
    facts, samples = run.facts, run.split("test")
    tensors = dataset.tensors(samples, *facts.size, run.config.channels)
    probabilities = run.load_model().predict(tensors, batch_size=64, verbose=0)
    readings = map(Decoder(facts.codec).decode, probabilities)
    return [Result(*both) for both in zip(samples, readings, strict=True)]

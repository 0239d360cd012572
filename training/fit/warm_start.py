"""Starts a model with the weights of a run or of an exported model, wherever they fit.

Layers of the same name and shape keep their weights. Of the output layer, the classes of symbols
that both alphabets have keep theirs, and the blank; other symbols start anew.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import onnx

from service.ocr.exceptions import OcrError
from service.ocr.metadata import ModelMetadata
from service.ocr.recognizer import Recognizer
from training.exceptions import RunError
from training.fit.onnx_weights import Arrays, normalised, weights_in
from training.fit.runs import Run
from training.models.crnn import OUTPUT_LAYER
from training.models.registry import ARCHITECTURES, build_model


def exported_model(path: Path) -> tuple[keras.Model, ModelMetadata]:
    """The Keras model that a model file was exported from, with its weights.

    Its normalisations have no more than a bias to add; see `weights_in`.

    Raises:
        RunError: the file cannot be read, or is no export of an architecture that is known.
    """
    try:
        metadata = Recognizer.load(path).metadata
    except OcrError as error:
        raise RunError(f"{path} cannot be started from: {error}") from error
    graph = onnx.load(path).graph
    for build in ARCHITECTURES.values():
        model = build(metadata.width, metadata.height, len(metadata.alphabet) + 1)
        weights = weights_in(graph, model)
        if weights is not None:
            for name, arrays in weights.items():
                model.get_layer(name).set_weights(arrays)
            return model, metadata
    raise RunError(
        f"{path} is no model as `make export-onnx` writes it; "
        "start from the run that it was exported from instead."
    )


@dataclass(frozen=True, slots=True)
class StartingWeights:
    """Weights by the names of layers, as Keras orders them, and the symbols of the classes."""

    layers: Mapping[str, Arrays]
    alphabet: str

    @classmethod
    def find(cls, source: str, runs: Path) -> "StartingWeights":
        """Those of a model file `<name>.onnx`, or of the run of that name or path.

        Raises:
            RunError: there is none, or its weights cannot be read.
        """
        if source.endswith(".onnx"):
            model, metadata = exported_model(Path(source))
            return cls(normalised(model, metadata), metadata.alphabet)
        run = Run.find(runs, source)
        facts = run.facts
        classes = len(facts.alphabet) + 1
        model = build_model(run.config.architecture, facts.width, facts.height, classes)
        model.load_weights(run.best_weights)
        return cls(
            {layer.name: layer.get_weights() for layer in model.layers if layer.weights},
            facts.alphabet,
        )

    def put_into(self, model: keras.Model, alphabet: str) -> list[str]:
        """Sets the weights of a model that has `alphabet`; gives the layers that start anew.

        Raises:
            RunError: these are all of them.
        """
        anew = []
        for layer in model.layers:
            old, new = self.layers.get(layer.name), layer.get_weights()
            if layer.name == OUTPUT_LAYER and old and old[0].shape[0] == new[0].shape[0]:
                pairs = list(self._common_classes(alphabet))
                for before, after in zip(old, new, strict=True):
                    for theirs, ours in pairs:
                        after[..., ours] = before[..., theirs]
                layer.set_weights(new)
            elif old and [a.shape for a in old] == [a.shape for a in new]:
                layer.set_weights(old)
            elif new:
                anew.append(layer.name)
        if len(anew) == sum(bool(layer.weights) for layer in model.layers):
            others = " or ".join(sorted(set(ARCHITECTURES) - {model.name}))
            raise RunError(
                f"no layer of the architecture {model.name} has weights to start from there; "
                f'try ARGS="--architecture {others}".'
            )
        return anew

    def _common_classes(self, alphabet: str) -> Iterator[tuple[int, int]]:
        """The places of a symbol in both alphabets; the blank is the last class of each."""
        for place, symbol in enumerate(alphabet):
            if symbol in self.alphabet:
                yield self.alphabet.index(symbol), place
        yield len(self.alphabet), len(alphabet)

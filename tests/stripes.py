"""A real ONNX model whose output can be computed by hand, and pictures for it.

The model computes the mean gray level of each block of four columns, which is one time step. The
class with the nearest level gets the highest probability. Black is the first symbol, white is the
blank, and the levels of the other symbols lie evenly in between. So a picture of stripes spells a
text.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from service.ocr.decoding.calibration import Calibration
from service.ocr.metadata import GoldenPicture, ModelMetadata

ALPHABET = "abcd"
BLANK = " "
WIDTH, HEIGHT, TIME_STEPS = 40, 8, 10


def level_of(symbol: str, alphabet: str = ALPHABET) -> float:
    """The gray level of a symbol, from 0 (black) to 1 (white); `BLANK` is white."""
    return 1.0 if symbol == BLANK else alphabet.index(symbol) / len(alphabet)


def draw(text: str, alphabet: str = ALPHABET, height: int = HEIGHT) -> Image.Image:
    """A picture with a stripe of four columns for each symbol of `text`; the rest is white."""
    levels = [level_of(symbol, alphabet) for symbol in text.ljust(TIME_STEPS, BLANK)]
    row = np.repeat(np.array(levels) * 255, 4).round().astype(np.uint8)
    return Image.fromarray(np.tile(row, (height, 1)))


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    """The picture, encoded in this format."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def picture(text: str, alphabet: str = ALPHABET) -> bytes:
    """The PNG that spells `text`."""
    return encode(draw(text, alphabet))


def metadata(alphabet: str = ALPHABET) -> ModelMetadata:
    """The metadata of the stripe model."""
    first, second = alphabet[0], alphabet[1]
    golden = GoldenPicture(picture(f"{first} {second}", alphabet), first + second)
    return ModelMetadata(
        name="stripes",
        version="1",
        alphabet=alphabet,
        blank_index=len(alphabet),
        width=WIDTH,
        height=HEIGHT,
        input_name="image",
        output_name="dense2",
        training_run="by-hand",
        data_digest="none",
        calibration=Calibration(),
        figures={"exact_match": 1.0},
        golden=(golden,),
    )


def graph(alphabet: str = ALPHABET, width: int = WIDTH, channels: int = 1) -> onnx.ModelProto:
    """The model without metadata. It averages the channels of its input."""
    levels = np.array([[[level_of(s, alphabet) for s in (*alphabet, BLANK)]]], np.float32)
    constants: dict[str, NDArray[Any]] = {
        "blocks": np.array([0, width // 4, 4], np.int64),
        "spatial": np.array([2, 3], np.int64),
        "last": np.array([2], np.int64),
        "levels": levels,
        "sharpness": np.array(-2000, np.float32),
    }
    nodes = [
        helper.make_node("ReduceMean", ["image", "spatial"], ["columns"], keepdims=0),
        helper.make_node("Reshape", ["columns", "blocks"], ["grouped"]),
        helper.make_node("ReduceMean", ["grouped", "last"], ["gray"], keepdims=1),
        helper.make_node("Sub", ["gray", "levels"], ["distance"]),
        helper.make_node("Mul", ["distance", "distance"], ["squared"]),
        helper.make_node("Mul", ["squared", "sharpness"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["dense2"], axis=-1),
    ]
    image = helper.make_tensor_value_info(
        "image", TensorProto.FLOAT, ["n", width, HEIGHT, channels]
    )
    output = helper.make_tensor_value_info(
        "dense2", TensorProto.FLOAT, ["n", width // 4, len(alphabet) + 1]
    )
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    return helper.make_model(
        helper.make_graph(nodes, "stripes", [image], [output], initializers),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )


def write_model(
    path: Path,
    alphabet: str = ALPHABET,
    change: Callable[[dict[str, str]], Mapping[str, str]] = lambda properties: properties,
    **metadata_changes: Any,
) -> Path:
    """Writes the stripe model with its metadata; the graph has the metadata's width and channels.

    Args:
        change: changes the metadata properties before they are written.
        metadata_changes: other values for fields of the metadata.
    """
    facts = replace(metadata(alphabet), **metadata_changes)
    model = graph(alphabet, facts.width, facts.channels)
    for key, value in change(facts.to_properties()).items():
        model.metadata_props.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from service.ocr.decoding.decoder import Reading
from service.ocr.exceptions import (
    ModelCheckError,
    ModelFileError,
    ModelMetadataError,
    UndecodableError,
)
from service.ocr.metadata import GoldenPicture
from service.ocr.preprocessing import preprocess
from service.ocr.recognizer import Recognizer
from tests import stripes


@pytest.mark.parametrize("text", ["abcd", "dcba", "a a", "aabb", ""])
def test_the_text_of_the_stripes_is_read(text: str, recognizer: Recognizer) -> None:
    """All steps from bytes to text run, on a model whose answer is known."""
    expected = {"a a": "aa", "aabb": "ab"}.get(text, text)
    reading = recognizer.read(stripes.picture(text))
    assert reading.text == expected
    assert reading.confidence > 0.99


def test_a_batch_gives_the_texts_of_single_pictures(recognizer: Recognizer) -> None:
    """The batch size changes no answer."""
    pictures = [stripes.picture(text) for text in ("ab", "cd", "dddd", "")]
    size = (stripes.WIDTH, stripes.HEIGHT)
    tensors = np.stack([preprocess(picture, *size) for picture in pictures])
    texts = [recognizer.codec.decode(output) for output in recognizer.infer(tensors)]
    assert texts == [recognizer.read(picture).text for picture in pictures]


def test_threads_do_not_mix_answers(recognizer: Recognizer) -> None:
    """Many threads share one recognizer, and each gets its own answer."""
    texts = ["abcd", "dcba", "bd", "ac"] * 50
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: recognizer.read(stripes.picture(text)).text, texts))
    assert found == texts


def test_another_alphabet_needs_no_code(tmp_path: Path) -> None:
    """The metadata alone say which text the classes spell."""
    model = stripes.write_model(tmp_path / "m.onnx", alphabet="ABXY79")
    assert Recognizer.load(model).read(stripes.picture("9A7", "ABXY79")).text == "9A7"


def test_another_width_needs_no_code(tmp_path: Path) -> None:
    """A model of twice the width has twice the time steps; each stripe fills two."""
    width = 2 * stripes.WIDTH
    size = (width, stripes.HEIGHT)
    data = stripes.encode(stripes.draw("ab cd").resize(size, Image.Resampling.NEAREST))
    golden = (GoldenPicture(data, "abcd"),)
    wide = Recognizer.load(stripes.write_model(tmp_path / "m.onnx", width=width, golden=golden))
    wide.verify(2)
    assert wide.read(data).text == "abcd"
    assert wide.infer(wide.preprocess(data).tensor[np.newaxis]).shape == (1, width // 4, 5)


def test_a_colour_model_sees_colours(tmp_path: Path) -> None:
    """The luma of blue is the level of one symbol, the mean of its channels that of another."""
    blue = Image.new("RGB", (stripes.WIDTH, stripes.HEIGHT), (0, 0, 255))
    texts = []
    for channels in (1, 3):
        model = stripes.write_model(tmp_path / f"{channels}.onnx", channels=channels)
        recognizer = Recognizer.load(model)
        recognizer.verify(3)
        assert recognizer.read(stripes.picture("ab cd")).text == "abcd"
        texts.append(recognizer.read(stripes.encode(blue)).text)
    assert texts == ["a", "b"]


def test_a_bad_picture_does_not_affect_the_others(recognizer: Recognizer) -> None:
    """It gets an error, which does not keep the picture. The others get their readings."""
    bad = stripes.picture("ab")[:-20]
    good, error, other = recognizer.read_all([stripes.picture("ab"), bad, stripes.picture("cd")])
    assert isinstance(good, Reading)
    assert isinstance(other, Reading)
    assert (good.text, other.text) == ("ab", "cd")
    assert isinstance(error, UndecodableError)
    assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)


def test_a_missing_model_file_is_an_error(tmp_path: Path) -> None:
    """The error names its path."""
    with pytest.raises(ModelFileError, match=r"no model file at .*nothing\.onnx"):
        Recognizer.load(tmp_path / "nothing.onnx")


def test_a_model_file_that_is_too_large_is_refused(stripe_model: Path) -> None:
    """It is refused by its size alone, because loading takes more than twice as much memory."""
    with stripe_model.open("rb+") as file:
        file.truncate(600_000_000)
    with pytest.raises(ModelFileError, match=r"stripes\.onnx has 600\.0 MB.* at most 64 MB"):
        Recognizer.load(stripe_model)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-700])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def overwrite(path: Path) -> None:
    path.write_bytes(b"this is no model")


@pytest.mark.parametrize("damage", [truncate, empty, overwrite])
def test_a_broken_model_file_is_refused(damage: Callable[[Path], None], stripe_model: Path) -> None:
    """A file that is no complete ONNX model gives a sentence, not a crash."""
    damage(stripe_model)
    with pytest.raises((ModelFileError, ModelMetadataError), match=r"stripes\.onnx"):
        Recognizer.load(stripe_model)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("channels", "3", r"shape \['n', 40, 8, 1\].*\[40, 8, 3\]"),
        ("width", "44", r"shape \['n', 40, 8, 1\].*\[44, 8, 1\]"),
        ("alphabet", "abcde", r"shape \['n', 10, 5\].*\[6\]"),
        ("input_name", "picture", "the graph's only input must have that name; it has: image"),
        ("output_name", "softmax", "the graph's only output must have that name; it has: dense2"),
    ],
)
def test_metadata_that_contradict_the_graph_are_refused(
    key: str, value: str, sentence: str, tmp_path: Path
) -> None:
    """Metadata and graph must agree, or nothing is served."""
    path = stripes.write_model(tmp_path / "m.onnx", change=lambda p: p | {key: value})
    with pytest.raises(ModelMetadataError, match=sentence):
        Recognizer.load(path)


def test_a_fixed_batch_size_is_refused(tmp_path: Path) -> None:
    """The service sends batches of any size."""
    model = stripes.graph()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    for key, value in stripes.metadata().to_properties().items():
        model.metadata_props.add(key=key, value=value)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelMetadataError, match="the first of them free"):
        Recognizer.load(tmp_path / "m.onnx")


def test_a_graph_with_a_second_input_is_refused(tmp_path: Path) -> None:
    """Nobody would feed the second input."""
    model = stripes.graph()
    second = onnx.helper.make_tensor_value_info("second", onnx.TensorProto.FLOAT, ["n"])
    model.graph.input.append(second)
    for key, value in stripes.metadata().to_properties().items():
        model.metadata_props.add(key=key, value=value)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelMetadataError, match="it has: image, second"):
        Recognizer.load(tmp_path / "m.onnx")


def test_probabilities_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    """Such a probability would become a text's confidence, and JSON cannot represent it."""
    model = stripes.graph()
    model.graph.node[-1].output[0] = "softmax"
    node = onnx.helper.make_node
    model.graph.node.append(node("ReduceMax", ["image"], ["lightest"], keepdims=0))  # black: 0
    model.graph.node.append(node("Div", ["softmax", "lightest"], ["dense2"]))
    for key, value in stripes.metadata().to_properties().items():
        model.metadata_props.add(key=key, value=value)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    recognizer = Recognizer.load(tmp_path / "m.onnx")
    assert recognizer.read(stripes.picture("ab")).text == "ab"
    with pytest.raises(ModelCheckError, match="not a finite number"):
        recognizer.read(stripes.encode(Image.new("L", (stripes.WIDTH, stripes.HEIGHT))))


def test_verify_reads_the_golden_pictures(tmp_path: Path, recognizer: Recognizer) -> None:
    """A model that reads its golden picture differently than at its export is refused."""
    recognizer.verify()
    other = (GoldenPicture(stripes.picture("ab"), "ba"),)
    broken = Recognizer.load(stripes.write_model(tmp_path / "m.onnx", golden=other))
    with pytest.raises(ModelCheckError, match="'ab' and not 'ba'"):
        broken.verify()


def test_verify_needs_golden_pictures_that_decode(tmp_path: Path) -> None:
    """A golden picture that cannot be decoded is the model's fault, not the user's."""
    golden = (replace(stripes.metadata().golden[0], data=b"nothing"),)
    model = stripes.write_model(tmp_path / "m.onnx", golden=golden)
    with pytest.raises(ModelCheckError, match="cannot be decoded"):
        Recognizer.load(model).verify()


def test_spans_are_in_pixels_of_the_original_picture(recognizer: Recognizer) -> None:
    """A picture of five times the width has spans of five times the width."""
    image = stripes.draw("  a  b")
    large = image.resize((5 * image.width, 3 * image.height), Image.Resampling.NEAREST)
    reading, scaled = (recognizer.read(stripes.encode(i)) for i in (image, large))
    assert reading.text == scaled.text == "ab"
    # The stripes of "a" and "b" are columns 8 to 12 and 20 to 24.
    for character, centre in zip(reading.characters, (10, 22), strict=True):
        assert sum(character.span) / 2 == pytest.approx(centre, abs=0.1)
    for small, big in zip(reading.characters, scaled.characters, strict=True):
        assert big.span == pytest.approx((5 * small.span[0], 5 * small.span[1]))

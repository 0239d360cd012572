import pytest

from service.ocr.exceptions import ModelMetadataError
from service.ocr.metadata import ModelMetadata
from tests import stripes

PROPERTIES = stripes.metadata().to_properties()


def test_written_properties_are_read_back() -> None:
    assert ModelMetadata.from_properties(PROPERTIES) == stripes.metadata()


OPTIONAL = {"channels", "min_confidence"}


@pytest.mark.parametrize("key", sorted(PROPERTIES.keys() - OPTIONAL))
def test_all_other_properties_are_required(key: str) -> None:
    """The error names the missing property."""
    rest = {name: value for name, value in PROPERTIES.items() if name != key}
    with pytest.raises(ModelMetadataError, match=f"property {key} is missing"):
        ModelMetadata.from_properties(rest)


def test_models_of_earlier_exports_are_read() -> None:
    """They are gray, and accept every text."""
    rest = {name: value for name, value in PROPERTIES.items() if name not in OPTIONAL}
    found = ModelMetadata.from_properties(rest)
    assert (found.channels, found.min_confidence) == (1, 0.0)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("format_version", "2", "this service reads 1"),
        ("blank_index", "five", "whole number"),
        ("blank_index", "5", "must be 0 to 4"),
        ("blank_index", "-1", "must be 0 to 4"),
        ("alphabet", "", "alphabet is empty"),
        ("alphabet", "abca", "symbol twice"),
        ("width", "0", "0×8"),
        ("channels", "2", "1 or 3"),
        ("channels", "rgb", "whole number"),
        ("min_confidence", "1.5", "0 to 1"),
        ("min_confidence", "nan", "0 to 1"),
        ("min_confidence", "high", "a number"),
        ("calibration", "[]", "scale and offset"),
        ("calibration", '{"temperature": 1}', "scale and offset"),
        ("calibration", "{", "not valid JSON"),
        (
            "calibration",
            '{"temperature": 0, "text": {"scale": 1, "offset": 0}, '
            '"character": {"scale": 1, "offset": 0}}',
            "1/100 to 100",
        ),
        (
            "calibration",
            '{"temperature": 1, "text": {"scale": 1, "offset": NaN}, '
            '"character": {"scale": 1, "offset": 0}}',
            "offsets -100 to 100",
        ),
        (
            "calibration",
            '{"temperature": 1, "text": {"scale": 1%s, "offset": 0}, '
            '"character": {"scale": 1, "offset": 0}}' % ("0" * 400),
            "scale and offset",
        ),
        ("figures", "[" * 100_000, "not valid JSON"),
        ("figures", '{"a":' * 300 + "1" + "}" * 300, "not valid JSON"),
        ("figures", '{"a": "\\ud800"}', "not valid JSON"),
        ("golden", '[{"data": "é", "text": "a"}]', "base64"),
        ("figures", "[1]", "JSON object"),
        ("figures", "{", "not valid JSON"),
        ("golden", "[]", "no picture"),
        ("golden", '[{"text": "a"}]', "base64"),
        ("golden", '[{"data": "%", "text": "a"}]', "base64"),
        ("golden", "7", "base64"),
    ],
)
def test_malformed_or_contradictory_properties_are_refused(
    key: str, value: str, sentence: str
) -> None:
    """The error says what is wrong."""
    with pytest.raises(ModelMetadataError, match=sentence):
        ModelMetadata.from_properties(PROPERTIES | {key: value})

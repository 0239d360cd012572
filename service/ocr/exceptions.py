"""The exceptions of `service.ocr`.

OcrError
├── PictureError                the picture that was sent is at fault
│   ├── UnsupportedFormatError  not one of the formats that are read
│   ├── UndecodableError        of a known format, but broken, or without a single pixel
│   ├── RegionError             a part of the picture that lies outside of it
│   ├── PictureTooLargeError    more pixels than are allowed
│   └── SlowPictureError        takes long to decode or read, which the caller did not want
├── LabelError                  a text that the model cannot emit
├── ConstraintError             a constraint that is malformed, not supported, or too large
└── ModelError                  the model cannot be used
    ├── ModelFileError          missing, unreadable, too large, truncated, or not ONNX
    ├── ModelMetadataError      metadata missing, malformed or contradictory
    ├── ModelCheckError         loads, but does not answer as it did at its export
    └── ProviderError           an execution provider that is not there, or cannot start
"""

LONGEST_ECHO = 100


def echo(given: object) -> str:
    """The `repr` of a value, cut to a length that fits an error message."""
    return repr(given)[:LONGEST_ECHO]


def printable(text: str) -> str:
    """The text with escapes for what a terminal would obey or hide, as a file name may have it."""
    return "".join([c if c.isprintable() else c.encode("unicode_escape").decode() for c in text])


class OcrError(Exception):
    """Base of every error that `service.ocr` raises on purpose; its text can be shown to a user."""


class PictureError(OcrError):
    """The picture that was sent is at fault."""


class UnsupportedFormatError(PictureError):
    """Not one of the formats that are read."""


class UndecodableError(PictureError):
    """Of a known format, but broken, or without a single pixel."""


class PictureTooLargeError(PictureError):
    """More pixels than are allowed."""


class SlowPictureError(PictureError):
    """Takes long to decode or read, which the caller did not want."""


class RegionError(PictureError):
    """A part of the picture that lies outside of it."""


class LabelError(OcrError):
    """A text that the model cannot emit."""


class ConstraintError(OcrError):
    """A constraint that is malformed, not supported, or too large."""


class ModelError(OcrError):
    """The model cannot be used."""


class ModelFileError(ModelError):
    """Missing, unreadable, too large, truncated, or not ONNX."""


class ModelMetadataError(ModelError):
    """Metadata missing, malformed or contradictory."""


class ModelCheckError(ModelError):
    """Loads, but does not answer as it did at its export."""


class ProviderError(ModelError):
    """An execution provider of onnxruntime that is not there, or cannot start."""

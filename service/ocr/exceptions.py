"""The exceptions of `service.ocr`.

OcrError
├── PictureError                the picture that was sent is at fault
│   ├── UnsupportedFormatError  in a format that is not supported
│   ├── UndecodableError        in a supported format, but broken or without pixels
│   ├── RegionError             the region is not within the picture
│   ├── PictureTooLargeError    more pixels than are allowed
│   └── SlowPictureError        takes long to decode or read, and the caller asked not to do so
├── LabelError                  a text that the model cannot emit
├── ConstraintError             a constraint that is malformed, not supported, or too large
└── ModelError                  the model cannot be used
    ├── ModelFileError          missing, unreadable, too large, truncated, or not ONNX
    ├── ModelMetadataError      metadata missing, malformed or contradictory
    ├── ModelCheckError         loads, but does not answer as it did at its export
    └── ProviderError           an execution provider that is not available, or cannot start
"""

LONGEST_ECHO = 100


def echo(given: object) -> str:
    """The `repr` of a value, cut to a length that fits an error message."""
    return repr(given)[:LONGEST_ECHO]


def printable(text: str) -> str:
    """Escapes characters that a terminal would obey or hide, such as those in a file name."""
    return "".join([c if c.isprintable() else c.encode("unicode_escape").decode() for c in text])


class OcrError(Exception):
    """Base of every error that `service.ocr` raises on purpose; its text can be shown to a user."""


class PictureError(OcrError):
    """The picture that was sent is at fault."""


class UnsupportedFormatError(PictureError):
    """The picture is in a format that is not supported."""


class UndecodableError(PictureError):
    """The picture is in a supported format, but broken or without pixels."""


class PictureTooLargeError(PictureError):
    """The picture has more pixels than are allowed."""


class SlowPictureError(PictureError):
    """The picture takes long to decode or read, and the caller asked not to do so."""


class RegionError(PictureError):
    """The region is not within the picture."""


class LabelError(OcrError):
    """The model cannot emit the text."""


class ConstraintError(OcrError):
    """The constraint is malformed, not supported, or too large."""


class ModelError(OcrError):
    """The model cannot be used."""


class ModelFileError(ModelError):
    """The model file is missing, unreadable, too large, truncated, or not ONNX."""


class ModelMetadataError(ModelError):
    """The metadata are missing, malformed or contradictory."""


class ModelCheckError(ModelError):
    """The model loads, but does not answer as it did at its export."""


class ProviderError(ModelError):
    """An execution provider of onnxruntime is not available, or cannot start."""

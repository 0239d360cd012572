"""States what a WebP costs."""

_PIXEL_COST = 5
"""A lossless WebP takes four times as long to decode as a PNG, and the decoder holds the canvas
several times."""


def check(data: bytes) -> tuple[bytes, float]:
    """See `service.ocr.formats.Format.check`."""
    return data, _PIXEL_COST

"""States what a WebP costs."""

_PIXEL_COST = 8
"""The decoder takes long, and holds the canvas several times."""


def check(data: bytes) -> tuple[bytes, float]:
    """See `service.ocr.formats.Format.check`."""
    return data, _PIXEL_COST

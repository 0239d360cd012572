"""Moved: `FloatArray` is in `service.ocr.preprocessing`."""

from service.ocr.preprocessing import FloatArray as FloatArray

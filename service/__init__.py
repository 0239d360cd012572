"""The HTTP service: FastAPI around the framework-free reader in `service.ocr`."""

__version__ = "0.1.0"

"""BentoML and onnxruntime."""

from pathlib import Path

import bentoml

from benchmarks.peers.reading import OnnxReader


@bentoml.service
class Reader:
    """Reads one picture a request."""

    def __init__(self) -> None:
        self.reader = OnnxReader()

    @bentoml.api
    def predict(self, file: Path) -> dict[str, str]:
        """The text in an uploaded picture."""
        return {"text": self.reader.read(file.read_bytes())}

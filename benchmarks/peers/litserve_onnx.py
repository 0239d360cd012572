"""LitServe and onnxruntime: `python -m benchmarks.peers.litserve_onnx PORT [WORKERS]`."""

import sys

import litserve
from fastapi import Request

from benchmarks.peers.reading import OnnxReader


class ReaderAPI(litserve.LitAPI):
    """Reads one picture a request."""

    def setup(self, device: str) -> None:
        """Loads the model, in each worker."""
        self.reader = OnnxReader()

    def decode_request(self, request: Request) -> bytes:
        """The bytes of the picture, from the form that LitServe passes for a multipart request."""
        return request["file"].file.read()

    def predict(self, picture: bytes) -> str:
        """The text in a picture."""
        return self.reader.read(picture)

    def encode_response(self, output: str) -> dict[str, str]:
        """The JSON of the answer."""
        return {"text": output}


if __name__ == "__main__":
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    server = litserve.LitServer(ReaderAPI(), accelerator="cpu", workers_per_device=workers)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)

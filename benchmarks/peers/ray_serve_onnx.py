"""Ray Serve and onnxruntime: `python -m benchmarks.peers.ray_serve_onnx PORT [REPLICAS]`."""

import signal
import sys

import ray
from fastapi import FastAPI, UploadFile
from ray import serve

from benchmarks.peers.reading import OnnxReader

app = FastAPI()


@serve.deployment
@serve.ingress(app)
class Reader:
    """Reads one picture a request."""

    def __init__(self) -> None:
        """Loads the model, in each replica."""
        self.reader = OnnxReader()

    @app.post("/predict")
    async def predict(self, file: UploadFile) -> dict[str, str]:
        """Reads one picture."""
        return {"text": self.reader.read(await file.read())}

    @app.get("/health")
    async def health(self) -> dict[str, str]:
        """Answers when the model is loaded."""
        return {"status": "ok"}


if __name__ == "__main__":
    replicas = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    ray.init(include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Reader.options(num_replicas=replicas, ray_actor_options={"num_cpus": 0}).bind())
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    serve.shutdown()

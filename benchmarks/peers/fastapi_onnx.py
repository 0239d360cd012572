"""FastAPI and onnxruntime, written as in a tutorial."""

from fastapi import FastAPI, UploadFile

from benchmarks.peers.reading import OnnxReader

app = FastAPI()
reader = OnnxReader()


@app.post("/predict")
async def predict(file: UploadFile) -> dict[str, str]:
    """Reads one picture."""
    return {"text": reader.read(await file.read())}


@app.get("/health")
async def health() -> dict[str, str]:
    """Answers when the model is loaded."""
    return {"status": "ok"}

"""FastAPI and `keras.Model.predict`, written as in a tutorial."""

from pathlib import Path

from fastapi import FastAPI, UploadFile

from benchmarks.peers.reading import MODEL, greedy_text, to_tensor
from training.fit.warm_start import exported_model

model, facts = exported_model(Path(MODEL))
app = FastAPI()


@app.post("/predict")
async def predict(file: UploadFile) -> dict[str, str]:
    """Reads one picture."""
    tensor = to_tensor(await file.read(), facts.width, facts.height)
    output = model.predict(tensor, verbose=0)
    return {"text": greedy_text(output[0], facts.alphabet, facts.blank_index)}


@app.get("/health")
async def health() -> dict[str, str]:
    """Answers when the model is loaded."""
    return {"status": "ok"}

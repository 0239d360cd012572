"""FastAPI and `keras.Model.predict`, as a tutorial writes it; KERAS_RUN names a folder in runs/."""

import json
import os
import tomllib
from pathlib import Path

from fastapi import FastAPI, UploadFile

from benchmarks.peers.reading import greedy_text, to_tensor
from training.architectures import build_model

run = Path(os.environ["KERAS_RUN"])
facts = json.loads((run / "run.json").read_text())
alphabet, width, height = facts["alphabet"], facts["width"], facts["height"]
architecture = tomllib.loads((run / "config.toml").read_text())["architecture"]
model = build_model(architecture, width, height, len(alphabet) + 1)
model.load_weights(run / "best.weights.h5")
app = FastAPI()


@app.post("/predict")
async def predict(file: UploadFile) -> dict[str, str]:
    """Reads one picture."""
    tensor = to_tensor(await file.read(), width, height)
    output = model.predict(tensor, verbose=0)
    return {"text": greedy_text(output[0], alphabet, len(alphabet))}


@app.get("/health")
async def health() -> dict[str, str]:
    """Answers when the model is loaded."""
    return {"status": "ok"}

"""How every peer reads a picture: Pillow, NumPy and greedy decoding, as in tutorials."""

import io
import os

import numpy as np
import onnxruntime
from PIL import Image

MODEL = os.environ.get("OCR_MODEL_PATH", "models/captcha.onnx")


def to_tensor(picture: bytes, width: int, height: int) -> np.ndarray:
    """The tensor of a picture: float32 `(1, width, height, 1)`, 0 to 1."""
    image = Image.open(io.BytesIO(picture)).convert("L").resize((width, height))
    return (np.asarray(image, np.float32) / 255).T[np.newaxis, :, :, np.newaxis]


def greedy_text(probabilities: np.ndarray, alphabet: str, blank: int) -> str:
    """The text of the most probable class of each time step, from `(time steps, classes)`."""
    best = probabilities.argmax(axis=1)
    kept = [
        c for c, before in zip(best, [blank, *best[:-1]], strict=True) if c not in (before, blank)
    ]
    symbols = alphabet[:blank] + "\0" + alphabet[blank:]
    return "".join(symbols[c] for c in kept)


class OnnxReader:
    """Reads pictures with a session that has onnxruntime's default settings."""

    def __init__(self) -> None:
        self.session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
        _, self.width, self.height, _ = self.session.get_inputs()[0].shape
        facts = self.session.get_modelmeta().custom_metadata_map
        self.alphabet, self.blank = facts["alphabet"], int(facts["blank_index"])

    def read(self, picture: bytes) -> str:
        """The text in an encoded picture."""
        tensor = to_tensor(picture, self.width, self.height)
        (output,) = self.session.run(None, {self.session.get_inputs()[0].name: tensor})
        return greedy_text(output[0], self.alphabet, self.blank)

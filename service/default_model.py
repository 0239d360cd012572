"""The path of the default model."""

from pathlib import Path

EXPORTED = Path("models/captcha.onnx")
PACKAGED = Path(__file__).with_name("captcha.onnx")


def default_model_path() -> Path:
    """`models/captcha.onnx` in the working directory, or else the model inside the wheel."""
    return PACKAGED if PACKAGED.exists() and not EXPORTED.exists() else EXPORTED

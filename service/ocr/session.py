"""Opens ONNX models. No other module imports onnxruntime."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

# onnxruntime writes a device id and a database for telemetry into the user's cache while it is
# imported, before `disable_telemetry_events` can be called.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

from service.ocr.exceptions import ModelFileError, ProviderError
from service.ocr.preprocessing import FloatArray

onnxruntime.disable_telemetry_events()

CPU = ("CPUExecutionProvider",)

MAX_FILE_BYTES = 64_000_000
"""Largest model file: twenty times the bundled model. Loading takes over twice as much memory."""


class Node(Protocol):
    """An input or output of a graph; a free dimension is a name or None."""

    name: str
    shape: list[int | str | None]


class ModelMeta(Protocol):
    """What onnxruntime knows about a model file."""

    custom_metadata_map: dict[str, str]


class Session(Protocol):
    """The part of onnxruntime's InferenceSession that is used."""

    def get_inputs(self) -> list[Node]:
        """The graph's inputs."""

    def get_outputs(self) -> list[Node]:
        """The graph's outputs."""

    def get_modelmeta(self) -> ModelMeta:
        """The metadata of the file."""

    def get_providers(self) -> list[str]:
        """The execution providers that are in use, by preference."""

    def run(self, outputs: list[str], inputs: dict[str, FloatArray]) -> list[FloatArray]:
        """The values of the named outputs."""


def open_session(path: Path, threads: int = 1, providers: Sequence[str] = CPU) -> Session:
    """Opens a model file for inference.

    Args:
        threads: cores that one call may use; calls from several threads run side by side.
        providers: onnxruntime's execution providers, by preference.

    Raises:
        ModelFileError: the file is missing, unreadable, too large, truncated or not ONNX.
        ProviderError: an execution provider is not available, or cannot start.
    """
    available = onnxruntime.get_available_providers()
    for provider in providers:
        if provider not in available:
            raise ProviderError(
                f"this onnxruntime has no execution provider {provider}; it has "
                f"{', '.join(available)}."
            )
    if not path.is_file():
        raise ModelFileError(f"there is no model file at {path}.")
    if not os.access(path, os.R_OK):
        raise ModelFileError(f"the model file {path} may not be read by this user.")
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        raise ModelFileError(
            f"the model file {path} has {size / 1e6:.1f} MB; a model may have at most "
            f"{MAX_FILE_BYTES / 1e6:.0f} MB."
        )
    options = onnxruntime.SessionOptions()
    # By default onnxruntime uses every core of the host and ignores a container's quota.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # log only fatal errors: exceptions report the rest
    try:
        session: Session = onnxruntime.InferenceSession(
            str(path), options, providers=list(providers)
        )
    except Exception as error:
        # onnxruntime's exceptions share no base but Exception.
        raise ModelFileError(
            f"{path} cannot be loaded as an ONNX model; it may be cut short or not an ONNX file "
            f"({error})."
        ) from error
    # If a provider cannot start, onnxruntime continues without it.
    if missing := [name for name in providers if name not in session.get_providers()]:
        raise ProviderError(f"the execution provider {missing[0]} cannot start on this machine.")
    return session

"""The servers that are compared, this service and its peers, with the commands to start them."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.payloads import ALONE, BATCH, MULTIPART, RAW, Payload
from benchmarks.servers import HOST, Recipe

PEERS_PYTHON = Path(".venv-peers/bin/python")
SERVICE = "this service"

_HOW_TO_INSTALL = "`make bench-peers` installs it"


@dataclass(frozen=True, slots=True)
class Contender:
    """A server, and how many of its processes run the model."""

    recipe: Recipe
    processes: int
    payloads: tuple[Payload, ...] = (MULTIPART,)
    absent: str | None = None  # why the server cannot be started

    @property
    def name(self) -> str:
        """The server's name, with the number of processes if there are several."""
        return self.recipe.name + (f", {self.processes} workers" if self.processes > 1 else "")


def service(model: Path, workers: int = 1) -> Contender:
    """This service with its default settings."""
    environment = {
        "OCR_HOST": HOST,
        "OCR_PORT": "{port}",
        "OCR_MODEL_PATH": str(model),
        "OCR_WORKERS": str(workers),
    }
    recipe = Recipe(SERVICE, [sys.executable, "-m", "service"], environment)
    return Contender(
        recipe, workers, (MULTIPART, RAW, ALONE, BATCH) if workers == 1 else (MULTIPART,)
    )


def fast_peers(model: Path) -> list[Contender]:
    """FastAPI as in its tutorial, which needs no more packages than the service."""
    return [_uvicorn("FastAPI + onnxruntime", "fastapi_onnx", model, n) for n in (1, 2)]


def slow_peers(model: Path) -> list[Contender]:
    """Keras, and servers that need more packages; `absent` says if these are missing."""
    python, absent = _peers_python()
    environment = {"OCR_MODEL_PATH": str(model), "BENTOML_DO_NOT_TRACK": "True"}
    peers = []
    for workers in (1, 2):
        command = [python, "-m", "benchmarks.peers.litserve_onnx", "{port}", str(workers)]
        recipe = Recipe("LitServe + onnxruntime", command, environment, ready="/health")
        peers.append(Contender(recipe, workers, absent=absent))
    bentoml = [python, "-m", "bentoml", "serve", "benchmarks.peers.bentoml_onnx:Reader"]
    bentoml += ["--host", HOST, "--port", "{port}"]
    recipe = Recipe("BentoML + onnxruntime", bentoml, environment, ready="/readyz")
    peers.append(Contender(recipe, 1, absent=absent))
    peers += ray_serve(model)
    settings = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    peers.append(_uvicorn("FastAPI + Keras", "fastapi_keras", model, 1, settings))
    return peers


def ray_serve(model: Path) -> list[Contender]:
    """Ray Serve with one and two replicas; `absent` says if its packages are missing."""
    python, absent = _peers_python()
    environment = {"OCR_MODEL_PATH": str(model), "RAY_USAGE_STATS_ENABLED": "0"}
    peers = []
    for replicas in (1, 2):
        command = [python, "-m", "benchmarks.peers.ray_serve_onnx", "{port}", str(replicas)]
        recipe = Recipe("Ray Serve + onnxruntime", command, environment, ready="/health")
        peers.append(Contender(recipe, replicas, absent=absent))
    return peers


def _peers_python() -> tuple[str, str | None]:
    """The Python with the packages of the peers, and how to install it if it is missing."""
    return str(PEERS_PYTHON), None if PEERS_PYTHON.exists() else _HOW_TO_INSTALL


def _uvicorn(
    name: str, module: str, model: Path, workers: int, settings: Mapping[str, str] | None = None
) -> Contender:
    command = [sys.executable, "-m", "uvicorn", f"benchmarks.peers.{module}:app", "--host", HOST]
    command += ["--port", "{port}", "--workers", str(workers)]
    environment = {"OCR_MODEL_PATH": str(model), **(settings or {})}
    return Contender(Recipe(name, command, environment, ready="/health"), workers)

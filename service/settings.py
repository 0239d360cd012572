"""The settings of the service, read from environment variables that begin with OCR_."""

import math
import re
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.default_model import default_model_path
from service.ocr.preprocessing import DEFAULT_MAX_PIXELS
from service.query_params import Defaults


def is_service_link(port: object) -> bool:
    """Whether this is the `OCR_PORT` that Kubernetes sets for a Service of the name `ocr`."""
    return isinstance(port, str) and re.match("(tcp|udp|sctp)://", port) is not None


class Settings(Defaults, BaseSettings):
    """Every field is the environment variable `OCR_<FIELD>`; the README's table lists them.

    Among them are the defaults of the query parameters.
    """

    model_config = SettingsConfigDict(
        env_prefix="OCR_", env_ignore_empty=True, frozen=True, protected_namespaces=()
    )

    model_path: Path = Field(
        default_factory=default_model_path, description="The exported model to serve."
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on.")
    workers: int = Field(default=1, ge=1, le=64, description="Processes that serve requests.")
    threads: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Threads of a process that read pictures; 0: as many as its share of the CPU "
        "budget.",
    )
    queue_requests: int = Field(
        default=64,
        ge=0,
        description="Pictures that may wait for a thread; further requests are refused with 503.",
    )
    queue_ms: int = Field(
        default=100,
        ge=1,
        description="Milliseconds that a picture may wait for a thread; a request that would "
        "probably wait longer is refused at once.",
    )
    request_seconds: float = Field(
        default=10,
        gt=0,
        description="Seconds after which a connection is closed that makes too little progress "
        "while a request arrives or an answer is taken. The whole may take longer.",
    )
    min_bytes_per_second: float = Field(
        default=4096,
        gt=0,
        description="Least rate of requests and answers, on average over `OCR_REQUEST_SECONDS`.",
    )
    keep_alive_seconds: float = Field(
        default=75,
        gt=0,
        description="Seconds after which an idle connection is closed. A proxy should close its "
        "own earlier.",
    )
    max_connections: int = Field(
        default=512,
        ge=1,
        description="Connections of a process; fewer where it may not open so many files. For one "
        "too many, an idle one is closed.",
    )
    max_header_bytes: int = Field(
        default=16 << 10,
        ge=1024,
        description="Bytes of a request's headers, those behind its body included.",
    )
    max_upload_bytes: int = Field(
        default=1 << 20, ge=1, description="Largest file size of a picture, in bytes."
    )
    max_batch: int = Field(
        default=64, ge=1, le=1024, description="Pictures in one request to `/predict/batch`."
    )
    max_batch_bytes: int = Field(
        default=8 << 20, ge=1, description="Largest request to `/predict/batch`, in bytes."
    )
    max_bodies_bytes: int = Field(
        default=12 << 20,
        validate_default=True,
        description="Memory for the bodies of all requests that a process has not answered yet, in "
        "bytes; at least `OCR_MAX_BATCH_BYTES`, and 1.5 × `OCR_MAX_UPLOAD_BYTES`.",
    )
    max_pixels: int = Field(
        default=DEFAULT_MAX_PIXELS,
        ge=1,
        description="Width × height above which a picture is refused, unread.",
    )
    api_keys: str = Field(
        default="",
        repr=False,
        description="Keys, separated by commas, one of which a POST must have; empty: no key is "
        "needed.",
    )
    cors_origins: str = Field(
        default="",
        description="Origins, separated by commas, whose pages may call the service.",
    )
    root_path: str = Field(
        default="",
        pattern="^(/[A-Za-z0-9._~-]+)*$",
        description="The path below which a proxy that strips it serves the service, like `/ocr`; "
        "for the addresses in `/openapi.json`.",
    )
    reload_seconds: float = Field(
        default=2,
        ge=0,
        description="Seconds between two checks for a new model file; 0: no checks.",
    )
    drain_seconds: float = Field(
        default=0.5,
        ge=0,
        description="Time between a SIGTERM, when `/health/ready` turns to 503, and the end of "
        "new connections.",
    )
    shutdown_seconds: int = Field(
        default=10, ge=0, description="Time that running requests have to finish at a shutdown."
    )
    worker_start_seconds: float = Field(
        default=120,
        gt=0,
        description="Seconds that one of several workers has to load its model and get ready.",
    )
    worker_timeout_seconds: float = Field(
        default=20,
        gt=0,
        description="Seconds after which one of several workers is replaced that hangs.",
    )
    log_level: Literal["critical", "error", "warning", "info", "debug"] = Field(
        default="info", description="Lowest severity that is logged."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        default="auto",
        description="Format of the log; auto: text on a terminal, JSON elsewhere.",
    )
    access_log: bool = Field(default=True, description="Whether every request is logged.")

    @field_validator("port", mode="before")
    @classmethod
    def _is_no_service_link(cls, value: object) -> object:
        """The default in place of what Kubernetes sets for a Service of the name `ocr`."""
        return 8000 if is_service_link(value) else value

    @field_validator("max_bodies_bytes")
    @classmethod
    def _has_room_for_every_request(cls, value: int, info: ValidationInfo) -> int:
        batch = info.data.get("max_batch_bytes", 0)
        # In base64, and a little around it.
        upload = math.ceil(1.5 * info.data.get("max_upload_bytes", 0))
        if value < max(batch, upload):
            raise ValueError(
                f"it must be at least OCR_MAX_BATCH_BYTES, which is {batch}, "
                f"and 1.5 × OCR_MAX_UPLOAD_BYTES, which is {upload}"
            )
        return value

    @field_validator("api_keys")
    @classmethod
    def _has_a_key(cls, value: str) -> str:
        if value and not value.replace(",", " ").strip():
            raise ValueError("it has no key between its commas; leave it empty to need none")
        return value

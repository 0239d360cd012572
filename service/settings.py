"""The settings of the service, read from environment variables that begin with OCR_."""

import ipaddress
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
    """Whether this is the `OCR_PORT` that Kubernetes sets for a Service named `ocr`."""
    return isinstance(port, str) and re.match("(tcp|udp|sctp)://", port) is not None


_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
"""An origin as browsers send it (RFC 6454, 6.2): in lower case, without a path."""

ROOT_PATH = re.compile("(/[A-Za-z0-9._~-]+)*")
"""Valid values of `OCR_ROOT_PATH` and `X-Forwarded-Prefix`."""

_KEY_NAME = re.compile("[A-Za-z0-9._-]{1,64}")

_DAY = 86_400
"""Longest time of a setting, in seconds."""

_MOST = 1 << 40
"""Upper bound of counts, sizes and rates that have no other bound."""

_LEAST_RELOAD_SECONDS = 0.01

PRIVATE_PATHS = ("/docs", "/info", "/metrics")
"""Paths that `OCR_PRIVATE_PATHS` may protect. Probes, the page and the model are always public."""


def named_keys(keys: str) -> list[tuple[str, str]]:
    """The names and keys in `OCR_API_KEYS`. A key without a name is named by its position: `key-1`.

    Raises:
        ValueError: a name or key is missing, a name is invalid, or a key has two names.
    """
    named: dict[str, str] = {}
    for number, given in enumerate(split_list(keys), 1):
        name, colon, key = (part.strip() for part in given.partition(":"))
        if not colon:
            name, key = f"key-{number}", name
        if not key or not _KEY_NAME.fullmatch(name):
            raise ValueError(
                f"entry {number} must be a key, or name:key with a name of at most 64 letters, "
                "digits and ._-"
            )
        if named.setdefault(key, name) != name:
            raise ValueError(f"entry {number} gives a second name to a key")
    return [(name, key) for key, name in named.items()]


def split_list(value: str) -> list[str]:
    """The parts between commas, without surrounding blanks and without empty parts."""
    return [part.strip() for part in value.split(",") if part.strip()]


class Settings(Defaults, BaseSettings):
    """Every field is set by the environment variable `OCR_<FIELD>`; the README lists them.

    The fields of `Defaults`, for query parameters, are settings, too.
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
    providers: str = Field(
        default="CPUExecutionProvider",
        pattern="[A-Za-z]",
        description="onnxruntime's execution providers, by preference, separated by commas; others "
        "than the default need another build of onnxruntime.",
    )
    queue_requests: int = Field(
        default=64,
        ge=0,
        le=_MOST,
        description="Pictures that may wait for a thread; further requests are refused with 503.",
    )
    queue_ms: int = Field(
        default=100,
        ge=1,
        le=1000 * _DAY,
        description="Milliseconds that a picture may wait for a thread; a request that would "
        "probably wait longer is refused at once.",
    )
    request_seconds: float = Field(
        default=10,
        gt=0,
        le=_DAY,
        description="Seconds after which a connection is closed if a request arrives, or an answer "
        "is taken, too slowly. The whole request or answer may take longer.",
    )
    min_bytes_per_second: float = Field(
        default=4096,
        gt=0,
        le=_MOST,
        description="Lowest rate at which a client may send a request or take an answer, in bytes "
        "per second, on average over `OCR_REQUEST_SECONDS`.",
    )
    keep_alive_seconds: float = Field(
        default=75,
        gt=0,
        le=_DAY,
        description="Seconds after which an idle connection is closed. A proxy should close idle "
        "connections earlier.",
    )
    max_connections: int = Field(
        default=512,
        ge=1,
        le=_MOST,
        description="Most open connections of a process; fewer if it may not open so many files. "
        "A connection beyond this closes an idle connection, of the address that has the most.",
    )
    max_header_bytes: int = Field(
        default=16 << 10,
        ge=1024,
        le=_MOST,
        description="Largest headers of a request, including trailers after its body, in bytes.",
    )
    max_upload_bytes: int = Field(
        default=1 << 20, ge=1, le=_MOST, description="Largest file size of a picture, in bytes."
    )
    max_batch: int = Field(
        default=64, ge=1, le=1024, description="Pictures in one request to `/predict/batch`."
    )
    max_batch_bytes: int = Field(
        default=8 << 20,
        ge=1,
        le=_MOST,
        description="Largest request to `/predict/batch`, in bytes.",
    )
    max_bodies_bytes: int = Field(
        default=12 << 20,
        le=_MOST,
        validate_default=True,
        description="Memory of a process for the bodies of requests that it has not answered yet, "
        "in bytes, and as much for answers that clients have not taken yet; at least "
        "`OCR_MAX_BATCH_BYTES`, and 1.5 × `OCR_MAX_UPLOAD_BYTES`.",
    )
    max_pixels: int = Field(
        default=DEFAULT_MAX_PIXELS,
        ge=1,
        le=_MOST,
        description="Width × height above which a picture is refused, unread.",
    )
    api_keys: str = Field(
        default="",
        repr=False,
        description="API keys, separated by commas; a POST needs one of them. Empty: no key is "
        "needed. `name:key` gives a key a name, for the log and the metrics.",
    )
    key_pictures_per_second: float = Field(
        default=0,
        ge=0,
        le=_MOST,
        description="Pictures per second that are read for each name of a key, on average; "
        "further requests are refused with 429. 0: no limit.",
    )
    private_paths: str = Field(
        default="",
        description="Which of `/docs`, `/info` and `/metrics` need a key, too, separated by "
        "commas.",
    )
    trusted_proxies: str = Field(
        default="",
        description="Addresses and networks, separated by commas, of proxies whose "
        "`X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Prefix` are believed; `*`: of any "
        "peer, and the client's address is the last one in `X-Forwarded-For`.",
    )
    cors_origins: str = Field(
        default="",
        description="Origins, such as `https://example.com`, separated by commas, whose pages may "
        "call the service; `*`: all.",
    )
    root_path: str = Field(
        default="",
        description="Path prefix that a proxy strips, like `/ocr`; for the addresses in "
        "`/openapi.json`. Not needed if a trusted proxy sends it as `X-Forwarded-Prefix`.",
    )
    reload_seconds: float = Field(
        default=2,
        ge=0,
        le=_DAY,
        description="Seconds between two checks for a new model file; 0: no checks.",
    )
    drain_seconds: float = Field(
        default=0.5,
        ge=0,
        le=_DAY,
        description="Seconds for which new connections are accepted after a SIGTERM, while "
        "`/health/ready` answers 503.",
    )
    shutdown_seconds: int = Field(
        default=10,
        ge=0,
        le=_DAY,
        description="Seconds that running requests have to finish at a shutdown.",
    )
    worker_start_seconds: float = Field(
        default=120,
        ge=5,
        le=_DAY,
        description="Seconds that a worker has to load its model and get ready, if there are "
        "several workers.",
    )
    worker_timeout_seconds: float = Field(
        default=20,
        ge=2,
        le=_DAY,
        description="Seconds after which a worker that hangs is replaced, if there are several "
        "workers.",
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
        """Replaces the value that Kubernetes sets for a Service named `ocr` by the default."""
        return 8000 if is_service_link(value) else value

    @field_validator("reload_seconds")
    @classmethod
    def _leaves_time_between_checks(cls, value: float) -> float:
        if 0 < value < _LEAST_RELOAD_SECONDS:
            raise ValueError(f"it must be 0 or at least {_LEAST_RELOAD_SECONDS}")
        return value

    @field_validator("max_bodies_bytes")
    @classmethod
    def _has_room_for_every_request(cls, value: int, info: ValidationInfo) -> int:
        batch = info.data.get("max_batch_bytes", 0)
        # A picture in base64 takes 4/3 of its bytes, and a form or JSON adds a little.
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
        if not named_keys(value) and value:
            raise ValueError("it contains no key; leave it empty if no key is needed")
        return value

    @field_validator("key_pictures_per_second", "private_paths")
    @classmethod
    def _needs_keys(cls, value: float | str, info: ValidationInfo) -> float | str:
        if value and not info.data.get("api_keys", "invalid"):
            raise ValueError("it needs OCR_API_KEYS, which is empty")
        return value

    @field_validator("private_paths")
    @classmethod
    def _can_be_closed(cls, value: str) -> str:
        for path in split_list(value):
            if path not in PRIVATE_PATHS:
                raise ValueError(f"{path} cannot be private; {', '.join(PRIVATE_PATHS)} can")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        for origin in split_list(value):
            if origin == "*" or _ORIGIN.fullmatch(origin):
                continue
            start = _ORIGIN.match(origin.lower())
            right = start[0] if start else "https://example.com"
            raise ValueError(f"{origin} is not an origin as browsers send it, like {right}")
        return value

    @field_validator("root_path")
    @classmethod
    def _is_a_path(cls, value: str) -> str:
        if not ROOT_PATH.fullmatch(value):
            raise ValueError("it must begin with / and not end with it, like /ocr")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        for network in split_list(value):
            if value.strip() != "*":
                try:
                    ipaddress.ip_network(network)
                except ValueError as error:
                    raise ValueError(f"{error}; 10.0.0.1 and 10.0.0.0/8 are right") from error
        return value

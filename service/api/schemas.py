"""The bodies of requests and answers, as the OpenAPI document describes them."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from service.api.errors import Problem

Base64 = Annotated[
    str, Field(description="Base64, or a data URL.", json_schema_extra={"format": "byte"})
]


# Client generators make types only for bodies that have a name.
class PictureForm(BaseModel, extra="forbid"):
    """A form with one picture."""

    file: bytes


class PictureJson(BaseModel, extra="forbid"):
    """A picture as base64."""

    image: Base64


class PicturesForm(BaseModel, extra="forbid"):
    """A form with several pictures."""

    files: list[bytes]


class PicturesJson(BaseModel, extra="forbid"):
    """Several pictures as base64."""

    images: list[Base64]


class Character(BaseModel):
    """One character of the text."""

    character: str = Field(description="The character.")
    confidence: float = Field(
        ge=0,
        le=1,
        description="The calibrated probability of this character, given that there is a character "
        "at this position: its probability at the surest time step that emits it.",
    )
    span: tuple[float, float] = Field(
        description="Left and right edge of the character, in pixels from the left edge of the "
        "uploaded picture."
    )


class Alternative(BaseModel):
    """Another text that the picture may show."""

    text: str
    confidence: float = Field(ge=0, le=1, description="As for the prediction.")


class ModelReference(BaseModel):
    """The model that read the picture."""

    name: str
    version: str


class Matrix(BaseModel):
    """The model's output from which a text was read, calibrated by the temperature."""

    symbols: list[str] = Field(description="The symbol of every class; empty for the blank.")
    blank_index: int = Field(description="The class of CTC's blank.")
    probabilities: list[list[float]] = Field(
        description="A row for every time step, with the probability of every class. Time steps "
        "are equal shares of the picture's width, from left to right."
    )


class Prediction(BaseModel):
    """The text in a picture, and how sure the model is of it."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "text": "226md",
                "confidence": 0.998,
                "accepted": True,
                "characters": [
                    {"character": "2", "confidence": 0.9999, "span": [30.0, 50.0]},
                    {"character": "2", "confidence": 0.9995, "span": [50.0, 70.0]},
                    {"character": "6", "confidence": 0.9998, "span": [70.0, 92.0]},
                    {"character": "m", "confidence": 0.9992, "span": [92.0, 120.0]},
                    {"character": "d", "confidence": 0.9996, "span": [120.0, 148.0]},
                ],
                "alternatives": [{"text": "226nd", "confidence": 0.0007}],
                "reason": None,
                "model": {"name": "captcha", "version": "20261121-013633-1a2b3c4d"},
            }
        }
    )

    text: str = Field(
        description="The text of the best path; empty if the picture shows no text. If the picture "
        "is hard to read, an alternative may be more probable. With constraints, the most probable "
        "text that satisfies them."
    )
    confidence: float = Field(
        ge=0,
        le=1,
        description="The posterior probability of the text, summed over all of its alignments "
        "and calibrated: of many texts with confidence 0.9, nine in ten are correct.",
    )
    accepted: bool = Field(
        description="Whether there is a text, and its confidence is at least `min_confidence`."
    )
    characters: list[Character]
    alternatives: list[Alternative] = Field(
        description="The most probable other texts, the best first, up to the number asked for."
    )
    reason: str | None = Field(
        description="Why there is no text: `no-text` if the picture shows none, or a sentence if "
        "no text satisfies the constraints."
    )
    model: ModelReference
    matrix: Matrix | None = Field(default=None, description="Present if it was asked for.")


class BatchItem(BaseModel):
    """The answer to one picture of a batch: one of the members is null."""

    prediction: Prediction | None
    problem: Problem | None


class Batch(BaseModel):
    """The answers of a batch, in the order of its pictures."""

    answers: list[BatchItem]


class Info(BaseModel):
    """The setup and state of the process that answers."""

    service_version: str
    process: int = Field(
        description="The id of the process; with several workers, of the worker that answers."
    )
    model: ModelReference
    loaded_at: datetime
    reloads: int = Field(
        description="How often a newer model has replaced the served model since the start."
    )
    reload_error: str | None = Field(
        description="Why the newest model file is not served; null if it is."
    )
    cpu_budget: float = Field(description="Cores that CPU affinity and control groups allow.")
    threads: int = Field(description="Threads that read pictures.")
    min_confidence: float = Field(description="The least confidence that is accepted by default.")
    in_flight: int = Field(description="Pictures that wait or are being read.")
    queue_requests: int
    queue_ms: int
    max_upload_bytes: int
    max_pixels: int
    max_batch: int


class ModelCard(BaseModel):
    """The metadata of the model that is served."""

    name: str
    version: str = Field(description="Changes with every export of other weights.")
    alphabet: str = Field(description="The symbols that the model reads, in the order of classes.")
    blank_index: int = Field(description="The class of CTC's blank.")
    width: int = Field(description="Width of the model's input, in pixels.")
    height: int = Field(
        description="Height of the model's input, in pixels; pictures of other sizes are stretched."
    )
    channels: int = Field(description="1 if the model takes gray, 3 if it takes colour.")
    training_run: str
    data_digest: str = Field(description="SHA-256 of the training run's labelled pictures.")
    min_confidence: float = Field(
        description="The threshold of `accepted`, unless the service or a request sets another.",
    )
    figures: dict[str, Any] = Field(
        description="Measured at the export on pictures that the model was not trained on."
    )


class Health(BaseModel):
    """Whether the process is alive, or ready to read pictures."""

    status: str

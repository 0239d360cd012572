"""The bodies of the answers, as the OpenAPI document describes them."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from service.ocr.ctc import Reading
from service.ocr.metadata import ModelMetadata

_DECIMALS = 6


class Character(BaseModel):
    """One character that was read."""

    character: str = Field(description="The character.")
    confidence: float = Field(
        ge=0,
        le=1,
        description="The highest probability that the model gives this symbol over the time "
        "steps that emit it.",
    )


class ModelReference(BaseModel):
    """The model that gave an answer."""

    name: str
    version: str


class Prediction(BaseModel):
    """What one picture says."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "text": "226md",
                "confidence": 0.998,
                "characters": [
                    {"character": "2", "confidence": 0.9999},
                    {"character": "2", "confidence": 0.9995},
                    {"character": "6", "confidence": 0.9998},
                    {"character": "m", "confidence": 0.9992},
                    {"character": "d", "confidence": 0.9996},
                ],
                "model": {"name": "captcha", "version": "20261121-013633-1a2b3c4d"},
            }
        }
    )

    text: str = Field(description="The text; empty where the picture shows none.")
    confidence: float = Field(
        ge=0,
        le=1,
        description="The product of the characters' confidences; of the empty text, the product "
        "of the blank's probabilities over all time steps.",
    )
    characters: list[Character]
    model: ModelReference

    @classmethod
    def of(cls, reading: Reading, model: ModelMetadata) -> Self:
        """The answer for a reading of that model."""
        return cls(
            text=reading.text,
            confidence=round(reading.confidence, _DECIMALS),
            characters=[
                Character(character=c.character, confidence=round(c.confidence, _DECIMALS))
                for c in reading.characters
            ],
            model=ModelReference(name=model.name, version=model.version),
        )


class ModelCard(BaseModel):
    """The metadata of the model that is served."""

    name: str
    version: str = Field(description="Different for every export of other weights.")
    alphabet: str = Field(description="The symbols that can be read, in the order of classes.")
    blank_index: int = Field(description="The class of CTC's blank.")
    width: int = Field(description="Picture width that the model takes, in pixels.")
    height: int = Field(description="Picture height, likewise; other sizes are stretched to it.")
    training_run: str
    data_digest: str = Field(description="SHA-256 over the labelled pictures of that run.")
    figures: dict[str, Any] = Field(
        description="Measured at the export on pictures that the model was not trained on."
    )

    @classmethod
    def of(cls, model: ModelMetadata) -> Self:
        """What is shown of a model's metadata."""
        return cls(**{name: getattr(model, name) for name in cls.model_fields})


class Health(BaseModel):
    """Whether the process lives, or is ready to read pictures."""

    status: str

"""The bodies of the Open Inference Protocol."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class InferenceError(BaseModel):
    """What was wrong."""

    error: str


class ServerMetadata(BaseModel):
    """The server."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(BaseModel):
    """Whether the process answers."""

    live: bool


class ServerReady(BaseModel):
    """Whether the models can infer."""

    ready: bool


class ModelReady(BaseModel):
    """Whether a model can infer."""

    name: str
    ready: bool


class TensorMetadata(BaseModel):
    """An input or output of a model."""

    name: str
    datatype: str
    shape: list[int] = Field(description="-1: any length.")


class ServedModel(BaseModel):
    """The inputs and outputs of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class Parameters(BaseModel):
    """How tensors are sent as binary data; others are ignored."""

    binary_data_size: int | None = Field(
        default=None, description="Of an input: its bytes, after the JSON."
    )
    binary_data: bool | None = Field(
        default=None, description="Of an output: whether it is wanted as binary data."
    )
    binary_data_output: bool | None = Field(
        default=None, description="Of a request: whether outputs are, which do not say."
    )


class RequestInput(BaseModel):
    """A tensor of a request."""

    name: str
    datatype: str
    shape: list[int] = Field(fail_fast=True)
    parameters: Parameters | None = None
    data: list[Any] | None = Field(
        default=None,
        description="In row-major order, flat or nested as the shape says; elements of BYTES in "
        "base64.",
    )


class RequestedOutput(BaseModel):
    """An output that is wanted."""

    name: str
    parameters: Parameters | None = None


class InferenceBody(BaseModel):
    """A request."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "1",
                "inputs": [
                    {
                        "name": "picture",
                        "datatype": "BYTES",
                        "shape": [1],
                        "data": ["R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs="],
                    }
                ],
            }
        }
    )

    id: str | None = Field(default=None, description="Given back with the answer.")
    parameters: Parameters | None = None
    # Of 64 kB in which every element is wrong, all errors would take 60 MB.
    inputs: list[RequestInput] = Field(
        description="One: the image tensor, or `picture`.", fail_fast=True
    )
    outputs: list[RequestedOutput] | None = Field(
        default=None, description="Default: all.", fail_fast=True
    )


class ResponseOutput(BaseModel):
    """A tensor of an answer."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = Field(
        default=None, description="`binary_data_size`: its bytes, after the JSON."
    )
    data: list[Any] | None = Field(default=None, description="In row-major order, flat.")


class Inference(BaseModel):
    """An answer."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[ResponseOutput]

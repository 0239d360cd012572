"""The bodies of requests and answers of the Open Inference Protocol."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class InferenceError(BaseModel):
    """What went wrong."""

    error: str


class ServerMetadata(BaseModel):
    """Name, version and extensions of the server."""

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
    """How tensors are sent as binary data; other parameters are ignored."""

    binary_data_size: int | None = Field(
        default=None, description="For an input: number of its bytes, which follow the JSON."
    )
    binary_data: bool | None = Field(
        default=None, description="For an output: whether it is returned as binary data."
    )
    binary_data_output: bool | None = Field(
        default=None, description="For a request: the default of `binary_data` for its outputs."
    )


class RequestInput(BaseModel):
    """A tensor of a request."""

    name: str
    datatype: str
    shape: list[int] = Field(fail_fast=True)
    parameters: Parameters | None = None
    data: list[Any] | None = Field(
        default=None,
        description="Elements in row-major order, flat or nested like the shape; elements of BYTES "
        "in base64.",
    )


class RequestedOutput(BaseModel):
    """An output that a request asks for."""

    name: str
    parameters: Parameters | None = None


class InferenceBody(BaseModel):
    """An inference request."""

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

    id: str | None = Field(default=None, description="Returned in the answer.")
    parameters: Parameters | None = None
    # If every element in 64 kB of inputs is wrong, collecting all errors would take 60 MB.
    inputs: list[RequestInput] = Field(
        description="One input: the image tensor, or `picture`.", fail_fast=True
    )
    outputs: list[RequestedOutput] | None = Field(
        default=None, description="Default: all outputs.", fail_fast=True
    )


class ResponseOutput(BaseModel):
    """A tensor of an answer."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = Field(
        default=None, description="`binary_data_size`: number of its bytes, which follow the JSON."
    )
    data: list[Any] | None = Field(default=None, description="Elements in row-major order, flat.")


class Inference(BaseModel):
    """The answer to an inference request."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[ResponseOutput]

"""Writes models and their metadata to ONNX files, atomically."""

from pathlib import Path

import onnx

from service.ocr.metadata import ModelMetadata


def write_model(graph: onnx.ModelProto, metadata: ModelMetadata, path: Path) -> None:
    """Writes a graph with only these metadata; replaces an old file."""
    del graph.metadata_props[:]
    for key, value in metadata.to_properties().items():
        graph.metadata_props.add(key=key, value=value)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(graph.SerializeToString())
    temporary.replace(path)


def write_metadata(path: Path, metadata: ModelMetadata) -> None:
    """Replaces the metadata of a model file."""
    write_model(onnx.load(path), metadata, path)

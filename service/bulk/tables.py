"""The output table: one Parquet file for each shard, and JSON files about the run."""

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow import fs as filesystems
from pyarrow import parquet

from service.bulk.rows import Counts, Row
from service.bulk.shards import PARQUET, InputError, Shard, locate, remove_unfinished, replace

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("text", pa.string()),
        ("confidence", pa.float64()),
        ("accepted", pa.bool_()),
        (
            "characters",
            pa.list_(
                pa.struct(
                    [
                        ("character", pa.string()),
                        ("confidence", pa.float64()),
                        ("left", pa.float64()),
                        ("right", pa.float64()),
                    ]
                )
            ),
        ),
        (
            "alternatives",
            pa.list_(pa.struct([("text", pa.string()), ("confidence", pa.float64())])),
        ),
        ("reason", pa.string()),
        ("error_kind", pa.string()),
        ("error", pa.string()),
        ("model_name", pa.string()),
        ("model_version", pa.string()),
    ]
)

_RUN = "_run.json"
_SUCCESS = "_SUCCESS"
_COUNTS = "captcha-ocr"
"""Key in a file's metadata under which the counts of the file are."""

_ROW_GROUP = 20_000
_REQUESTS = 32


@dataclass(frozen=True)
class Asked:
    """The model and the question with which every picture is read.

    Attributes:
        model: the SHA-256 of the model file, in hexadecimal.
        query: the parameters, as a query string.
        max_pixels: width × height above which a picture is refused.
    """

    model: str
    query: str
    max_pixels: int

    def file_of(self, shard: Shard) -> str:
        """The name of a shard's file; changes with the shard, the model and the question."""
        facts = (shard.identity, self.model, self.query, self.max_pixels)
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest() + PARQUET


class Table:
    """A folder of Parquet files. Two runs may write it at the same time.

    Args:
        address: a folder, which need not exist, on a disk or in an object store.

    Raises:
        InputError: there is no such file system.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._filesystem, self._folder = locate(address)

    def write(self, name: str, rows: Iterable[Row]) -> Counts:
        """Writes a file of the table atomically; returns the counts of its rows.

        Raises:
            OSError: the file cannot be written. The table is then unchanged.
        """
        counts = Counts()
        sink = pa.BufferOutputStream()
        with parquet.ParquetWriter(sink, SCHEMA, compression="zstd") as writer:
            pending: list[Row] = []
            for row in rows:
                counts.add(row)
                pending.append(row)
                if len(pending) == _ROW_GROUP:
                    writer.write_batch(pa.RecordBatch.from_pylist(pending, SCHEMA))
                    pending.clear()
            if pending:
                writer.write_batch(pa.RecordBatch.from_pylist(pending, SCHEMA))
            writer.add_key_value_metadata({_COUNTS: json.dumps(counts.as_json())})
        replace(self._filesystem, f"{self._folder}/{name}", sink.getvalue())
        return counts

    def files(self) -> dict[str, Counts]:
        """The counts of each file of the table. Files that cannot be read are left out.

        Raises:
            OSError: the file system does not answer.
        """
        selector = filesystems.FileSelector(self._folder, allow_not_found=True)
        names = [
            info.base_name
            for info in self._filesystem.get_file_info(selector)
            if info.base_name.endswith(PARQUET)
        ]
        with ThreadPoolExecutor(_REQUESTS) as pool:
            counts = pool.map(self._counts, names)
            return {name: count for name, count in zip(names, counts, strict=True) if count}

    def begin(self, run: dict[str, Any], other: Iterable[str]) -> None:
        """Records the run that begins, and removes the other files and the success marker.

        Raises:
            OSError: the folder cannot be written.
        """
        self._filesystem.create_dir(self._folder)
        for name in (_SUCCESS, *other):
            if self._filesystem.get_file_info(f"{self._folder}/{name}").is_file:
                self._filesystem.delete_file(f"{self._folder}/{name}")
        self._write_json(_RUN, run)

    def succeed(self, run: dict[str, Any], counts: Counts) -> None:
        """Writes the success marker, which contains the counts.

        Raises:
            OSError: the marker cannot be written.
        """
        remove_unfinished(self._filesystem, self._folder)
        self._write_json(_SUCCESS, run | {"counts": counts.as_json()})

    def run(self) -> tuple[dict[str, Any], bool]:
        """What the last run recorded, and whether it succeeded.

        Raises:
            InputError: there was no run.
            OSError: the file system does not answer.
        """
        for name in (_SUCCESS, _RUN):
            if self._filesystem.get_file_info(f"{self._folder}/{name}").is_file:
                with self._filesystem.open_input_file(f"{self._folder}/{name}") as file:
                    return json.loads(file.read()), name == _SUCCESS
        raise InputError(f"{self.address} was not written by `captcha-ocr bulk read`.")

    def _counts(self, name: str) -> Counts | None:
        try:
            with self._filesystem.open_input_file(f"{self._folder}/{name}") as file:
                metadata = parquet.read_metadata(file).metadata
            return Counts.from_json(json.loads(metadata[_COUNTS.encode()]))
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
            return None  # cut short by a power failure, or of another program

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        text = json.dumps(content, indent=2) + "\n"
        replace(self._filesystem, f"{self._folder}/{name}", text.encode())

"""Reads with Ray as a user does, on one machine, clusters, and with an object store.

Loops wait for what must happen; no test depends on how long that takes.
"""

import json
import os
import random
import socket
from pathlib import Path

import pytest

# Before Ray, which reads its environment while it is imported.
pytest.importorskip("service.bulk.run", reason="the extra bulk is not installed; make test-bulk")

import ray
from pyarrow import fs as filesystems
from pyarrow import parquet
from ray.util import placement_group

from service.bulk.run import Driver, RunError, Work, cluster
from service.bulk.shards import find_shards, pack
from service.bulk.tables import Asked
from tests import stripes
from tests.bulk.reading import (
    DEADLINE,
    bulk_read,
    files,
    link_examples,
    table,
    wait_until,
    write_pictures,
)
from tests.cli.command import run

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray's, of its own processes
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return stripes.write_model(tmp_path / "stripes.onnx")


def test_texts_are_those_of_predict(model: Path, tmp_path: Path) -> None:
    """On this machine alone: 5,000 pictures, of which 20 are broken and have rows as well."""
    broken = set(random.Random(1).sample(range(5000), 20))
    write_pictures(tmp_path / "in", 5000, broken)
    done = bulk_read(tmp_path / "in", tmp_path / "out", "--model", model, "--alternatives", 1)
    assert done.returncode == 0, done.stderr.decode()
    rows = table(tmp_path / "out")
    predicted = run("predict", tmp_path / "in", "--json", "--model", model, "--alternatives", 1)
    answers = [json.loads(line) for line in predicted.stdout.splitlines()]
    sound = [row for row in rows if row["error_kind"] is None]
    assert [(row["path"], row["text"]) for row in sound] == [
        (Path(answer["file"]).name, answer["text"]) for answer in answers
    ]
    assert sound[0]["alternatives"] == answers[0]["alternatives"]
    assert {row["path"] for row in rows if row["error_kind"]} == {f"{n:05}.png" for n in broken}
    assert len(rows) == 5000
    assert b"5000 rows: 49" in done.stdout
    assert b"20  undecodable-picture" in done.stdout
    facts = json.loads(run("bulk", "status", tmp_path / "out", "--json").stdout)
    assert facts["complete"]
    assert facts["files"] == facts["shards"] == 5
    assert facts["counts"]["rows"] == 5000
    assert facts["counts"]["errors"] == {"undecodable-picture": 20}


def test_two_cpus_are_enough(two_cpus: str, model: Path, tmp_path: Path) -> None:
    """A first run and a resume end, with more actors than there are CPUs.

    The next tests do the same with as many as there are by default.
    """
    texts = write_pictures(tmp_path / "in", 300)
    arguments = (
        tmp_path / "in", tmp_path / "out", "--model", model, "--address", two_cpus,
        "--shard-pictures", 50, "--actors", 5,
    )  # fmt: skip
    assert bulk_read(*arguments).returncode == 0
    first = files(tmp_path / "out")
    lost = sorted(first)[:4]
    for name in lost:
        (tmp_path / "out" / name).unlink()
    status = run("bulk", "status", tmp_path / "out").stdout.decode()
    again = bulk_read(*arguments)
    assert again.returncode == 0, again.stderr.decode()
    assert b"2 of 6 shards have been read already" in again.stderr
    kept = {name: written for name, written in first.items() if name not in lost}
    assert kept.items() <= files(tmp_path / "out").items()
    assert {row["path"]: row["path"] for row in table(tmp_path / "out")}.keys() == texts.keys()
    assert len(table(tmp_path / "out")) == 300
    assert status.startswith("2 of 6 shards")


def test_a_shard_that_fails_is_named(two_cpus: str, model: Path, tmp_path: Path) -> None:
    """The others are read; once it is repaired, the same command does the rest."""
    texts = write_pictures(tmp_path / "in", 30)
    pack(str(tmp_path / "in"), str(tmp_path / "shards"), 10, "tar", lambda _: None)
    last = tmp_path / "shards" / "shard-000002.tar"
    whole = last.read_bytes()
    os.truncate(last, 5000)
    arguments = (tmp_path / "shards", tmp_path / "out", "--model", model, "--address", two_cpus)
    done = bulk_read(*arguments)
    assert done.returncode == 1
    assert b"failed: shard-000002.tar: " in done.stderr
    assert b"1 of 3 shards could not be read" in done.stderr
    assert len(table(tmp_path / "out")) == 20
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    last.write_bytes(whole)
    assert bulk_read(*arguments).returncode == 0
    assert [row["path"] for row in table(tmp_path / "out")] == sorted(texts)
    assert json.loads((tmp_path / "out" / "_SUCCESS").read_text())["counts"]["rows"] == 30


def test_errors_and_other_questions(two_cpus: str, model: Path, tmp_path: Path) -> None:
    """Shards with errors are read again if asked to; of another question, none is kept."""
    write_pictures(tmp_path / "in", 30, {3})
    arguments = (
        tmp_path / "in", tmp_path / "out", "--model", model, "--address", two_cpus,
        "--shard-pictures", 10,
    )  # fmt: skip
    assert bulk_read(*arguments).returncode == 0
    first = files(tmp_path / "out")
    assert bulk_read(*arguments).returncode == 0
    assert files(tmp_path / "out") == first
    assert bulk_read(*arguments, "--retry-errors").returncode == 0
    second = files(tmp_path / "out")
    assert second.keys() == first.keys()
    assert sum(second[name] != written for name, written in first.items()) == 1

    refused = bulk_read(*arguments, "--length", "2")
    assert refused.returncode == 1
    assert b"has 3 files of another input, model or question" in refused.stderr
    assert files(tmp_path / "out") == second
    assert bulk_read(*arguments, "--length", "2", "--replace").returncode == 0
    assert not files(tmp_path / "out").keys() & second.keys()
    assert {len(row["text"]) for row in table(tmp_path / "out") if row["text"]} <= {2}


def test_actors_that_cannot_start_are_explained(two_cpus: str, tmp_path: Path) -> None:
    """As where the program is not installed on the other machines."""
    link_examples(tmp_path / "in", 3)
    shards = find_shards(str(tmp_path / "in"), 1)
    work = Work(str(tmp_path / "in"), str(tmp_path / "out"), Asked("", "", 4_000_000), 8)
    with (
        pytest.raises(RunError, match=r"(?s)the workers do not start: .*ONNX"),
        cluster(two_cpus, 1) as actors,
    ):
        Driver(shards, work, b"no model", actors, DEADLINE, lambda _: None).run()


def test_an_address_where_no_cluster_is_is_explained(model: Path, tmp_path: Path) -> None:
    """At once; Ray itself would wait for many minutes."""
    write_pictures(tmp_path / "in", 3)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        done = bulk_read(
            tmp_path / "in", tmp_path / "out", "--model", model, "--address", address
        )  # fmt: skip
    assert done.returncode == 1
    assert f"cannot be started or joined at {address}: ".encode() in done.stderr


def test_a_cluster_without_a_free_cpu_is_no_silent_wait(
    two_cpus: str, model: Path, tmp_path: Path
) -> None:
    """The command says what it waits for, and gives up."""
    write_pictures(tmp_path / "in", 3)
    ray.init(address=two_cpus, log_to_driver=False)
    try:
        assert placement_group([{"CPU": 2}]).wait(DEADLINE)
        wait_until(lambda: not ray.available_resources().get("CPU"))
        done = bulk_read(
            tmp_path / "in", tmp_path / "out", "--model", model, "--address", two_cpus,
            "--patience", 3,
        )  # fmt: skip
    finally:
        ray.shutdown()  # and the CPUs are free again
    assert done.returncode == 1
    assert b"error: after 3 s no worker has started, 0 of 2 CPUs are free" in done.stderr


@pytest.mark.parametrize("form", ["loose", "tar", "parquet"])
def test_an_object_store_is_read_and_written(
    form: str, two_cpus: str, model: Path, tmp_path: Path
) -> None:
    """Pictures, shards and table are in it; its credentials are written nowhere."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        query = f"?scheme=http&region=us-east-1&endpoint_override=127.0.0.1:{port}"
        store = filesystems.S3FileSystem(
            access_key="key", secret_key="hidden", scheme="http", region="us-east-1",
            endpoint_override=f"127.0.0.1:{port}", allow_bucket_creation=True,
        )  # fmt: skip
        store.create_dir(form)  # a bucket; moto keeps those of earlier tests
        texts = write_pictures(tmp_path / "in", 60, {7})
        for path in (tmp_path / "in").iterdir():
            with store.open_output_stream(f"{form}/in/{path.name}") as stream:
                stream.write(path.read_bytes())
        source = f"s3://key:hidden@{form}/in{query}"
        if form != "loose":
            packed = f"s3://key:hidden@{form}/shards{query}"
            done = run("bulk", "pack", source, packed, "--shard-pictures", 25, "--format", form)
            assert done.stdout == b"60 pictures in 3 shards\n", done.stderr
            source = packed
        target = f"s3://key:hidden@{form}/out{query}"
        arguments = (
            source, target, "--model", model, "--address", two_cpus, "--shard-pictures", 25,
        )  # fmt: skip
        assert bulk_read(*arguments).returncode == 0
        again = bulk_read(*arguments)
        assert b"3 of 3 shards have been read already" in again.stderr
        status = run("bulk", "status", target).stdout
        assert status.startswith(f"3 of 3 shards of s3://{form}/".encode())
        assert b"complete\n60 rows" in status
        rows = parquet.read_table(f"{form}/out", filesystem=store).to_pylist()
        assert len(rows) == 60
        assert {row["path"] for row in rows if row["text"] is not None} == texts.keys()
        with store.open_input_file(f"{form}/out/_SUCCESS") as file:
            assert b"hidden" not in file.read()
    finally:
        server.stop()


def test_nothing_of_ray_is_left(two_cpus: str) -> None:
    """Its usage report is off; what reads is not nice."""
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    ray.init(address=two_cpus, log_to_driver=False)
    try:
        niceness = ray.remote(num_cpus=1)(lambda: os.nice(0)).remote()
        assert ray.get(niceness, timeout=DEADLINE) == os.nice(0)
    finally:
        ray.shutdown()

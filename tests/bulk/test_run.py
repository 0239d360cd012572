"""Bulk reads with Ray as a user runs them: on one machine, on clusters, with an object store.

The tests wait for conditions; no test depends on how long these take.
"""

import json
import os
import random
import socket
from pathlib import Path

import pytest

# Imported before Ray, which reads environment variables during its import.
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


def test_bulk_read_gives_the_texts_of_predict(model: Path, tmp_path: Path) -> None:
    """Without a cluster: 5,000 pictures, of which 20 are broken and also get rows."""
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


def test_more_actors_than_cpus_finish(two_cpus: str, model: Path, tmp_path: Path) -> None:
    """A first run and a resumed run end with more actors than CPUs.

    The next tests use the default number of actors.
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
    """The other shards are read. Once the shard is repaired, the same command reads it."""
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


def test_finished_shards_are_read_again_only_on_request(
    two_cpus: str, model: Path, tmp_path: Path
) -> None:
    """`--retry-errors` reads shards with errors again. Another question is refused, unless
    `--replace` removes the files of the old question.
    """
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


def test_the_error_says_why_actors_cannot_start(two_cpus: str, tmp_path: Path) -> None:
    """For example, if the program is not installed on the other machines."""
    link_examples(tmp_path / "in", 3)
    shards = find_shards(str(tmp_path / "in"), 1)
    work = Work(str(tmp_path / "in"), str(tmp_path / "out"), Asked("", "", 4_000_000), 8)
    with (
        pytest.raises(RunError, match=r"(?s)the workers do not start: .*ONNX"),
        cluster(two_cpus, 1) as actors,
    ):
        Driver(shards, work, b"no model", actors, DEADLINE, lambda _: None).run()


def test_an_address_without_a_cluster_is_an_error(model: Path, tmp_path: Path) -> None:
    """The command fails at once; Ray itself would wait for many minutes."""
    write_pictures(tmp_path / "in", 3)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        done = bulk_read(
            tmp_path / "in", tmp_path / "out", "--model", model, "--address", address
        )  # fmt: skip
    assert done.returncode == 1
    assert f"cannot be started or joined at {address}: ".encode() in done.stderr


def test_the_command_gives_up_if_no_cpu_becomes_free(
    two_cpus: str, model: Path, tmp_path: Path
) -> None:
    """The command says what it waits for, and gives up after `--patience` seconds."""
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
        ray.shutdown()  # frees the CPUs
    assert done.returncode == 1
    assert b"error: after 3 s no worker has started, 0 of 2 CPUs are free" in done.stderr


@pytest.mark.parametrize("form", ["loose", "tar", "parquet"])
def test_an_object_store_is_read_and_written(
    form: str, two_cpus: str, model: Path, tmp_path: Path
) -> None:
    """Pictures, shards and table are in the object store. `_SUCCESS` has no credentials."""
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
        store.create_dir(form)  # a new bucket; moto keeps the buckets of earlier tests
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


def test_ray_reports_no_usage_and_does_not_lower_the_priority_of_workers(two_cpus: str) -> None:
    """Ray's usage report is off, and workers have the niceness of the driver."""
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    ray.init(address=two_cpus, log_to_driver=False)
    try:
        niceness = ray.remote(num_cpus=1)(lambda: os.nice(0)).remote()
        assert ray.get(niceness, timeout=DEADLINE) == os.nice(0)
    finally:
        ray.shutdown()

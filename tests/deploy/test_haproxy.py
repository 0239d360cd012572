"""HAProxy, with the configuration of `deploy/` in front of real services, loses no request.

The clients do not retry. The tests check counts and no times, so they also pass on a busy machine.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import httpx2
import pytest
import yaml

from benchmarks.scaling import slowed
from service.settings import Settings
from tests.deploy.proxy import FOLDER
from tests.deploy.replicas import CLIENTS, HAPROXY, REPLICAS, Replicas, link_cut
from tests.server.process import START_SECONDS, replace, until, version

NEWER = "9.9.9"

MANY = 1100
"""More connections than HAProxy accepts in all."""

needs_haproxy = pytest.mark.skipif(
    not shutil.which("haproxy"), reason="haproxy is missing; apt-get install haproxy"
)


@needs_haproxy
def test_haproxy_accepts_the_configuration() -> None:
    """Unchanged, and without a warning."""
    done = subprocess.run(
        ["haproxy", "-c", "-f", str(FOLDER / "haproxy.cfg")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    output = done.stdout + done.stderr
    assert (done.returncode, "WARNING" in output) == (0, False), output


def configured(name: str) -> int:
    """The number that the configuration sets for a keyword."""
    (number,) = re.findall(rf"^ +{re.escape(name)} (\d+)$", HAPROXY, re.MULTILINE)
    return int(number)


def test_a_picture_fits_in_a_buffer() -> None:
    """A picture of 80 KiB in base64, with the headers of its request. HAProxy can send a buffered
    request to another instance.
    """
    headers = Settings.model_fields["max_header_bytes"].default
    assert configured("tune.bufsize") > 4 / 3 * 80 * 1024 + headers


def test_there_are_buffers_for_all_connections() -> None:
    """And for the health checks. All buffers fit in the memory of the container."""
    checks = 4 * 10
    assert configured("tune.buffers.limit") > 6 * configured("maxconn") + checks
    compose = yaml.safe_load((FOLDER / "compose.yml").read_text(encoding="utf-8"))
    assert compose["services"]["haproxy"]["mem_limit"] == "1g"
    assert configured("tune.buffers.limit") * configured("tune.bufsize") < 0.9 * (1 << 30)


def test_replicas_drain_longer_than_health_checks_take() -> None:
    """HAProxy notices that a replica ends while the replica still answers. Replicas publish no
    port, so they do not compete for one.
    """
    compose = yaml.safe_load((FOLDER / "compose.yml").read_text(encoding="utf-8"))
    service = compose["services"]["captcha-ocr"]
    assert service["deploy"]["replicas"] == 3
    assert "ports" not in service
    drain = service["environment"]["OCR_DRAIN_SECONDS"]
    every, fall = re.search(r"inter (\d+)ms fall (\d)", HAPROXY).groups()  # type: ignore[union-attr]
    assert drain > int(every) / 1000 * int(fall)
    most = Settings.model_fields["shutdown_seconds"].default
    assert int(service["stop_grace_period"].removesuffix("s")) > drain + most


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    with ExitStack() as stack:
        yield Replicas(tmp_path_factory.mktemp("replicas"), stack)


@pytest.fixture
def replicas(started: Replicas) -> Replicas:
    started.restore()
    return started


@needs_haproxy
def test_metrics_and_info_are_not_public(replicas: Replicas) -> None:
    """Prometheus scrapes each instance directly."""
    paths = ("/metrics", "/info", "/%6detrics", "/inf%6F", "/health/ready")
    statuses = [httpx2.get(replicas.url + path).status_code for path in paths]
    assert statuses == [404, 404, 404, 404, 200]


@needs_haproxy
def test_a_prefix_sent_by_a_client_is_ignored(replicas: Replicas) -> None:
    """The instances trust the headers of HAProxy."""
    sent = {"X-Forwarded-Prefix": "/elsewhere"}
    document = httpx2.get(f"{replicas.url}/openapi.json", headers=sent).json()
    assert document["servers"] == [{"url": "/"}]


@pytest.mark.parametrize(
    ("addresses", "each", "end"),
    [(1, MANY, b"\r\n"), (11, 90, b"")],
    ids=["idle", "with unfinished requests"],
)
@needs_haproxy
def test_many_connections_of_few_clients_do_not_block_other_clients(
    addresses: int, each: int, end: bytes, replicas: Replicas
) -> None:
    """A client with another address is answered, however many connections they open."""
    port = int(replicas.url.rpartition(":")[2])
    with ExitStack() as idle:
        for number in range(addresses * each):
            source = f"127.0.0.{2 + number % addresses}", 0
            with suppress(OSError):  # HAProxy may close the connection before it is open here
                one = socket.create_connection(("127.0.0.1", port), 10, source)
                idle.enter_context(one)
                one.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n" + end)
        with replicas.under_load() as answers:
            answers.wait_for_more(50)
    assert answers.lost == []


@needs_haproxy
def test_a_connection_has_one_request_at_a_time(replicas: Replicas) -> None:
    """Each of the hundred streams of an HTTP/2 connection would take a buffer."""
    _, _, port = replicas.url.rpartition(":")
    with socket.create_connection(("127.0.0.1", int(port)), 10) as connection:
        settings = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
        assert connection.recv(7) == b"HTTP/1."


@needs_haproxy
def test_no_request_is_lost_when_instances_are_killed(replicas: Replicas) -> None:
    """HAProxy sends their requests to another instance, in the end to the last one."""
    with replicas.under_load() as answers:
        for number in range(REPLICAS - 1):
            replicas.services[number].kill()
            replicas.wait(number, "DOWN")
    assert answers.lost == []


@needs_haproxy
def test_no_request_is_lost_when_an_instance_ends(replicas: Replicas) -> None:
    """It ends by SIGTERM, with exit status 0."""
    service = replicas.services[0]
    with replicas.under_load() as answers:
        service.terminate()
        replicas.wait(0, "DOWN")
        assert service.wait(START_SECONDS) == 0
    assert answers.lost == []


@needs_haproxy
def test_no_request_is_lost_when_an_instance_hangs(replicas: Replicas) -> None:
    """After a timeout, HAProxy sends its requests to another instance, also those to `/v2`. Later
    HAProxy uses it again.
    """
    service = replicas.services[0]
    try:
        with replicas.under_load() as answers:
            service.send_signal(signal.SIGSTOP)
            replicas.wait(0, "DOWN")
        assert answers.lost == []
    finally:
        service.send_signal(signal.SIGCONT)
    with replicas.under_load() as answers:
        replicas.wait(0, "UP")
    assert answers.lost == []


@needs_haproxy
def test_no_request_is_lost_when_a_link_is_cut(replicas: Replicas) -> None:
    """Packets are dropped silently, in both directions."""
    with ExitStack() as cut, replicas.under_load() as answers:
        try:
            cut.enter_context(link_cut(replicas.addresses[0]))
        except OSError as error:
            if os.environ.get("CI") and os.geteuid() == 0:
                raise
            pytest.skip(f"packets cannot be dropped here; needs root and iptables: {error}")
        replicas.wait(0, "DOWN")
        answers.wait_for_more(50)
        cut.close()
        replicas.wait(0, "UP")
    assert answers.lost == []


@needs_haproxy
def test_a_slow_instance_gets_few_requests(replicas: Replicas) -> None:
    """It runs a tenth of the time. With round robin, it would get a third of the requests, and all
    clients would wait for it.
    """
    before = replicas.answer_counts()
    with slowed(replicas.services[0]), replicas.under_load() as answers:
        answers.wait_for_more(500)
    assert answers.lost == []
    counts = [after - one for after, one in zip(replicas.answer_counts(), before, strict=True)]
    assert counts[0] < sum(counts) / 4, counts


@needs_haproxy
def test_no_request_is_lost_when_the_model_is_replaced(replicas: Replicas) -> None:
    """The model file is replaced at one instance after the other."""
    with replicas.under_load() as answers:
        for model, address in zip(replicas.models, replicas.addresses, strict=True):
            replace(model, version="2")
            until(lambda address=address: version(address) == "2", "version 2 is served")  # type: ignore[misc]
        replaced = len(answers) + CLIENTS
    assert answers.lost == []
    assert {answer.model_version for answer in answers} == {"1", "2"}
    assert {answer.model_version for answer in answers[replaced:]} == {"2"}


@needs_haproxy
def test_no_request_is_lost_when_the_service_is_updated(replicas: Replicas) -> None:
    """Instances of a newer version replace the old instances one after the other."""
    newer = (
        f"import sys, service; service.__version__ = '{NEWER}';"
        "from service.server.main import main; sys.exit(main())"
    )
    others = [replicas.start(number, newer) for number in range(REPLICAS)]
    with replicas.under_load() as answers:
        for number, other in enumerate(others):
            service = replicas.services[number]
            service.terminate()
            replicas.put(number, other)
            assert service.wait(START_SECONDS) == 0
    assert answers.lost == []
    for address in replicas.addresses:
        assert httpx2.get(f"{address}/info").json()["service_version"] == NEWER

"""HAProxy, run with the configuration of `deploy/` before real services: no request is lost.

The clients try nothing again. Nothing is said of times: what is counted holds on a busy machine.
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
from tests.deploy.replicas import ASKERS, HAPROXY, REPLICAS, Replicas, link_cut
from tests.server.process import START_SECONDS, replace, until, version

NEWER = "9.9.9"

MANY = 1100
"""Connections, more than HAProxy takes in all."""

needs_haproxy = pytest.mark.skipif(
    not shutil.which("haproxy"), reason="haproxy is missing; apt-get install haproxy"
)


@needs_haproxy
def test_haproxy_takes_its_configuration() -> None:
    """As it is, without a warning."""
    done = subprocess.run(
        ["haproxy", "-c", "-f", str(FOLDER / "haproxy.cfg")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    output = done.stdout + done.stderr
    assert (done.returncode, "WARNING" in output) == (0, False), output


def configured(name: str) -> int:
    """The number that a line of the configuration sets."""
    (number,) = re.findall(rf"^ +{re.escape(name)} (\d+)$", HAPROXY, re.MULTILINE)
    return int(number)


def test_a_picture_fits_a_buffer() -> None:
    """One of 80 KiB in base64, with its headers; so that it can be sent to another instance."""
    headers = Settings.model_fields["max_header_bytes"].default
    assert configured("tune.bufsize") > 4 / 3 * 80 * 1024 + headers


def test_all_connections_find_their_buffers() -> None:
    """And so do the health checks; and all buffers fit in the memory of the container."""
    checks = 4 * 10
    assert configured("tune.buffers.limit") > 6 * configured("maxconn") + checks
    compose = yaml.safe_load((FOLDER / "compose.yml").read_text(encoding="utf-8"))
    assert compose["services"]["haproxy"]["mem_limit"] == "1g"
    assert configured("tune.buffers.limit") * configured("tune.bufsize") < 0.9 * (1 << 30)


def test_the_replicas_drain_longer_than_a_check_takes() -> None:
    """HAProxy sees that one ends while that is still served; and no port is taken twice."""
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
def test_what_is_closed(replicas: Replicas) -> None:
    """Prometheus asks each instance itself."""
    paths = ("/metrics", "/info", "/%6detrics", "/inf%6F", "/health/ready")
    statuses = [httpx2.get(replicas.url + path).status_code for path in paths]
    assert statuses == [404, 404, 404, 404, 200]


@needs_haproxy
def test_a_prefix_that_a_client_sends_is_not_believed(replicas: Replicas) -> None:
    """The instances believe HAProxy."""
    sent = {"X-Forwarded-Prefix": "/elsewhere"}
    document = httpx2.get(f"{replicas.url}/openapi.json", headers=sent).json()
    assert document["servers"] == [{"url": "/"}]


@pytest.mark.parametrize(
    ("addresses", "each", "end"),
    [(1, MANY, b"\r\n"), (11, 90, b"")],
    ids=["idle", "with unfinished requests"],
)
@needs_haproxy
def test_connections_of_few_clients_keep_out_no_other(
    addresses: int, each: int, end: bytes, replicas: Replicas
) -> None:
    """However many they open; another address is answered."""
    port = int(replicas.url.rpartition(":")[2])
    with ExitStack() as idle:
        for number in range(addresses * each):
            source = f"127.0.0.{2 + number % addresses}", 0
            with suppress(OSError):  # it may be closed already, even before it is open here
                one = socket.create_connection(("127.0.0.1", port), 10, source)
                idle.enter_context(one)
                one.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n" + end)
        with replicas.asked() as answers:
            answers.wait_for_more(50)
    assert answers.lost == []


@needs_haproxy
def test_a_connection_has_one_request_at_a_time(replicas: Replicas) -> None:
    """Each of the hundred of an HTTP/2 connection would take a buffer."""
    _, _, port = replicas.url.rpartition(":")
    with socket.create_connection(("127.0.0.1", int(port)), 10) as connection:
        settings = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
        assert connection.recv(7) == b"HTTP/1."


@needs_haproxy
def test_killed_instances_lose_nothing(replicas: Replicas) -> None:
    """What they were answering is asked of another one, the last one at the end."""
    with replicas.asked() as answers:
        for number in range(REPLICAS - 1):
            replicas.services[number].kill()
            replicas.wait(number, "DOWN")
    assert answers.lost == []


@needs_haproxy
def test_an_instance_that_ends_loses_nothing(replicas: Replicas) -> None:
    """By SIGTERM, and in good order."""
    service = replicas.services[0]
    with replicas.asked() as answers:
        service.terminate()
        replicas.wait(0, "DOWN")
        assert service.wait(START_SECONDS) == 0
    assert answers.lost == []


@needs_haproxy
def test_an_instance_that_hangs_loses_nothing(replicas: Replicas) -> None:
    """What it has got is asked of another one after a while; later it is asked again."""
    service = replicas.services[0]
    with replicas.asked() as answers:
        service.send_signal(signal.SIGSTOP)
        replicas.wait(0, "DOWN")
        answers.wait_for_more(50)
        service.send_signal(signal.SIGCONT)
        replicas.wait(0, "UP")
    assert answers.lost == []


@needs_haproxy
def test_a_link_that_is_cut_loses_nothing(replicas: Replicas) -> None:
    """Packets are dropped without a word, in both directions."""
    with ExitStack() as cut, replicas.asked() as answers:
        try:
            cut.enter_context(link_cut(replicas.addresses[0]))
        except OSError as error:
            if os.environ.get("CI") and os.geteuid() == 0:
                raise
            pytest.skip(f"no packet can be dropped here; needs root and iptables: {error}")
        replicas.wait(0, "DOWN")
        answers.wait_for_more(50)
        cut.close()
        replicas.wait(0, "UP")
    assert answers.lost == []


@needs_haproxy
def test_a_slow_instance_gets_little(replicas: Replicas) -> None:
    """One with a tenth of the time; in turns, it would get a third and all would wait for it."""
    before = replicas.shares()
    with slowed(replicas.services[0]), replicas.asked() as answers:
        answers.wait_for_more(500)
    assert answers.lost == []
    shares = [after - one for after, one in zip(replicas.shares(), before, strict=True)]
    assert shares[0] < sum(shares) / 4, shares


@needs_haproxy
def test_another_model_loses_nothing(replicas: Replicas) -> None:
    """Its file is replaced at one instance after the other."""
    with replicas.asked() as answers:
        for model, address in zip(replicas.models, replicas.addresses, strict=True):
            replace(model, version="2")
            until(lambda address=address: version(address) == "2", "it is served")  # type: ignore[misc]
        replaced = len(answers) + ASKERS
    assert answers.lost == []
    assert {answer.model_version for answer in answers} == {"1", "2"}
    assert {answer.model_version for answer in answers[replaced:]} == {"2"}


@needs_haproxy
def test_another_version_of_the_service_loses_nothing(replicas: Replicas) -> None:
    """Others take the places of those there are, one after the other."""
    newer = (
        f"import sys, service; service.__version__ = '{NEWER}';"
        "from service.server.main import main; sys.exit(main())"
    )
    others = [replicas.start(number, newer) for number in range(REPLICAS)]
    with replicas.asked() as answers:
        for number, other in enumerate(others):
            service = replicas.services[number]
            service.terminate()
            replicas.put(number, other)
            assert service.wait(START_SECONDS) == 0
    assert answers.lost == []
    for address in replicas.addresses:
        assert httpx2.get(f"{address}/info").json()["service_version"] == NEWER

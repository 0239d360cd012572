"""Three services behind HAProxy, run with the configuration of `deploy/`."""

import csv
import re
import socket
import subprocess
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

from tests import stripes
from tests.deploy.proxy import FOLDER, change, free_port, running
from tests.server.process import START_SECONDS, address_of, start, until

HAPROXY = (FOLDER / "haproxy.cfg").read_text(encoding="utf-8")
REPLICAS = 3
CLIENTS = 8


class Answer(NamedTuple):
    """The answer to one request. Status 0: no answer but an error of the client."""

    status: int
    model_version: str = ""
    error: str = ""


class Replicas:
    """Three services behind HAProxy.

    Args:
        folder: for configurations, logs and the model of each service.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self.models = [stripes.write_model(folder / f"{number}.onnx") for number in range(REPLICAS)]
        self.services = [self.start(number) for number in range(REPLICAS)]
        self.addresses = [address_of(service) for service in self.services]
        servers = "\n".join(
            f"    server ocr{number} {address.removeprefix('http://')}"
            for number, address in enumerate(self.addresses)
        )
        template = re.search(r"^    server-template .*$", HAPROXY, re.MULTILINE)
        assert template
        port = free_port()
        self._control = folder / "control"
        self._log = folder / "log"
        log = "    log stderr format raw local0 info\n"
        file = folder / "haproxy.cfg"
        file.write_text(
            change(
                HAPROXY,
                (log, f"{log}    stats socket {self._control} level admin\n"),
                ("bind :8080", f"bind 127.0.0.1:{port}"),
                # Only the shorter time that single pictures have can end their wait.
                ("timeout server 30s", "timeout server 1h"),
                (template[0], servers),
            )
        )
        stack.enter_context(running(["haproxy", "-db", "-f", str(file)], self._log))
        self.url = f"http://127.0.0.1:{port}"
        until(self._control.exists, "HAProxy runs")
        self.restore()

    def start(self, number: int, code: str | None = None) -> subprocess.Popen[str]:
        """Starts a service with the model of this number; HAProxy does not use it yet."""
        # With a long queue, a busy machine refuses nothing: a refusal would look like a loss.
        service = start(
            code, model_path=self.models[number], port=0, threads=1, drain_seconds=3,
            queue_ms=60_000, trusted_proxies="*",
        )  # fmt: skip
        self._stack.callback(service.communicate)
        self._stack.callback(service.kill)
        return service

    def put(self, number: int, service: subprocess.Popen[str]) -> None:
        """Replaces a service by another; waits until HAProxy uses the new one."""
        self.services[number] = service
        self.addresses[number] = address_of(service)
        _, _, port = self.addresses[number].rpartition(":")
        self._command(f"set server captcha-ocr/ocr{number} addr 127.0.0.1 port {port}")
        self.wait(number, "UP")

    def restore(self) -> None:
        """Starts services that have ended; waits until HAProxy uses all services."""
        started = {
            number: self.start(number)
            for number, service in enumerate(self.services)
            if service.poll() is not None
        }
        for number, service in started.items():
            self.put(number, service)
        for number in range(REPLICAS):
            self.wait(number, "UP")

    def wait(self, number: int, status: str) -> None:
        """Waits until HAProxy reports the status UP or DOWN for a service."""
        until(lambda: self._status(number) == status, f"ocr{number} is {status}", START_SECONDS)

    def _status(self, number: int) -> str:
        rows = csv.DictReader(self._command("show stat").removeprefix("# ").splitlines())
        (status,) = [row["status"] for row in rows if row["svname"] == f"ocr{number}"]
        return status

    def _command(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(self._control))
            connection.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def answer_counts(self) -> list[int]:
        """The number of requests that each service has answered so far, from HAProxy's log."""
        log = self._log.read_text()
        return [log.count(f" captcha-ocr/ocr{number} ") for number in range(REPLICAS)]

    @contextmanager
    def under_load(self) -> Iterator["Answers"]:
        """Sends requests all the time, from clients that do not retry. Half of them use `/v2`."""
        answers = Answers()
        ended = threading.Event()
        picture = stripes.picture("ab")
        tensor = {"name": "picture", "shape": [1], "datatype": "BYTES"}
        requests: list[tuple[str, dict[str, Any]]] = [
            ("/predict", {"files": {"file": picture}}),
            (
                f"/v2/models/{stripes.metadata().name}/infer",
                {"json": {"inputs": [tensor | {"data": [b64encode(picture).decode()]}]}},
            ),
        ]

        def send(path: str, content: dict[str, Any]) -> None:
            with httpx2.Client(base_url=self.url, timeout=60) as client:
                while not ended.is_set():
                    try:
                        answer = client.post(path, **content)
                        good = answer.status_code == 200
                        version = model_version(answer.json()) if good else ""
                        answers.append(
                            Answer(answer.status_code, version, "" if good else answer.text)
                        )
                    except httpx2.TransportError as error:
                        answers.append(Answer(0, error=repr(error)))
                    ended.wait(0.01)

        threads = [
            threading.Thread(target=send, args=requests[number % len(requests)])
            for number in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        try:
            answers.wait_for_more(50)
            yield answers
            answers.wait_for_more(50)
        finally:
            ended.set()
            for thread in threads:
                thread.join()


def model_version(body: dict[str, Any]) -> str:
    """The version of the model that has given this answer of `/predict` or `/v2`."""
    version: str = body["model"]["version"] if "model" in body else body["model_version"]
    return version


class Answers(list[Answer]):
    """The answers to all requests."""

    def wait_for_more(self, number: int) -> None:
        """Waits until `number` more answers have come."""
        enough = len(self) + number
        until(lambda: len(self) >= enough, f"{number} more requests are answered", START_SECONDS)

    @property
    def lost(self) -> list[Answer]:
        """The answers with another status than 200."""
        return [answer for answer in self if answer.status != 200]


@contextmanager
def link_cut(address: str) -> Iterator[None]:
    """Drops all packets to and from an address; raises OSError if that is not possible."""
    _, _, port = address.rpartition(":")
    rules = [
        ["INPUT", "--in-interface", "lo", "--protocol", "tcp", end, port, "--jump", "DROP"]
        for end in ("--destination-port", "--source-port")
    ]
    with ExitStack() as stack:
        for rule in rules:
            added = subprocess.run(
                ["iptables", "--wait", "--insert", *rule],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if added.returncode:
                raise OSError(added.stderr)
            stack.callback(subprocess.run, ["iptables", "--wait", "--delete", *rule], check=True)
        yield

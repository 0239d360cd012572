"""nginx and HAProxy, run with the configurations of `deploy/` before real services."""

import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest
import yaml

from service.settings import Settings
from tests import stripes
from tests.server.process import ROOT, address_of, start, until

FOLDER = ROOT / "deploy"
HAPROXY = (FOLDER / "haproxy.cfg").read_text(encoding="utf-8")
NGINX = (FOLDER / "nginx.conf").read_text(encoding="utf-8")

needs_haproxy = pytest.mark.skipif(
    not shutil.which("haproxy"), reason="haproxy is missing; apt-get install haproxy"
)
needs_nginx = pytest.mark.skipif(
    not (shutil.which("nginx") and shutil.which("openssl")),
    reason="nginx or openssl is missing; apt-get install nginx-light openssl",
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], log: Path) -> Iterator[None]:
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as proxy:
        try:
            yield
        finally:
            proxy.terminate()


def change(text: str, *changes: tuple[str, str]) -> str:
    """The text with changes, each of what is there once."""
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@needs_haproxy
def test_haproxy_takes_its_configuration() -> None:
    """As it is, without a warning."""
    done = subprocess.run(
        ["haproxy", "-c", "-f", str(FOLDER / "haproxy.cfg")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    output = done.stdout + done.stderr
    assert (done.returncode, "WARNING" in output) == (0, False), output


def test_a_picture_fits_a_buffer() -> None:
    """In base64, with its headers; so that it can be sent to another instance."""
    buffer = int(re.search(r"tune\.bufsize (\d+)", HAPROXY)[1])  # type: ignore[index]
    fields = Settings.model_fields
    largest = 1.5 * fields["max_upload_bytes"].default + fields["max_header_bytes"].default
    assert buffer > largest


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


@needs_haproxy
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_an_instance_ends_unseen(end: signal.Signals, stripe_model: Path, tmp_path: Path) -> None:
    """One of three that are asked all the time, without retries in the client."""
    port, statuses = free_port(), list[int]()
    with ExitStack() as stack:
        services = []
        for _ in range(3):
            process = start(model_path=stripe_model, port=0, threads=1, drain_seconds=3)
            stack.callback(process.communicate)
            stack.callback(process.kill)
            services.append(process)
        servers = "\n".join(
            f"    server ocr{number} {address_of(process).removeprefix('http://')}"
            for number, process in enumerate(services)
        )
        template = re.search(r"^    server-template .*$", HAPROXY, re.MULTILINE)
        assert template
        file = tmp_path / "haproxy.cfg"
        file.write_text(
            change(HAPROXY, (template[0], servers), ("bind :8080", f"bind 127.0.0.1:{port}"))
        )
        stack.enter_context(running(["haproxy", "-db", "-f", str(file)], tmp_path / "log"))
        client = stack.enter_context(httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30))

        def ready() -> bool:
            try:
                return client.get("/health/ready").status_code == 200
            except httpx2.TransportError:
                return False

        until(ready, "HAProxy serves")
        ended = threading.Event()

        def ask() -> None:
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as own:
                while not ended.is_set():
                    picture = {"file": stripes.picture("ab")}
                    try:
                        statuses.append(own.post("/predict", files=picture).status_code)
                    except httpx2.TransportError:
                        statuses.append(0)
                    ended.wait(0.02)

        askers = [threading.Thread(target=ask) for _ in range(4)]
        for asker in askers:
            asker.start()
        try:
            until(lambda: len(statuses) > 40, "requests are answered")
            services[0].send_signal(end)
            before, moment = len(statuses), time.monotonic()
            until(
                lambda: len(statuses) > before + 100 and time.monotonic() > moment + 3,
                "requests are answered by the others",
            )
        finally:
            ended.set()
            for asker in askers:
                asker.join()
        assert client.get("/metrics").status_code == 404
    broken = statuses.count(0)
    # A request that the instance was answering when it was killed may be lost.
    assert broken <= (len(askers) if end == signal.SIGKILL else 0)
    assert set(statuses) - {0} == {200}, statuses


@needs_nginx
def test_nginx(stripe_model: Path, tmp_path: Path) -> None:
    """TLS, the prefix, large bodies, the client's address, and what is closed."""
    certificate, key = tmp_path / "ocr.crt", tmp_path / "ocr.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    port = free_port()
    settings = {"trusted_proxies": "127.0.0.1", "access_log": True, "log_format": "text"}
    process = start(model_path=stripe_model, port=0, **settings)
    try:
        address = address_of(process)
        site = change(
            NGINX,
            ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
            ("/etc/nginx/captcha-ocr.crt", str(certificate)),
            ("/etc/nginx/captcha-ocr.key", str(key)),
            ("server 127.0.0.1:8000", f"server {address.removeprefix('http://')}"),
        )
        folders = "".join(
            f"{name}_temp_path {tmp_path}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        file = tmp_path / "nginx.conf"
        file.write_text(
            f"daemon off; user root; pid {tmp_path}/pid; error_log stderr; worker_processes 1;"
            f"events {{}} http {{ access_log off; {folders}\n{site} }}"
        )
        command = ["nginx", "-p", str(tmp_path), "-c", str(file)]
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        assert "[warn]" not in checked.stderr
        with (
            running(command, tmp_path / "log"),
            httpx2.Client(base_url=f"https://127.0.0.1:{port}/ocr", verify=False) as client,
        ):

            def ready() -> bool:
                try:
                    return client.get("/health/ready").status_code == 200
                except httpx2.TransportError:
                    return False

            until(ready, "nginx serves")
            for _ in range(3):
                answer = client.post("/predict", files={"file": stripes.picture("ab")})
                assert answer.json()["text"] == "ab"
            files = [("files", ("x", bytes(1 << 20)))] * 7
            assert client.post("/predict/batch", files=files).status_code == 200
            spoofed = {"X-Forwarded-For": "203.0.113.7"}
            assert client.get("/model", headers=spoofed).status_code == 200
            assert [client.get(path).status_code for path in ("/metrics", "/info")] == [404, 404]
        process.terminate()
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    (line,) = [line for line in output.splitlines() if "GET /model" in line]
    assert " 203.0.113.7 " in line

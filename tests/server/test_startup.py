"""How the service starts, and what prevents its start."""

import ipaddress
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import ValidationError

from service.ocr.metadata import GoldenPicture
from service.settings import Settings
from tests import stripes
from tests.server.process import ROOT, address_of, fails_to_start, serving, start, until, wait


@pytest.mark.parametrize("workers", [1, 2])
def test_the_service_answers_over_a_socket(workers: int, stripe_model: Path) -> None:
    """With one worker and with several."""
    with serving(model_path=stripe_model, workers=workers) as address:
        answers = [
            httpx2.post(f"{address}/predict", files={"file": stripes.picture(text)}).json()["text"]
            for text in ("abcd", "bd", "", "dcba")
        ]
    assert answers == ["abcd", "bd", "", "dcba"]


def missing(path: Path) -> None:
    path.unlink()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-900])


def not_onnx(path: Path) -> None:
    path.write_bytes(b"this is no model")


def without_metadata(path: Path) -> None:
    stripes.write_model(path, change=lambda properties: {})


def contradictory(path: Path) -> None:
    stripes.write_model(path, change=lambda properties: properties | {"blank_index": "9"})


def of_another_shape(path: Path) -> None:
    stripes.write_model(path, change=lambda properties: properties | {"width": "44"})


def misreading(path: Path) -> None:
    stripes.write_model(path, golden=(GoldenPicture(stripes.picture("ab"), "ba"),))


BREAKAGES: dict[Callable[[Path], None], str] = {
    missing: "no model file",
    truncated: "cut short",
    not_onnx: "cannot be loaded as an ONNX model",
    without_metadata: "format_version is missing",
    contradictory: "blank_index is 9",
    of_another_shape: "has the shape",
    misreading: "golden picture",
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_model_ends_the_service(
    breakage: Callable[[Path], None], stripe_model: Path
) -> None:
    """One sentence says what is wrong with the model, and the exit status is not 0."""
    breakage(stripe_model)
    workers = 2 if breakage is missing else 1
    status, output = fails_to_start(model_path=stripe_model, workers=workers)
    assert status != 0
    assert "Traceback" not in output
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert BREAKAGES[breakage] in errors[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "99999"),
        ("workers", "0"),
        ("log_level", "loud"),
        ("drain_seconds", "inf"),
        ("queue_ms", "1" + 400 * "0"),
        ("reload_seconds", "1e-09"),
        ("worker_start_seconds", "0.5"),
        ("worker_timeout_seconds", "0.5"),
    ],
)
def test_a_bad_setting_ends_the_service(name: str, value: str, stripe_model: Path) -> None:
    """The error names the setting and its value."""
    status, output = fails_to_start(**{"model_path": stripe_model, name: value})
    assert status != 0
    assert f"OCR_{name.upper()} is '{value}'" in output
    assert "Traceback" not in output


NUMBERS = [
    name for name, field in Settings.model_fields.items() if field.annotation in (int, float)
]


@pytest.mark.parametrize("value", ["inf", "nan", "1e400", "1" + 20 * "0", "1" + 400 * "0"])
@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_is_bounded(name: str, value: str) -> None:
    """Numbers that no clock or memory can hold are refused before anything computes with them."""
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({"api_keys": "key", name: value})
    assert {error["loc"] for error in refused.value.errors()} == {(name,)}


def test_a_bad_key_is_not_shown() -> None:
    """The error about API keys contains none of them."""
    status, output = fails_to_start(api_keys="my shop:s3cret")
    assert status != 0
    assert "error: OCR_API_KEYS: entry 1 must be a key" in output
    assert "s3cret" not in output


def test_a_misspelt_setting_is_named() -> None:
    """The warning says that the setting has no effect."""
    _, output = fails_to_start(model_path="missing.onnx", thredas=3)
    assert "OCR_THREDAS is not a setting and has no effect; did you mean OCR_THREADS?" in output


def test_variables_that_kubernetes_sets_are_ignored() -> None:
    """For a Service named `ocr`, Kubernetes sets variables that look like settings."""
    link = "tcp://10.96.12.7:8000"
    _, output = fails_to_start(
        model_path="missing.onnx",
        port=link,
        service_host="10.96.12.7",
        service_port="8000",
        port_8000_tcp=link,
        port_8000_tcp_addr="10.96.12.7",
    )
    assert f"OCR_PORT={link} is ignored: Kubernetes sets it" in output
    assert "is not a setting" not in output
    assert "no model file" in output
    assert Settings(port=link).port == Settings(port=8000).port  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_taken_port_ends_the_service(workers: int, stripe_model: Path) -> None:
    """Two services cannot have one port; the second says so and ends."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, output = fails_to_start(model_path=stripe_model, port=port, workers=workers)
    assert status != 0
    assert f"error: OCR_HOST=127.0.0.1, OCR_PORT={port}: address already in use" in output
    assert "Traceback" not in output


def test_an_unknown_host_ends_the_service(stripe_model: Path) -> None:
    """The error names it, in one sentence."""
    status, output = fails_to_start(model_path=stripe_model, host="nowhere.invalid")
    assert status != 0
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: OCR_HOST=nowhere.invalid is neither an address")
    assert "Traceback" not in output


def test_a_client_that_disconnects_leaves_no_traceback(stripe_model: Path) -> None:
    """Even in the middle of an upload."""
    with serving(model_path=stripe_model) as address:
        host, port = address.removeprefix("http://").split(":")
        for _ in range(3):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(
                    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n"
                    b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
                )
        answer = httpx2.post(f"{address}/predict", files={"file": stripes.picture("ab")})
        assert answer.json()["text"] == "ab"


def check_health(**variables: str) -> subprocess.CompletedProcess[bytes]:
    """Runs the container's health check."""
    return subprocess.run(
        [sys.executable, "-m", "service.server.healthcheck"],
        cwd=ROOT, env=os.environ | variables, capture_output=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("proxy", [{}, {"http_proxy": "http://127.0.0.1:9"}])
def test_the_health_check_asks_this_machine(proxy: dict[str, str], stripe_model: Path) -> None:
    """The container's health check uses no proxy. It fails without a traceback on a wrong port."""
    with serving(model_path=stripe_model) as address:
        port = address.rpartition(":")[2]
        assert check_health(OCR_PORT=port, **proxy).returncode == 0
    for wrong in (port, "nonsense"):
        done = check_health(OCR_PORT=wrong)
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr
    done = check_health(OCR_PORT="tcp://10.96.12.7:9")
    assert b"port 9:" not in done.stderr
    assert b"Traceback" not in done.stderr


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.parametrize(
    ("host", "clients", "workers"),
    [
        ("0.0.0.0", ["127.0.0.1"], 1),
        ("127.0.0.2", ["127.0.0.2"], 1),
        ("::", ["[::1]", "127.0.0.1"], 2),
        ("::1", ["[::1]"], 1),
        ("localhost", ["localhost"], 1),
    ],
)
def test_the_service_listens_at_every_kind_of_host(
    host: str, clients: list[str], workers: int, stripe_model: Path
) -> None:
    """The health check finds the service at each; `::` takes IPv4, too."""
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    with serving(model_path=stripe_model, host=host, workers=workers) as address:
        port = address.rpartition(":")[2]
        for client in clients:
            assert httpx2.get(f"http://{client}:{port}/health/live").status_code == 200
        done = check_health(OCR_HOST=host, OCR_PORT=port)
        assert (done.returncode, done.stderr) == (0, b"")


def link_local() -> str | None:
    """A link-local address of this machine, with its interface as zone; None if there is none."""
    interfaces = Path("/proc/net/if_inet6")
    for line in interfaces.read_text().splitlines() if interfaces.exists() else ():
        digits, _, _, scope, _, interface = line.split()
        if scope == "20":
            return f"{ipaddress.IPv6Address(int(digits, 16))}%{interface}"
    return None


@pytest.mark.skipif(not link_local(), reason="this machine has no link-local address")
def test_an_address_may_have_a_zone(stripe_model: Path) -> None:
    """The log shows the zone, too."""
    host = link_local()
    process = start(port=0, model_path=stripe_model, host=host)
    try:
        place, _, port = address_of(process).rpartition(":")
        assert place == f"http://[{host}]"
        until(lambda: not check_health(OCR_HOST=str(host), OCR_PORT=port).returncode, "ready")
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.parametrize(
    ("name", "value"), [("length", "abc"), ("alphabet", "xyz"), ("pattern", "a(")]
)
def test_defaults_that_do_not_fit_the_model_end_the_service(
    name: str, value: str, stripe_model: Path
) -> None:
    """The error names the setting, since no request could use such a default."""
    status, output = fails_to_start(**{"model_path": stripe_model, name: value})
    assert status != 0
    assert f"error: OCR_{name.upper()}: " in output
    assert "Traceback" not in output


def test_an_empty_setting_leaves_the_default(stripe_model: Path) -> None:
    """Compose files set variables to an empty value."""
    with serving(model_path=stripe_model, pattern="", length="") as address:
        answer = httpx2.post(f"{address}/predict", files={"file": stripes.picture("ab")})
    assert answer.json()["text"] == "ab"


@pytest.mark.parametrize("workers", [1, 2])
def test_the_service_writes_no_files(workers: int, stripe_model: Path, tmp_path: Path) -> None:
    """The service starts and answers where nothing can be written, not even a file in memory for a
    limit that workers share. Another application's folder of metrics changes nothing.
    """
    limit = {"api_keys": "a", "key_pictures_per_second": 1000}
    other = tmp_path / "other"
    other.mkdir()

    def cannot_write() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    for folder in (other, tmp_path / "missing"):
        options: dict[str, Any] = {"preexec_fn": cannot_write}
        environment = {"TMPDIR": "/proc/none", "PROMETHEUS_MULTIPROC_DIR": str(folder)}
        with serving(
            model_path=stripe_model,
            workers=workers,
            options=options,
            environment=environment,
            **limit,
        ) as address:
            answer = httpx2.post(
                f"{address}/predict",
                files={"file": stripes.picture("ab")},
                headers={"X-API-Key": "a"},
            )
            assert answer.json()["text"] == "ab"
            assert "captcha_ocr_requests_total" in httpx2.get(f"{address}/metrics").text
    assert list(other.iterdir()) == []


@pytest.mark.parametrize(("closed", "workers"), [((2,), 1), ((1,), 1), ((0, 1, 2), 2)])
def test_standard_streams_may_be_closed(
    closed: tuple[int, ...], workers: int, stripe_model: Path
) -> None:
    """The service starts and answers without them, and no connection gets their descriptors."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def close() -> None:
        for descriptor in closed:
            os.close(descriptor)

    process = start(
        model_path=stripe_model, port=port, workers=workers, options={"preexec_fn": close}
    )
    try:
        address = f"http://127.0.0.1:{port}"
        wait(address)
        answer = httpx2.post(f"{address}/predict", files={"file": stripes.picture("ab")})
        assert answer.json()["text"] == "ab"
        for descriptor in closed:
            assert Path(f"/proc/{process.pid}/fd/{descriptor}").readlink() == Path(os.devnull)
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_log_that_nobody_reads_blocks_nothing(stripe_model: Path) -> None:
    """Requests are answered, and the service ends."""
    process = start(port=0, model_path=stripe_model, access_log=True)
    try:
        address = address_of(process)
        with httpx2.Client(base_url=address) as client:
            for _ in range(600):
                assert client.get("/health/live").status_code == 200
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()

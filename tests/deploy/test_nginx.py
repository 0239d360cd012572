"""nginx, with the configuration of `deploy/` in front of a real service."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests import stripes
from tests.deploy.proxy import FOLDER, change, free_port, running
from tests.server.process import address_of, start, until

NGINX = (FOLDER / "nginx.conf").read_text(encoding="utf-8")

needs_nginx = pytest.mark.skipif(
    not (shutil.which("nginx") and shutil.which("openssl")),
    reason="nginx or openssl is missing; apt-get install nginx-light openssl",
)


@needs_nginx
def test_nginx_forwards_requests_to_the_service(stripe_model: Path, tmp_path: Path) -> None:
    """Checks TLS, the prefix, large bodies, the client's address, and paths that are not public."""
    certificate, key = tmp_path / "ocr.crt", tmp_path / "ocr.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    port = free_port()
    settings: dict[str, Any] = {
        "trusted_proxies": "127.0.0.1",
        "access_log": True,
        "log_format": "text",
    }
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
            assert client.get("/openapi.json").json()["servers"] == [{"url": "/ocr"}]
            forwarded = {"X-Forwarded-For": "203.0.113.7"}
            assert client.get("/model", headers=forwarded).status_code == 200
            assert [client.get(path).status_code for path in ("/metrics", "/info")] == [404, 404]
        process.terminate()
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    (line,) = [line for line in output.splitlines() if "GET /model" in line]
    assert " 203.0.113.7 " in line

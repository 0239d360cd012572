import os
import re
from unittest.mock import Mock

import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.settings import Settings
from tests import stripes

DIRECTIVES = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}


def files_of_page(client: TestClient) -> list[str]:
    """The paths of all files that the page names."""
    named = re.findall(r'(?:src|href)="(page/[^"]+)"', client.get("/").text)
    return sorted({f"/{name}" for name in named})


def test_every_file_of_the_page_is_served(client: TestClient) -> None:
    """Each has its media type. The page names every module that another module imports."""
    types = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    assert len(files_of_page(client)) >= 7
    for path in files_of_page(client):
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(types[path.rpartition(".")[2]])
        for module in re.findall(r'from "\./([^"]+)"', answer.text):
            assert f"/page/{module}" in files_of_page(client)


def test_the_page_trusts_only_the_service(client: TestClient) -> None:
    """Page, files and examples have a strict content security policy, and name no other host."""
    for path in ["/", *files_of_page(client), "/examples/0"]:
        headers = client.get(path).headers
        directives = dict(d.split(" ", 1) for d in headers["content-security-policy"].split("; "))
        assert directives | DIRECTIVES == directives
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    for path in ["/", *files_of_page(client)]:
        named = re.findall(r"https?://[^\s\"'<]+", client.get(path).text)
        assert set(named) <= {"http://localhost:8000/", "http://www.w3.org/2000/svg"}


def test_the_api_document_is_shown_without_internet(client: TestClient) -> None:
    """The service itself serves every file of the page, which contains no inline script."""
    answer = client.get("/docs")
    policy = answer.headers["content-security-policy"]
    assert policy == client.get("/").headers["content-security-policy"]
    assert "unsafe" not in policy
    named = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    assert {"swagger-ui/swagger-ui-bundle.js", "swagger-ui/swagger-ui.css"} <= set(named)
    for path in named:
        assert client.get(f"/{path}").status_code == 200


def test_unchanged_files_are_not_sent_again(client: TestClient) -> None:
    """The browser sends the entity tag, which a proxy may have weakened."""
    for path in ["/", *files_of_page(client)]:
        first = client.get(path)
        assert first.headers["cache-control"] == "no-cache"
        tag = first.headers["etag"]
        for known in (tag, f'"other", W/{tag}'):
            again = client.get(path, headers={"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == tag
        assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_the_examples_come_from_the_served_model(client: TestClient) -> None:
    """The examples are the pictures in the model's file, so they fit every model."""
    (address,) = client.get("/examples").json()
    example = client.get(f"/{address}")
    assert example.headers["content-type"] == "image/png"
    assert example.content == stripes.metadata().golden[0].data


def test_range_requests_get_the_whole_file(client: TestClient) -> None:
    """A server may ignore ranges (RFC 9110, 14.2). Each range would be read on its own."""
    for path in ["/", "/docs", *files_of_page(client)]:
        whole = client.get(path)
        assert whole.headers["accept-ranges"] == "none"
        for asked in ("bytes=0-1", "bytes=0-1,3-4", "bytes=9999999-", "bytes=a"):
            answer = client.get(path, headers={"Range": asked})
            assert (answer.status_code, answer.content) == (200, whole.content)


def test_a_deep_path_is_refused_without_asking_for_each_folder(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operating system is not asked about each of the 1,000 folders."""
    lstat = Mock(side_effect=os.lstat)
    monkeypatch.setattr(os, "lstat", lstat)
    assert client.get(f"/page/{'a/' * 1000}").status_code == 404
    assert lstat.call_count < 100


@pytest.mark.parametrize("path", ["/page/routes.py", "/page/..%2froutes.py", "/examples/1"])
def test_other_files_do_not_exist(client: TestClient, path: str) -> None:
    """Any other name gets a problem."""
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_no_examples_before_the_model_is_ready(settings: Settings) -> None:
    """The page itself is served at once."""
    client = TestClient(create_app(settings))
    assert client.get("/").status_code == 200
    assert client.get("/examples").status_code == 503

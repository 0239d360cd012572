from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from service.settings import Settings
from tests import stripes


def post(client: TestClient, data: bytes, **options: Any) -> httpx2.Response:
    return client.post("/predict", files={"file": ("name.png", data)}, **options)


def assert_problem(response: httpx2.Response, status: int, name: str, detail: str) -> None:
    """Checks for a complete problem (RFC 9457) whose detail contains `detail`."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert set(problem) == {"type", "title", "status", "detail"}
    assert problem["type"] == f"/problems/{name}"
    assert problem["status"] == status
    assert detail in problem["detail"]
    assert ("retry-after" in response.headers) == (status in (429, 503))


def test_a_picture_gets_its_text_and_confidences(client: TestClient) -> None:
    """The answer also has the spans of the characters, and the model that read the picture."""
    answer = post(client, stripes.picture("dcba")).json()
    assert answer["text"] == "dcba"
    assert [c["character"] for c in answer["characters"]] == list("dcba")
    assert answer["confidence"] > 0.99
    assert all(c["confidence"] > 0.99 for c in answer["characters"])
    centres = [sum(c["span"]) / 2 for c in answer["characters"]]
    assert centres == pytest.approx([2, 6, 10, 14], abs=0.2)
    assert (answer["accepted"], answer["alternatives"], answer["reason"]) == (True, [], None)
    assert answer["model"] == {"name": "stripes", "version": "1"}


def test_the_matrix_is_returned_only_on_request(client: TestClient) -> None:
    """It has the probabilities that the text was read from."""
    assert "matrix" not in post(client, stripes.picture("dcba")).json()
    matrix = post(client, stripes.picture("dcba"), params={"matrix": "true"}).json()["matrix"]
    assert matrix["symbols"] == ["a", "b", "c", "d", ""]
    assert matrix["blank_index"] == 4
    best = [max(range(5), key=row.__getitem__) for row in matrix["probabilities"]]
    assert best == [3, 2, 1, 0, 4, 4, 4, 4, 4, 4]
    assert all(sum(row) == pytest.approx(1, abs=1e-3) for row in matrix["probabilities"])


def test_a_blank_picture_has_an_empty_text(client: TestClient) -> None:
    """No text is an answer, not an error."""
    response = post(client, stripes.picture(""))
    assert response.status_code == 200
    assert response.json()["text"] == ""
    assert response.json()["characters"] == []


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_every_format_is_read(format: str, client: TestClient) -> None:
    """The name of the file does not matter."""
    options = {"quality": 100} if format == "JPEG" else {"lossless": True}
    data = stripes.encode(stripes.draw("abcd").convert("RGB"), format, **options)
    assert post(client, data).json()["text"] == "abcd"


def test_a_file_in_another_field_is_refused(client: TestClient) -> None:
    """The problem names the right field and those that were sent."""
    response = client.post("/predict", files={"picture": stripes.picture("a")})
    assert_problem(response, 422, "invalid-upload", "the file 'picture'; send the picture")


def test_a_text_field_instead_of_a_file_is_refused(client: TestClient) -> None:
    """curl sends one if the `@` before the name of the file is missing."""
    body = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc\r\n--x--\r\n'
    response = client.post(
        "/predict", content=body, headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert_problem(response, 422, "invalid-upload", "the text field 'file'; send")


def test_a_parameter_in_the_form_is_refused(client: TestClient) -> None:
    """The problem says where parameters belong."""
    response = client.post("/predict", files={"file": stripes.picture("a")}, data={"length": "5"})
    assert_problem(response, 422, "invalid-upload", "Parameters belong in the address")


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=x"])
def test_malformed_multipart_bodies_are_refused(content_type: str, client: TestClient) -> None:
    """The error is the client's, not the server's."""
    response = client.post("/predict", content=b"abc", headers={"content-type": content_type})
    assert_problem(response, 422, "invalid-upload", "'file'")


def test_two_files_are_refused(client: TestClient) -> None:
    """A request has one picture."""
    files = [("file", stripes.picture("a")), ("file", stripes.picture("b"))]
    assert_problem(client.post("/predict", files=files), 422, "invalid-upload", "nothing else")


def test_a_request_without_a_body_is_refused(client: TestClient) -> None:
    """The problem says what to send."""
    assert_problem(client.post("/predict"), 415, "unsupported-media-type", "not given")


def test_another_content_type_is_refused(client: TestClient) -> None:
    """The problem says what to send."""
    response = client.post("/predict", content="a", headers={"content-type": "text/plain"})
    assert_problem(response, 415, "unsupported-media-type", "text/plain; send the picture itself")


def test_a_file_of_another_format_is_refused(client: TestClient) -> None:
    """The problem lists the formats that are read."""
    assert_problem(post(client, b"%PDF-1.7"), 415, "unsupported-format", "PNG, JPEG, WEBP")


def test_a_broken_picture_is_refused(client: TestClient) -> None:
    """The problem names its format."""
    broken = stripes.picture("abc")[:60]
    assert_problem(post(client, broken), 422, "undecodable-picture", "PNG")


def test_an_empty_file_is_refused(client: TestClient) -> None:
    """The problem says that the file is empty."""
    assert_problem(post(client, b""), 422, "undecodable-picture", "empty")


def test_a_picture_of_too_many_pixels_is_refused(client: TestClient) -> None:
    """A picture of over 4 megapixels is refused by its header."""
    large = stripes.encode(Image.new("1", (2001, 2000)))
    assert_problem(post(client, large), 413, "picture-too-large", "2001×2000")


def test_a_file_of_exactly_the_largest_size_is_read(client: TestClient, settings: Settings) -> None:
    """One byte more is refused."""
    padded = stripes.picture("ab").ljust(settings.max_upload_bytes, b"\0")
    assert post(client, padded).json()["text"] == "ab"
    refused = post(client, padded + b"\0")
    assert_problem(refused, 413, "upload-too-large", "1048576 bytes are read. Shrink")


def test_a_too_large_declared_length_is_refused_at_once(client: TestClient) -> None:
    """The answer does not wait for the body, and closes the connection."""
    headers = {"content-type": "multipart/form-data; boundary=x", "content-length": "99999999"}
    response = client.post("/predict", content=b"", headers=headers)
    assert_problem(response, 413, "upload-too-large", "1048576 bytes")
    assert response.headers["connection"] == "close"


def test_a_chunked_body_that_is_too_large_is_refused(client: TestClient) -> None:
    """The answer closes the connection."""

    def chunks() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(64):
            yield bytes(1 << 16)

    headers = {"content-type": "multipart/form-data; boundary=x"}
    response = client.post("/predict", content=chunks(), headers=headers)
    assert_problem(response, 413, "upload-too-large", "1048576 bytes")
    assert response.headers["connection"] == "close"


@pytest.mark.parametrize("length", ["-5", "abc", "1e9", "²"])
def test_an_invalid_content_length_is_no_internal_error(length: str, client: TestClient) -> None:
    headers: dict[str, Any] = {
        "content-type": "multipart/form-data; boundary=x",
        "content-length": length.encode("latin-1"),
    }
    assert client.post("/predict", content=b"abc", headers=headers).status_code == 422


@pytest.mark.parametrize(("zeros", "status"), [("0" * 5000 + "3", 415), ("9" * 5000, 413)])
def test_a_content_length_may_have_thousands_of_digits(
    zeros: str, status: int, client: TestClient
) -> None:
    """RFC 9110, 8.6, does not limit the digits. Python limits them to 4300."""
    headers = {"content-type": "image/png", "content-length": zeros}
    assert client.post("/predict", content=b"abc", headers=headers).status_code == status


@pytest.mark.parametrize("charset", ["undefined", "punycode", "utf-16", "nonsense"])
def test_the_charset_of_a_form_is_ignored(charset: str, client: TestClient) -> None:
    """The client may name any encoding of field names; nothing is decoded by it."""
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    body = head + stripes.picture("ab") + b"\r\n--x--\r\n"
    content_type = f"multipart/form-data; boundary=x; charset={charset}"
    response = client.post("/predict", content=body, headers={"content-type": content_type})
    assert response.json()["text"] == "ab"


@pytest.mark.parametrize("semicolons", [9, 3000])
@pytest.mark.parametrize("where", ["content type", "parameter", "filename", "other"])
def test_headers_with_many_semicolons_are_refused(
    where: str, semicolons: int, client: TestClient
) -> None:
    """The time to parse them rises with the square of their number."""
    long = {where: ";" * semicolons}
    name = f'name="file"; filename="a{long.get("filename", "")}"; x="{long.get("parameter", "")}"'
    head = f"--x\r\nContent-Disposition: form-data; {name}\r\nA: {long.get('other', '')}\r\n\r\n"
    headers = {
        "content-type": f'multipart/form-data; a="{long.get("content type", "")}"; boundary=x'
    }
    body = head.encode() + stripes.picture("ab") + b"\r\n--x--\r\n"
    answer = client.post("/predict", content=body, headers=headers)
    assert answer.status_code == (200 if semicolons < 10 else 422)
    if semicolons > 10:
        assert "over 16 semicolons" in answer.json()["detail"]


@pytest.mark.parametrize("blanks", [b" " * 16, b" " * 17, b" " * 4000])
@pytest.mark.parametrize("where", ["boundary", "header"])
def test_long_runs_of_blanks_in_a_form_are_refused(
    where: str, blanks: bytes, client: TestClient
) -> None:
    """Blanks may follow a boundary and a colon, but the parser goes through them byte by byte."""
    disposition = b'form-data; name="files"; filename="a"'
    part = b"\r\n--x%b\r\nContent-Disposition: " + disposition + b"\r\nA:%b1\r\n\r\n"
    first = part % (b"", blanks if where == "header" else b" ")
    second = part % (blanks if where == "boundary" else b"", b"")
    picture = stripes.picture("ab")
    body = (first + picture + second + picture + b"\r\n--x--\r\n").lstrip()
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = client.post("/predict/batch", content=body, headers=headers)
    if len(blanks) > 16:
        assert_problem(answer, 422, "invalid-upload", "over 16 blanks")
    else:
        assert len(answer.json()["answers"]) == 2


@pytest.mark.parametrize("boundary", ['"a b"', r'"a\"b\\c"', '"a;b"', "a'()+_,-./:=?"])
def test_a_boundary_may_have_any_valid_characters(boundary: str, client: TestClient) -> None:
    """It may be quoted or not."""
    given = (
        boundary[1:-1].replace("\\\\", "\\").replace(r"\"", '"') if boundary[0] == '"' else boundary
    )
    part = 'Content-Disposition: form-data; name="file"; filename="a"'
    head, end = f"--{given}\r\n{part}\r\n\r\n", f"\r\n--{given}--\r\n"
    body = head.encode() + stripes.picture("ab") + end.encode()
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    assert client.post("/predict", content=body, headers=headers).json()["text"] == "ab"

"""`captcha-ocr label` without a browser; `tests/browser/test_label.py` has one."""

import csv
import errno
import json
import os
import re
import signal
import subprocess
from pathlib import Path
from unittest.mock import Mock

import httpx2
import pytest
from starlette.testclient import TestClient

from service.cli.label_app import LabelFile, LabelFileError, Picture, create_app
from tests import stripes
from tests.cli.command import COMMAND, environment, run


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, one of them in a subfolder."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    (folder / "a.png").write_bytes(stripes.picture("ab"))
    (folder / "below" / "b.png").write_bytes(stripes.picture("cd"))
    return folder


@pytest.fixture
def client(folder: Path) -> TestClient:
    """A client on this machine."""
    pictures = [Picture("below/b.png", "cd", 0.4), Picture("a.png", "ab", 0.9)]
    app = create_app(folder, pictures, LabelFile(folder / "labels.csv"))
    return TestClient(app, base_url="http://127.0.0.1:8765")


def test_labels_are_appended_and_read_again(tmp_path: Path) -> None:
    """Each is in the file as soon as it is set, whatever characters it has."""
    path = tmp_path / "labels.csv"
    given = {"a.png": "ab", "b, c.png": 'x"y', "d.png": "é٣"}
    labels = LabelFile(path)
    for number, (name, label) in enumerate(given.items(), 1):
        labels.set(name, label)
        assert len(rows(path)) == number
    assert {row["path"]: row["label"] for row in rows(path)} == given
    assert LabelFile(path).labels == given


def test_a_changed_label_replaces_its_row(tmp_path: Path) -> None:
    """A picture has one row. The order of the rows stays."""
    path = tmp_path / "labels.csv"
    labels = LabelFile(path)
    labels.set("a.png", "ab")
    labels.set("b.png", "cd")
    for _ in range(2):
        labels.set("a.png", "ba", shown="ab")
    assert rows(path) == [{"path": "a.png", "label": "ba"}, {"path": "b.png", "label": "cd"}]
    assert [file.name for file in tmp_path.iterdir()] == ["labels.csv"]


def test_a_full_disk_leaves_no_half_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a row would be a wrong label. When there is room again, the label is stored."""
    path = tmp_path / "labels.csv"
    labels = LabelFile(path)
    labels.set("a.png", "ab")
    before = path.read_bytes()
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", Mock(side_effect=OSError(errno.ENOSPC, "no space")))
        with pytest.raises(OSError, match="no space"):
            labels.set("b.png", "correct")
    assert path.read_bytes() == before
    labels.set("b.png", "correct")
    assert rows(path)[1:] == [{"path": "b.png", "label": "correct"}]


def test_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    """A stranger's folder may have a link where the new file is written."""
    other = tmp_path / "other"
    other.write_text("untouched")
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / ".labels.csv.new").symlink_to(other)
    LabelFile(folder / "labels.csv").set("a.png", "ab")
    assert other.read_text() == "untouched"
    assert rows(folder / "labels.csv") == [{"path": "a.png", "label": "ab"}]


def test_the_other_columns_of_a_label_file_are_kept(tmp_path: Path) -> None:
    """The last line may lack its line break."""
    path = tmp_path / "labels.csv"
    path.write_text("label,source,path\nab,camera,a.png")
    labels = LabelFile(path)
    labels.set("b.png", "cd")
    assert rows(path) == [
        {"label": "ab", "source": "camera", "path": "a.png"},
        {"label": "cd", "source": "", "path": "b.png"},
    ]
    labels.set("a.png", "ba", shown="ab")
    assert rows(path)[0] == {"label": "ba", "source": "camera", "path": "a.png"}


def test_an_empty_label_file_gets_a_header(tmp_path: Path) -> None:
    """Without a header, nobody could read the first label again."""
    path = tmp_path / "labels.csv"
    path.touch()
    LabelFile(path).set("a.png", "ab")
    assert LabelFile(path).labels == {"a.png": "ab"}


def test_labels_that_other_programs_write_are_kept(tmp_path: Path) -> None:
    """A second `captcha-ocr label` and an editor write between two labels, and before a change."""
    path = tmp_path / "labels.csv"
    first, second = LabelFile(path), LabelFile(path)
    first.set("a.png", "ab")
    second.set("b.png", "cd")
    first.set("c.png", "ef")
    with path.open("a") as file:
        file.write("d.png,gh")
    second.set("b.png", "dc", shown="cd")
    first.set("a.png", "ba", shown="ab")
    expected = {"a.png": "ba", "b.png": "dc", "c.png": "ef", "d.png": "gh"}
    assert {row["path"]: row["label"] for row in rows(path)} == expected
    assert first.labels == expected
    path.unlink()
    first.set("a.png", "ab", shown="ba")
    assert LabelFile(path).labels == {**expected, "a.png": "ab"}


def test_a_label_that_was_not_shown_is_not_overwritten(client: TestClient, folder: Path) -> None:
    """Another browser, a second command or an editor may have stored it."""

    def store(label: str, shown: str | None) -> tuple[int, object]:
        answer = client.post("/labels", json={"path": "a.png", "label": label, "shown": shown})
        return answer.status_code, answer.json()["label"]

    assert store("ab", None) == (200, "ab")
    assert store("ba", None) == (409, "ab")
    assert store("ab", None) == (200, "ab")  # sent again because the first answer was lost
    assert store("e\u0301 ", "ab") == (200, "\u00e9")  # as stored, for the page to show from now on
    (folder / "labels.csv").write_text("path,label\na.png,editor\n")
    assert store("ba", "\u00e9") == (409, "editor")
    assert rows(folder / "labels.csv") == [{"path": "a.png", "label": "editor"}]
    (folder / "labels.csv").write_text("path,label\na.png,\n")
    assert store("ba", "editor") == (200, "ba")  # nothing is lost


def test_an_empty_label_counts_as_no_label(tmp_path: Path) -> None:
    """A table of pictures that are to be labelled has empty labels."""
    path = tmp_path / "labels.csv"
    path.write_text("path,label\na.png,\nb.png\n")
    labels = LabelFile(path)
    assert labels.labels == {}
    labels.set("b.png", "cd")
    assert rows(path) == [{"path": "a.png", "label": ""}, {"path": "b.png", "label": "cd"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path,label\na.png,1,5\n", r"line 2: there are more fields than columns"),
        (b"path,label\na.png,\xe9\n", r"labels\.csv is not in UTF-8"),
        (b"path,label\na.png," + bytes(200_000), r"labels\.csv is not understood"),
        (b"path;label\na.png;ab\n", r"labels\.csv has no columns path and label"),
    ],
)
def test_a_damaged_label_file_is_not_changed(
    content: bytes, message: str, client: TestClient, folder: Path
) -> None:
    """Another program may damage it before the start or later. The page says what is wrong."""
    client.post("/labels", json={"path": "a.png", "label": "ab"})
    (folder / "labels.csv").write_bytes(content)
    with pytest.raises(LabelFileError, match=message):
        LabelFile(folder / "labels.csv")
    answer = client.post("/labels", json={"path": "a.png", "label": "cd"})
    assert answer.status_code == 503
    assert re.search(message, answer.text)
    assert (folder / "labels.csv").read_bytes() == content


@pytest.mark.parametrize("name", ["a\nb.png", "\udce9.png"])
def test_file_names_that_a_table_cannot_contain_are_refused(
    name: str, folder: Path, stripe_model: Path
) -> None:
    """They are refused before labelling, because `make data` would not find the pictures."""
    try:
        (folder / name).write_bytes(stripes.picture("ab"))
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    done = run("label", folder, "--model", stripe_model)
    assert done.returncode == 2
    assert b"rename it" in b" ".join(done.stderr.split())


def test_pictures_come_in_the_given_order(client: TestClient, folder: Path) -> None:
    """They have proposals, and the labels that exist."""
    assert client.post("/labels", json={"path": "a.png", "label": " ba "}).json() == {"label": "ba"}
    listed = client.get("/pictures").json()["pictures"]
    assert [(picture["path"], picture["proposal"], picture["label"]) for picture in listed] == [
        ("below/b.png", "cd", None),
        ("a.png", "ab", "ba"),
    ]
    shown = client.get("/picture", params={"path": "below/b.png"})
    assert shown.content == (folder / "below" / "b.png").read_bytes()
    assert shown.headers["content-type"] == "image/png"


def test_labels_are_stored_in_nfc(client: TestClient, folder: Path) -> None:
    """The characters of a keyboard may be decomposed."""
    client.post("/labels", json={"path": "a.png", "label": "e\u0301"})
    assert rows(folder / "labels.csv") == [{"path": "a.png", "label": "\u00e9"}]


@pytest.mark.parametrize("host", ["evil.example", "192.168.0.7:8765", "127.0.0.1.evil.example"])
@pytest.mark.parametrize("path", ["/", "/pictures", "/picture?path=a.png", "/page/label.js"])
def test_foreign_hosts_are_refused(host: str, path: str, client: TestClient) -> None:
    """The name of another site may resolve to this machine."""
    assert client.get(path).status_code == 200
    assert client.get(path, headers={"Host": host}).status_code == 400


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ({"path": "a.png", "label": "ab"}, "text/plain", 415),
        ({"path": "a.png", "label": "ab"}, "application/x-www-form-urlencoded", 415),
        ({"path": "a.png", "label": ""}, "application/json", 422),
        ({"path": "a.png", "label": " "}, "application/json", 422),
        ({"path": "a.png", "label": "a" * 201}, "application/json", 422),
        ({"path": "a.png", "label": 7}, "application/json", 422),
        ({"path": "a.png", "label": "ab", "shown": 7}, "application/json", 422),
        ({"path": "a.png", "label": "a\nb"}, "application/json", 422),
        ({"path": "a.png", "label": "\ud800"}, "application/json", 422),
        ({"path": "../a.png", "label": "ab"}, "application/json", 422),
        ({"path": "a.png"}, "application/json", 422),
        (["a.png", "ab"], "application/json", 422),
    ],
)
def test_invalid_labels_are_refused(
    body: object, kind: str, status: int, client: TestClient, folder: Path
) -> None:
    """Forms of other sites, empty labels, and pictures outside the folder are refused, too."""
    answer = client.post("/labels", content=json.dumps(body), headers={"Content-Type": kind})
    assert answer.status_code == status
    assert not (folder / "labels.csv").exists()


@pytest.mark.parametrize("path", ["", "../secret.png", "/etc/hostname", "labels.csv"])
def test_only_pictures_of_the_folder_are_served(
    path: str, client: TestClient, folder: Path
) -> None:
    """No path leads to another file."""
    (folder.parent / "secret.png").write_bytes(stripes.picture("ab"))
    assert client.get("/picture", params={"path": path}).status_code == 404


def test_a_picture_that_cannot_be_read_gets_404(client: TestClient, folder: Path) -> None:
    """A file of gigabytes is not read into memory. A file may be gone since the start."""
    name = client.get("/pictures").json()["pictures"][0]["path"]
    with (folder / name).open("ab") as file:
        file.truncate(65 << 20)
    answer = client.get("/picture", params={"path": name})
    assert (answer.status_code, answer.text) == (404, "The picture cannot be read: File too large.")
    (folder / name).unlink()
    assert client.get("/picture", params={"path": name}).status_code == 404


def test_a_wrong_folder_is_explained(tmp_path: Path, stripe_model: Path) -> None:
    """The folder is missing, is a file, or has no pictures."""
    (tmp_path / "empty").mkdir()
    for name in ("missing", "stripes.onnx", "empty"):
        done = run("label", tmp_path / name, "--model", stripe_model)
        assert done.returncode == 2
        assert name.encode() in b" ".join(done.stderr.split())
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("labels", "option"),
    [
        (["a.png,ab"], " ARGS=--accept\n--accept leaves out 1 without a label"),
        (["a.png,ab", "below/b.png,cd"], ""),
    ],
)
def test_ctrl_c_prints_the_next_command(
    labels: list[str], option: str, folder: Path, stripe_model: Path
) -> None:
    """Labelling ends with Ctrl-C. The next command is the one that takes the labels.

    At the start, files that have the name of a picture but are left out are listed.
    """
    os.mkfifo(folder / "pipe.png")
    (folder / "labels.csv").write_text("\n".join(["path,label", *labels, ""]))
    command = [*COMMAND, "label", str(folder), "--model", str(stripe_model), "--port", "0"]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().partition(" at ")[2].split()[0]
            httpx2.get(f"{address}/pictures")  # the server runs, and handles the signal
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    skipped = f"skipped: {folder}/pipe.png: not a regular file\n"
    assert (process.returncode, errors) == (0, f"{skipped}Reading 2 pictures …\n")
    where = f"{len(labels)} labels in {folder}/labels.csv"
    assert output == f"{where}; next:\nmake data DATA={folder}{option}\n"

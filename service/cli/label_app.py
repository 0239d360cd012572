"""The application behind `captcha-ocr label`: pictures, proposals, and a file of labels."""

import csv
import fcntl
import io
import json
import os
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from service.cli.pictures import read_bytes
from service.ocr.formats import sniff

_PAGE = Path(__file__).parent / "label_page"
_COLUMNS = ("path", "label")
_MAX_CHARACTERS = 200
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)


class LabelFileError(Exception):
    """The file exists, but is not a table of labels."""


class LabelChangedError(Exception):
    """The picture has a label that was not shown to the user who gave a new label."""

    def __init__(self, stored: str) -> None:
        super().__init__(f"The picture has been labelled {stored} meanwhile.")
        self.stored = stored


_State = tuple[int, int, int]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Locks the folder against processes that do the same, such as a second `captcha-ocr label`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to label, by its path below the folder, and what a model reads in it."""

    path: str
    proposal: str
    confidence: float


class LabelFile:
    """Labels in a CSV file with the columns path and label, one row a picture.

    A new label is appended, and is on the disk when `set` returns. A changed label replaces its
    row: a new file is written and replaces the old file. Other columns are kept, and so are changes
    that other programs have made meanwhile.

    Raises:
        LabelFileError: the file has no columns path and label, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._columns: list[str] = list(_COLUMNS)
        self._rows: dict[str, dict[str, str]] = {}
        self._seen: _State | None = None
        self._refresh()

    @property
    def labels(self) -> dict[str, str]:
        """The label of every labelled path."""
        return {path: row["label"] for path, row in self._rows.items() if row["label"]}

    def set(self, path: str, label: str, shown: str | None = None) -> None:
        """Stores the label of a picture.

        Args:
            shown: the earlier label that the user saw, which may be overwritten; None: no label.

        Raises:
            LabelChangedError: another label than `label` and `shown` is stored.
            OSError: the file cannot be written.
            LabelFileError: the file is no longer a table of labels, due to another program.
        """
        with self._lock, _locked(self.path.parent):
            self._refresh()
            before = self._rows.get(path)
            if before is not None and before["label"] == label:
                return
            if before is not None and before["label"] not in ("", shown):
                raise LabelChangedError(before["label"])
            row = {**(before or dict.fromkeys(self._columns, "")), "path": path, "label": label}
            if before is None and self._state() is not None:
                self._append(row)
                self._rows[path] = row
            else:
                rows = {**self._rows, path: row}
                self._replace(rows)
                self._rows = rows
            self._seen = self._state()

    def _state(self) -> "_State | None":
        """Values that change when the file is written; None if it is missing or empty."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return (found.st_ino, found.st_mtime_ns, found.st_size) if found.st_size else None

    def _refresh(self) -> None:
        """Reads the file, if it has changed. If it is gone, its labels are kept."""
        state = self._state()
        if state not in (None, self._seen):
            self._load()
            self._seen = state

    def _load(self) -> None:
        found: dict[str, dict[str, str]] = {}
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                rows = csv.DictReader(file)
                columns = list(rows.fieldnames or ())
                if not set(_COLUMNS) <= set(columns):
                    raise LabelFileError(
                        f"{self.path} has no columns path and label; rename it, and start again."
                    )
                for row in rows:
                    if None in row:
                        raise LabelFileError(
                            f"{self.path}, line {rows.line_num}: there are more fields than "
                            "columns; put a label with a comma between quotation marks."
                        )
                    if row["path"]:
                        found[row["path"]] = {key: value or "" for key, value in row.items()}
        except UnicodeDecodeError as error:
            raise LabelFileError(f"{self.path} is not in UTF-8; save it as UTF-8.") from error
        except csv.Error as error:
            raise LabelFileError(f"{self.path} is not understood: {error}.") from error
        self._columns, self._rows = columns, found

    def _append(self, row: dict[str, str]) -> None:
        size = self.path.stat().st_size
        try:
            with self.path.open("rb+") as file:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    file.write(b"\n")  # some editors and power failures leave it out
                file.write(self._encoded([row], header=False))
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            os.truncate(self.path, size)  # half a row would be a wrong label
            raise

    def _replace(self, rows: dict[str, dict[str, str]]) -> None:
        new = self.path.with_name(f".{self.path.name}.new")
        new.unlink(missing_ok=True)  # in an untrusted folder, it may be a link to any file
        with new.open("xb") as file:
            file.write(self._encoded(list(rows.values()), header=True))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)

    def _encoded(self, rows: Sequence[dict[str, str]], header: bool) -> bytes:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()


def create_app(folder: Path, pictures: Sequence[Picture], labels: LabelFile) -> Starlette:
    """The page, its pictures and the labels, for browsers on this machine.

    Requests with another Host than 127.0.0.1 or localhost are refused, so that no page of another
    site can reach the labels through a host name that resolves to this machine.

    Args:
        folder: holds the pictures.
        pictures: in the order in which they are to be labelled.
    """
    known = {picture.path for picture in pictures}

    def page(request: Request) -> Response:
        return FileResponse(_PAGE / "index.html", headers={"Content-Security-Policy": _POLICY})

    def picture_list(request: Request) -> Response:
        given = labels.labels
        return JSONResponse(
            {
                "folder": str(folder),
                "pictures": [{**asdict(p), "label": given.get(p.path)} for p in pictures],
            }
        )

    def picture_file(request: Request) -> Response:
        path = request.query_params.get("path", "")
        if path not in known:
            return PlainTextResponse("There is no such picture.", 404)
        try:
            data = read_bytes(str(folder / path))
        except OSError as error:
            return PlainTextResponse(f"The picture cannot be read: {error.strerror}.", 404)
        found = sniff(data)
        media_type = found.media_types[0] if found else "application/octet-stream"
        return Response(data, media_type=media_type, headers={"X-Content-Type-Options": "nosniff"})

    async def store(request: Request) -> Response:
        # Browsers let a page of another site send this type only after a CORS preflight.
        if request.headers.get("content-type") != "application/json":
            return PlainTextResponse("Send application/json.", 415)
        path, label, shown = _answer(await request.body())
        if path not in known or not 1 <= len(label) <= _MAX_CHARACTERS:
            return PlainTextResponse(
                f"Send the path of a picture and a label of 1 to {_MAX_CHARACTERS} characters.",
                422,
            )
        try:
            labels.set(path, label, shown)  # blocks for a few milliseconds, for one user or two
        except LabelChangedError as error:
            return JSONResponse({"label": error.stored}, 409)
        except (OSError, LabelFileError) as error:
            return PlainTextResponse(str(error), 503)
        return JSONResponse({"label": label})

    return Starlette(
        routes=[
            Route("/", page),
            Route("/pictures", picture_list),
            Route("/picture", picture_file),
            Route("/labels", store, methods=["POST"]),
            Mount("/page", StaticFiles(directory=_PAGE)),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
    )


def _answer(body: bytes) -> tuple[str, str, str | None]:
    """The path, the label and the earlier label that the page showed, if any, in a request.

    The label is in NFC and has no spaces around it. It is empty if the file cannot hold the label,
    because that has several lines or a lone surrogate.
    """
    try:
        members: Any = json.loads(body)
        path, label, shown = members["path"], members["label"], members.get("shown")
    except (ValueError, TypeError, KeyError, RecursionError):
        return "", "", None
    if not (isinstance(path, str) and isinstance(label, str) and isinstance(shown, str | None)):
        return "", "", None
    label = unicodedata.normalize("NFC", label).strip()
    whole = label.encode(errors="ignore").decode() == label
    return path, label if whole and label.splitlines() == [label] else "", shown

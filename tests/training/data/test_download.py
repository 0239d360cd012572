import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.training.data.test_sources import zipped
from training.data import prepare as prepare_module
from training.data.dataset import Dataset, digest_of
from training.data.download import download
from training.data.prepare import prepare
from training.exceptions import DataError


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a web server that serves the folder `web`."""
    (tmp_path / "web").mkdir()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "web")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_public_set_is_downloaded_and_checked(
    web: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without DATA, the set is downloaded; an unexpected digest is an error."""
    zipped(folder).rename(tmp_path / "web" / "set.zip")
    monkeypatch.chdir(tmp_path)
    command = ["prepare", "--url", f"{web}/set.zip"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as ended:
        prepare_module.main()
    assert ended.value.code == 1
    assert not (tmp_path / "data").exists()
    expected = digest_of(prepare(folder, tmp_path / "other"))
    monkeypatch.setattr("training.data.download.DIGEST", expected)
    prepare_module.main()
    assert len(Dataset(tmp_path / "data").samples) == 3


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/set.zip", "nonsense"])
def test_an_unreachable_server_is_an_error_with_advice(address: str, tmp_path: Path) -> None:
    """Without a network, `make data` can read a local copy."""
    with pytest.raises(DataError, match=r"make data DATA="):
        download(address, tmp_path / "set.zip")


def test_a_missing_file_on_the_server_is_an_error(web: str, tmp_path: Path) -> None:
    """The error has the server's reason."""
    with pytest.raises(DataError, match="File not found"):
        download(f"{web}/none.zip", tmp_path / "set.zip")

"""The example page of docs/clients.md, served from another origin."""

import functools
import re
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from playwright.sync_api import BrowserContext

from tests.browser.actions import example, payload
from tests.browser.conftest import TIMEOUT_MS
from tests.server.process import ROOT, serving


def test_a_page_from_another_origin_reads_a_picture(
    context: BrowserContext, tmp_path: Path
) -> None:
    """The page shows the text that was read, or the problem."""
    document = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    (html,) = re.findall(r"^```html\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        Thread(target=site.serve_forever, daemon=True).start()
        origin = f"http://127.0.0.1:{site.server_port}"
        with serving(cors_origins=origin) as address:
            (tmp_path / "index.html").write_text(html.replace("http://127.0.0.1:8000", address))
            page = context.new_page()
            page.set_default_timeout(TIMEOUT_MS)
            page.goto(f"{origin}/")
            for picture, said in (
                (example("bndyp"), "bndyp 0.99"),
                (payload("none.png", b"none"), "Not a picture"),
            ):
                with page.expect_event("dialog") as dialog:
                    page.once("dialog", lambda shown: shown.dismiss())
                    page.locator("#picture").set_input_files([picture])
                assert dialog.value.message.startswith(said)
            page.close()
        site.shutdown()

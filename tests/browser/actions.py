"""Actions of a person on the page, and a check of its results."""

import base64
from pathlib import Path

from playwright.sync_api import FilePayload, Locator, Page, expect

EXAMPLES = Path(__file__).parents[2] / "examples"


def payload(name: str, data: bytes) -> FilePayload:
    """A file for the page."""
    return {"name": name, "mimeType": "image/png", "buffer": data}


def example(text: str) -> FilePayload:
    """The picture in `examples/` whose text is `text`."""
    return payload(f"{text}.png", (EXAMPLES / f"{text}.png").read_bytes())


def choose(page: Page, *files: FilePayload) -> None:
    page.get_by_label("Choose pictures").set_input_files(list(files))


def paste_or_drop(page: Page, event: str, *files: FilePayload) -> None:
    """Fires a `paste` or `drop` event that carries files."""
    carried = [(f["name"], base64.b64encode(f["buffer"]).decode()) for f in files]
    page.evaluate(
        """([event, files]) => {
            const carried = new DataTransfer();
            for (const [name, data] of files) {
                const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
                carried.items.add(new File([bytes], name, { type: "image/png" }));
            }
            const options = { bubbles: true, cancelable: true };
            document.body.dispatchEvent(event === "paste"
                ? new ClipboardEvent("paste", { ...options, clipboardData: carried })
                : new DragEvent("drop", { ...options, dataTransfer: carried }));
        }""",
        [event, carried],
    )


def texts(page: Page) -> Locator:
    """The headings of the results: texts or problems."""
    return page.locator("#results h3")


def expect_results(page: Page, *expected: str) -> None:
    """Waits until the results, from the top, have these headings."""
    expect(texts(page)).to_have_text(list(expected))

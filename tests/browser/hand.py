"""What a person does on the page, and what is then seen there."""

import base64
from pathlib import Path

from playwright.sync_api import FilePayload, Locator, Page, expect

EXAMPLES = Path(__file__).parents[2] / "examples"


def payload(name: str, data: bytes) -> FilePayload:
    """A file to choose."""
    return {"name": name, "mimeType": "image/png", "buffer": data}


def example(text: str) -> FilePayload:
    """The picture of `examples/` that says `text`."""
    return payload(f"{text}.png", (EXAMPLES / f"{text}.png").read_bytes())


def choose(page: Page, *files: FilePayload) -> None:
    page.get_by_label("Choose pictures").set_input_files(list(files))


def hand_over(page: Page, event: str, *files: FilePayload) -> None:
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
    """What the results say, or why they say nothing."""
    return page.locator("#results h3")


def sees(page: Page, *expected: str) -> None:
    """These are the results, from the top."""
    expect(texts(page)).to_have_text(list(expected))

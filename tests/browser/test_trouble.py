import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.actions import choose, example, expect_results, payload
from tests.browser.conftest import Log

PREDICT = "**/predict?*"


def problem(route: Route, status: int, detail: str, **headers: str) -> None:
    """Answers with a problem in place of the service."""
    body = {"type": "/problems/x", "title": "Trouble", "status": status, "detail": detail}
    route.fulfill(status=status, json=body, headers=headers)


def test_a_refused_picture_is_explained(page: Page) -> None:
    """The page shows the service's explanation, and the other pictures are read."""
    choose(page, example("bndyp"), payload("notes.txt", b"no picture"), example("fnex2"))
    expect_results(page, "bndyp", "Not a supported picture", "fnex2")
    refused = page.locator(".refused")
    expect(refused.locator(".file")).to_have_text("notes.txt")
    expect(refused.locator(".detail")).to_contain_text("send one of PNG, JPEG, WEBP, BMP, GIF")
    expect(page.locator("#progress")).to_have_text("3 pictures, 1 not read")


def test_a_picture_that_is_too_large_is_explained(page: Page) -> None:
    """The page explains the refusal, although the service closes the connection."""
    choose(page, payload("large.png", b"\x89PNG" * 500_000))
    expect(page.locator(".refused .detail")).to_contain_text("too large")


def test_the_page_waits_for_an_overloaded_service(page: Page) -> None:
    """The page says that the service is busy, and retries by itself after `Retry-After` seconds."""
    asked = []

    def once_busy(route: Route) -> None:
        asked.append(route.request)
        if len(asked) == 1:
            problem(route, 503, "All places are taken.", **{"Retry-After": "2"})
        else:
            route.continue_()

    page.route(PREDICT, once_busy)
    choose(page, example("bndyp"))
    alert = page.get_by_role("alert")
    expect(alert).to_have_text("The service is busy. All places are taken.")
    for seconds in (2, 1):
        expect(page.locator("#left")).to_have_text(f"Trying again in {seconds} s.")
    expect_results(page, "bndyp")
    expect(alert).to_be_hidden()
    assert len(asked) == 2


def test_pictures_wait_while_the_connection_is_lost(page: Page) -> None:
    """They are read when the service is back."""
    page.route("**/*", lambda route: route.abort("connectionrefused"))
    choose(page, example("bndyp"), example("fnex2"))
    expect(page.get_by_role("alert")).to_contain_text("The service cannot be reached")
    expect(page.locator("#progress")).to_have_text("0 of 2 pictures")
    page.unroute("**/*")
    page.get_by_role("button", name="Try now").click()
    expect_results(page, "bndyp", "fnex2")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_picture_that_breaks_the_connection_is_given_up(page: Page) -> None:
    """The page stops retrying that picture if the service is otherwise reachable."""
    page.route(PREDICT, lambda route: route.abort("connectionreset"))
    choose(page, example("bndyp"))
    expect_results(page, "Not sent")
    page.unroute(PREDICT)
    page.get_by_role("button", name="Try bndyp.png again").click()
    expect_results(page, "bndyp")
    expect(page.locator("#progress")).to_have_text("1 picture")


def test_a_picture_that_is_never_answered_is_given_up(page: Page) -> None:
    """The page gives it up after 30 seconds, and can send it again. The next picture is read."""
    page.clock.install()
    unanswered: list[Route] = []

    def hold(route: Route) -> None:
        unanswered.append(route) if not unanswered else route.continue_()

    page.route(PREDICT, hold)
    with page.expect_request(PREDICT):  # so that this picture is sent first
        choose(page, example("bndyp"))
    choose(page, example("fnex2"))
    expect(page.locator("#results h3")).to_have_text(["fnex2"])
    page.clock.fast_forward("00:31")
    expect_results(page, "No answer", "fnex2")
    expect(page.locator(".detail")).to_have_text("Nothing came from the service for 30 seconds.")
    page.get_by_role("button", name="Try bndyp.png again").click()
    expect_results(page, "bndyp", "fnex2")


def test_the_upload_progress_is_shown(page: Page) -> None:
    """A progress bar shows the share of the picture that has been sent over a slow link."""
    network = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 100_000}
    network.send("Network.enable")
    network.send("Network.emulateNetworkConditions", slow)
    choose(page, payload("large.png", b"\x89PNG" * 200_000))
    bar = page.get_by_role("progressbar", name="Sent of large.png")
    expect(bar).to_be_visible()
    assert 0 < float(bar.evaluate("(bar) => bar.value")) < 1
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".result")).to_have_count(0)


@pytest.mark.parametrize(
    ("status", "said"), [(502, "cannot reach it"), (503, "not available"), (504, "in time")]
)
def test_an_error_of_a_proxy_without_the_service_is_explained(
    page: Page, status: int, said: str
) -> None:
    """The page explains the error in plain words, and tries the picture again on request."""
    page.route(PREDICT, lambda route: route.fulfill(status=status, body="<h1>nginx</h1>"))
    page.route("**/health/live", lambda route: route.fulfill(status=status))
    choose(page, example("bndyp"))
    expect(page.get_by_role("alert")).to_contain_text(said)
    page.unroute(PREDICT)
    page.get_by_role("button", name="Try now").click()
    expect_results(page, "bndyp")


def test_a_size_limit_of_a_proxy_is_explained(page: Page) -> None:
    """The page sends a smaller drawing. If the proxy refuses that drawing too, the page says so."""
    asked: list[str] = []

    def limit(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=413, body="<h1>413 Request Entity Too Large</h1>")

    page.route(PREDICT, limit)
    choose(page, example("bndyp"))
    expect_results(page, "Not read")
    expect(page.locator(".detail")).to_contain_text("too large for a server in front")
    expect(page.get_by_role("button", name="Try bndyp.png again")).to_be_hidden()
    assert len(asked) == 2


def test_the_page_asks_for_an_api_key(page: Page) -> None:
    """The page sends the entered key with every picture, and asks again if the key is wrong."""

    def guarded(route: Route) -> None:
        if route.request.headers.get("x-api-key") == "secret":
            route.continue_()
        else:
            problem(route, 401, "No API key was sent.")

    page.route(PREDICT, guarded)
    choose(page, example("bndyp"), example("fnex2"))
    alert = page.get_by_role("alert")
    expect(alert).to_have_text("The service asks for an API key.")
    page.get_by_label("API key").fill("guess")
    page.keyboard.press("Enter")
    expect(alert).to_have_text("The service does not know this API key.")
    page.get_by_label("API key").fill("secret")
    page.keyboard.press("Enter")
    expect_results(page, "bndyp", "fnex2")


@pytest.mark.parametrize(
    ("status", "body"), [(500, "<h1>proxy</h1>"), (200, '{"text": "a", "characters": []}')]
)
def test_an_invalid_answer_is_shown_as_a_refusal(
    page: Page, log: Log, status: int, body: str
) -> None:
    """A server between page and service may send such an answer; the page shows a refusal."""
    page.route(PREDICT, lambda route: route.fulfill(status=status, body=body))
    choose(page, example("bndyp"))
    expect_results(page, "Not read")
    expect(page.locator(".detail")).to_have_text(f"The service answered with the status {status}.")

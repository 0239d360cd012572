"""The API documentation in Swagger UI."""

from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import TIMEOUT_MS, Log


def serve_below_prefix(page: Page, address: str, prefix: str) -> list[str]:
    """Acts as a proxy that serves below a prefix. Gives the URLs requested outside the prefix."""
    elsewhere: list[str] = []

    def forward(route: Route) -> None:
        url = route.request.url
        if url.startswith(f"{address}{prefix}/"):
            route.fulfill(response=route.fetch(url=url.replace(prefix, "", 1)))
        elsewhere.extend([] if prefix in url or url.startswith(("data:", "blob:")) else [url])

    page.route("**/*", forward)
    return elsewhere


def test_operations_are_shown_and_can_be_tried(page: Page, address: str, log: Log) -> None:
    """All requests go to the service, and the content security policy blocks none of them."""
    page.goto(f"{address}/docs")
    expect(page.locator(".opblock")).not_to_have_count(0)
    expect(page.locator("#operations-default-predict")).to_contain_text("Read the text")
    try_live(page)
    assert page.request.get(f"{address}/docs").headers["content-security-policy"]
    assert log.outside == []


def test_the_pages_work_below_a_prefix(page: Page, address: str) -> None:
    """The page and the API documentation request only URLs below it, without any setting."""
    below = page.context.new_page()  # the page of the fixture is still fetching its icon
    below.set_default_timeout(TIMEOUT_MS)
    elsewhere = serve_below_prefix(below, address, "/ocr")
    below.goto(f"{address}/ocr/")
    below.get_by_role("button", name="Example 1").click()
    expect(below.locator("#results h3")).to_have_count(1)
    below.get_by_role("link", name="API").click()
    try_live(below)
    expect(below.locator(".request-url")).to_contain_text(f"{address}/ocr/health/live")
    assert elsewhere == []


def try_live(page: Page) -> None:
    live = page.locator("#operations-default-live")
    live.locator(".opblock-summary-control").click()
    live.get_by_role("button", name="Try it out").click()
    live.get_by_role("button", name="Execute").click()
    expect(live.locator(".live-responses-table")).to_contain_text('"status": "live"')

"""/docs in a real Chromium: it can be read and sends requests, and it contacts no other host."""

import json

from browser import Page, chromium


def send(page, operation, **arguments):
    """Opens an endpoint, fills in its form and submits it. Returns the status and the text shown."""
    form = f"document.querySelector('[data-operation={operation}] form')"
    page.once(f"document.getElementById('{operation}')?.querySelector('summary')")
    page.once(f"(document.getElementById('{operation}').open = true)")
    page.once(form)
    for name, value in arguments.items():
        page.once(f"({form}.elements['{name}'].value = {json.dumps(value)}, true)")
    result = f"document.querySelector('[data-operation={operation}] [data-result]')"
    page.once(f"({form}.querySelector('button').click(), true)")
    return page.once(f"{result}.dataset.status && [{result}.dataset.status, {result}.innerText]")


def expect(is_so, what):
    if not is_so:
        raise SystemExit(f"/docs: {what}")


def check(url, country="Côte d'Ivoire / 50%"):
    """Checks the page of the demo. The country is one without sales."""
    with chromium() as devtools:
        page = Page(devtools)
        page.call("Page.navigate", url=f"{url}/docs")
        paths = page.once("document.querySelectorAll('.path').length")
        expect(paths == 9, f"{paths} endpoints are listed")

        status, shown = send(page, "get_count")
        expect(status == "200" and "From memory" in shown, shown)
        status, shown = send(page, "get_sales_country", country=country, year="2004")
        expect(status == "200" and "Loaded for this request" in shown, shown)
        status, shown = send(page, "get_sales_country", country="USA", year="1900")
        expect(status == "400" and "LRD-103" in shown and "must be at least 2003" in shown, shown)
        status, shown = send(page, "get_products_code_prices", code="<img src=x onerror=alert(1)>")
        expect(status == "400" and "must match" in shown, shown)

        page.expect_no_complaints(url)
    print(f"{url}/docs: read, and four requests sent, in Chromium")

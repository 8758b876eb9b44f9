"""/docs in a real Chromium: it can be read and sends requests, with credentials where they are needed, and it contacts
no other host."""

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
        page.open(f"{url}/docs")
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


def enter(page, credential):
    page.value(f"(document.getElementById('key').value = {json.dumps(credential)}, true)")
    page.value("document.querySelector('#credential button').click()")


def check_credentials(url, shots):
    """Checks the page of a server of access.toml."""
    listed = "[...document.querySelectorAll('.path')].map((path) => path.innerText)"
    state = "document.getElementById('state')?.innerText"
    with chromium() as devtools:
        page = Page(devtools)
        page.open(f"{url}/docs")
        page.once(f"{state} === '1 of 1 endpoints that need no credential'")
        expect(page.value(listed) == ["/open/{n}"], page.value(listed))
        enter(page, "unknown-key")
        page.once("document.getElementById('key-state').innerText === 'The key is unknown.'")
        enter(page, "guest-key")
        page.once(f"{state} === '4 of 4 endpoints that this credential may use'")
        enter(page, "seller-key")
        page.once(f"{state} === '6 of 6 endpoints that this credential may use'")
        expect(page.value("document.getElementById('key-state').innerText") == "", "the key is accepted")

        status, shown = send(page, "get_mine_n", n="7")
        expect(status == "200" and '"tenant": "acme"' in shown, shown)
        shown = page.value("document.querySelector('[data-operation=get_mine_n]').innerText")
        expect('-H "Authorization: Bearer $KEY"' in shown, "the command has a place for the key")
        page.screenshot(shots / "docs-with-key.png")
        status, shown = send(page, "get_near")
        expect(status == "403" and "LRD-204" in shown, shown)

        kept = page.value("JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])")
        page_text = page.value("document.documentElement.outerHTML")
        for where in [kept, page_text, *page.requested]:
            expect("seller-key" not in where, f"the key is in {where}")

        # Opened again, it knows no key.
        page.open("about:blank")
        page.open(f"{url}/docs")
        page.once(f"{state} === '1 of 1 endpoints that need no credential'")
        expect(page.value("document.getElementById('key').value") == "", "the key is gone")
        page.expect_no_complaints(url)
    print(f"{url}/docs: used with and without credentials, in Chromium")

"""/docs in a real Chromium: people can read it and send requests, and it asks no other host."""

import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile
from urllib.parse import urlsplit

import websocket

WAIT = 60  # seconds, for a browser on a busy machine


@contextlib.contextmanager
def chromium():
    """Where its DevTools listen."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("there is no Chromium: install chromium")
    # Its sandbox does not work for root, who has nothing to gain from it here: the page is Larder's.
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen(
            [program, "--headless", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0",
             f"--user-data-dir={profile}", *as_root, "about:blank"],
            stderr=subprocess.PIPE, text=True,
        )
        try:
            told = (re.search(r"DevTools listening on (ws://\S+)", line) for line in browser.stderr)
            yield next(found.group(1) for found in told if found)
        finally:
            browser.kill()
            browser.communicate()


class Page:
    """A tab, what it asked for, and what it complained about."""

    def __init__(self, devtools):
        self.socket = websocket.create_connection(devtools, timeout=WAIT, suppress_origin=True)
        self.ids = itertools.count(1)
        self.session = None
        self.asked, self.complaints = [], []
        tab = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        sent = {"id": next(self.ids), "method": method, "params": parameters}
        if self.session:
            sent["sessionId"] = self.session
        self.socket.send(json.dumps(sent))
        while (heard := json.loads(self.socket.recv())).get("id") != sent["id"]:
            self.hear(heard)
        if "error" in heard:
            raise SystemExit(f"{method}: {heard['error']}")
        return heard["result"]

    def hear(self, heard):
        match heard.get("method"):
            case "Network.requestWillBeSent":
                self.asked.append(heard["params"]["request"]["url"])
            case "Runtime.exceptionThrown" | "Log.entryAdded":
                self.complaints.append(heard["params"])

    def once(self, expression):
        """The value of the expression as soon as it has one."""
        waiting = f"""new Promise((done) => {{
            const look = () => {{ const value = {expression}; if (value) done(value); return value; }};
            if (!look()) new MutationObserver(look).observe(document, {{ subtree: true, childList: true,
                attributes: true, characterData: true }});
        }})"""
        answer = self.call("Runtime.evaluate", expression=waiting, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise SystemExit(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"]["value"]


def send(page, operation, **arguments):
    """Opens an endpoint, fills its form, sends it: the status and what is shown."""
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


def hold(url):
    """The page of the demo."""
    with chromium() as devtools:
        page = Page(devtools)
        page.call("Page.navigate", url=f"{url}/docs")
        paths = page.once("document.querySelectorAll('.path').length")
        expect(paths == 9, f"{paths} endpoints are listed")

        status, shown = send(page, "get_count")
        expect(status == "200" and "From memory" in shown, shown)
        status, shown = send(page, "get_sales_country", country="Côte d'Ivoire / 50%", year="2004")
        expect(status == "200" and "Loaded for this request" in shown, shown)
        status, shown = send(page, "get_sales_country", country="USA", year="1900")
        expect(status == "400" and "LRD-103" in shown and "must be at least 2003" in shown, shown)
        status, shown = send(page, "get_products_code_prices", code="<img src=x onerror=alert(1)>")
        expect(status == "400" and "must match" in shown, shown)

        others = [asked for asked in page.asked if urlsplit(asked).netloc not in ("", urlsplit(url).netloc)]
        expect(not others, f"other hosts are asked: {others}")
        # A browser logs an answer of 400 by itself.
        complaints = [one for one in page.complaints if one.get("entry", {}).get("source") != "network"]
        expect(not complaints, f"the browser complains: {complaints}")
    print(f"{url}/docs: read, and four requests sent, in Chromium")

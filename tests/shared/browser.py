"""A real Chromium, driven over its DevTools protocol."""

import base64
import contextlib
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
from urllib.parse import urlsplit

import websocket

WAIT = 60  # seconds, for a browser on a busy machine


@contextlib.contextmanager
def chromium():
    """The URL of its DevTools."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("there is no Chromium: install chromium")
    # Its sandbox does not work for root, and is not needed: the page is Larder's own.
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen(
            [program, "--headless", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0",
             f"--user-data-dir={profile}", *as_root, "about:blank"],
            stderr=subprocess.PIPE, text=True,
        )
        try:
            matches = (re.search(r"DevTools listening on (ws://\S+)", line) for line in browser.stderr)
            yield next(found.group(1) for found in matches if found)
        finally:
            browser.kill()
            browser.communicate()


class Page:
    """A tab, with the URLs it requested and the errors it logged."""

    def __init__(self, devtools):
        self.socket = websocket.create_connection(devtools, timeout=WAIT, suppress_origin=True)
        self.ids = itertools.count(1)
        self.session = None
        self.requested, self.complaints = [], []
        self.navigated = set()  # Chromium's names of the documents that the tab has switched to
        tab = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        sent = {"id": next(self.ids), "method": method, "params": parameters}
        if self.session:
            sent["sessionId"] = self.session
        self.socket.send(json.dumps(sent))
        deadline = time.monotonic() + WAIT
        while (message := json.loads(self.socket.recv())).get("id") != sent["id"]:
            self.record(message)
            if time.monotonic() > deadline:
                raise SystemExit(f"{method} takes more than {WAIT} s: {parameters}")
        if "error" in message:
            raise SystemExit(f"{method}: {message['error']}")
        return message["result"]

    def record(self, message):
        match message.get("method"):
            case "Page.frameNavigated":
                self.navigated.add(message["params"]["frame"]["loaderId"])
            case "Network.requestWillBeSent":
                self.requested.append(message["params"]["request"]["url"])
            case "Runtime.exceptionThrown" | "Log.entryAdded":
                self.complaints.append(message["params"])
            case "Runtime.consoleAPICalled" if message["params"]["type"] in ("error", "warning", "assert"):
                self.complaints.append(message["params"])

    def open(self, url):
        """Goes to a page and waits until it is loaded. What runs in the page before would be lost without a word."""
        document = self.call("Page.navigate", url=url)["loaderId"]
        while document not in self.navigated:
            self.record(json.loads(self.socket.recv()))
        self.value("new Promise((done) => document.readyState === 'complete' ? done() : addEventListener('load', () => done()))")

    def once(self, expression):
        """Waits until the expression has a value, and returns it; true for an element."""
        waiting = f"""new Promise((done) => {{
            const look = () => {{ const value = {expression}; if (value) done(value instanceof Node ? true : value); return value; }};
            if (!look()) new MutationObserver(look).observe(document, {{ subtree: true, childList: true,
                attributes: true, characterData: true }});
        }})"""
        return self.value(waiting)

    def value(self, expression):
        """The value of the expression; promises are awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise SystemExit(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def press(self, key, text=None):
        """Presses a key."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowRight": 39}
        known = {"key": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0].upper()))}
        if text:
            known["text"] = text
        self.call("Input.dispatchKeyEvent", type="keyDown", **known)
        self.call("Input.dispatchKeyEvent", type="keyUp", **known)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def screenshot(self, path):
        shot = self.call("Page.captureScreenshot", format="png")
        pathlib.Path(path).write_bytes(base64.b64decode(shot["data"]))

    def expect_no_complaints(self, url):
        """Fails if the page contacted another host, or logged anything except failed requests."""
        others = [one for one in self.requested if urlsplit(one).netloc not in ("", urlsplit(url).netloc)]
        if others:
            raise SystemExit(f"the page contacts other hosts: {others}")
        # A browser logs 4xx answers, and missing ones, by itself.
        complaints = [one for one in self.complaints if one.get("entry", {}).get("source") != "network"]
        if complaints:
            raise SystemExit(f"the browser complains: {complaints}")

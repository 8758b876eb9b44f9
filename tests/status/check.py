"""/status in a real Chromium: `check.py FOLDER_OF_PROGRAMS FOLDER_FOR_SCREENSHOTS`.

A healthy server, an outage of Postgres and its end, a restart of Larder, three hundred endpoints, the
keyboard, a phone, and the dark colour scheme. The screenshots are for people to look at.
"""

import contextlib
import hashlib
import http.client
import itertools
import json
import pathlib
import sys
import tempfile
import threading
import urllib.request

from browser import Page, chromium
from postgres import Postgres
from server import free_port, serving

LARDER = pathlib.Path(sys.argv[1]).resolve() / "larder"
SHOTS = pathlib.Path(sys.argv[2]).resolve()

FEW = """
[[endpoint]]
path = "/orders/count"
sql = "SELECT count(*) FROM generate_series(1, 2823)"
shape = "value"
max_age = "2s"
refresh = { every = "500ms" }

[[endpoint]]
path = "/orders/by-country"
sql = "SELECT n % 19 AS country, sum(n) AS revenue FROM generate_series(1, 20000) AS n GROUP BY 1"
refresh = { every = "1s" }

[[endpoint]]
path = "/orders/{customer}"
sql = "SELECT n, md5(:customer::text || n) AS line FROM generate_series(1, 40) AS n, pg_sleep(0.003)"
max_age = "5s"
refresh = { ahead = true }
warm = [{ customer = "Ada" }, { customer = "Grace" }]

[[endpoint]]
path = "/stock"
sql = "SELECT n AS item, n * 7 % 100 AS pieces FROM generate_series(1, 500) AS n"
max_age = "23h59m"
refresh = { probe = { sql = "SELECT 1", every = "1s" } }

[[endpoint]]
path = "/revenue/by-month"
sql = "SELECT n AS month, n * 1000 AS revenue FROM generate_series(1, 12) AS n, pg_sleep(0.05)"
refresh = { cron = "*/5 * * * * *" }

[[endpoint]]
path = "/wrong-since-the-start/{n}"
sql = "SELECT 1 / :n::int AS secret_column"
shape = "value"

[[endpoint]]
path = "/reports/yearly"
sql = "SELECT 'nobody asks for this' AS report"
max_age = "1s"
"""

# Two keys, whose texts are their names and `-key`.
ACCESS = "".join(
    f"""
[[access.key]]
name = "{name}"
sha256 = ["{hashlib.sha256(f"{name}-key".encode()).hexdigest()}"]
scopes = {scopes}
"""
    for name, scopes in [("operator", '["larder:observe"]'), ("guest", "[]")]
)
ACCESS = f'[access]\ndefault = "deny"\n{ACCESS}'

POLLED = ["/orders/count", "/orders/by-country", "/orders/Ada", "/orders/Grace", "/orders/Alan", "/stock", "/orders/count",
         "/revenue/by-month", "/orders/count"]

# What the page must never show: SQL, logins, hosts and arguments.
SECRETS = ["generate_series", "secret_column", "not-to-be-shown", "127.0.0.1", "Ada", "Grace", "division"]

MANY = "".join(
    f"""
[[endpoint]]
path = "/{("orders", "stock", "revenue", "returns", "visits")[n % 5]}/{n:03}/{("daily", "weekly", "by-country")[n % 3]}"
sql = "SELECT {n} AS n FROM generate_series(1, {n % 40 + 1})"
max_age = "{n % 7 + 2}s"
{'refresh = { every = "1s" }' if n % 3 else ""}
"""
    for n in range(300)
)


def expect(is_so, what):
    if not is_so:
        raise SystemExit(f"/status: {what}")


@contextlib.contextmanager
def polling(port, paths):
    """Clients that poll until the end of the block."""
    over = threading.Event()

    def client(turn):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for path in itertools.islice(itertools.cycle(paths), turn, None):
            if over.wait(0.01):
                return
            try:
                connection.request("GET", path)
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                connection.close()  # Larder is down for a while

    clients = [threading.Thread(target=client, args=(turn,)) for turn in range(4)]
    for one in clients:
        one.start()
    try:
        yield
    finally:
        over.set()
        for one in clients:
            one.join()


@contextlib.contextmanager
def larder(postgres, port, endpoints):
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        config.write('[server]\nlisten = "127.0.0.1:${PORT}"\n[repository]\nurl = "${DATABASE_URL}"\n' + endpoints)
        config.flush()
        with serving(LARDER, "serve", "-c", config.name, PORT=str(port), DATABASE_URL=postgres.url):
            yield f"http://127.0.0.1:{port}"


def opened(devtools, url, width=1280, height=800):
    page = Page(devtools)
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
    page.open(f"{url}/status")
    page.once("document.querySelector('#rows > .row')")
    return page


def title(page, text):
    """Waits until the title contains the text, and returns when that was."""
    return page.once(f"document.getElementById('title').textContent.includes({json.dumps(text)}) && Date.now() / 1000")


def status_json(url):
    with urllib.request.urlopen(f"{url}/status.json") as answer:
        return answer.read().decode()


def late(url, shown):
    """How many seconds after Larder the page noticed that Postgres left, or came back."""
    return round(shown - json.loads(status_json(url))["repository"]["since_timestamp_seconds"], 2)


def row(path):
    return f"document.querySelector('#rows > [data-endpoint=\"{path}\"]')"


def state(page, path, word):
    """Waits until an endpoint is shown in this state."""
    page.once(f"{row(path)}?.querySelector('.state').innerText.trim() === {json.dumps(word)}")


def order(page):
    return page.value("[...document.querySelectorAll('#rows > .row')].map((row) => row.dataset.endpoint)")


# The contrast of text with its background by WCAG 2.1, 1.4.3, with 4.5 for all sizes.
CONTRAST = """(() => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const rgba = (colours) => { canvas.clearRect(0, 0, 1, 1);
        for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
        return canvas.getImageData(0, 0, 1, 1).data; };
    const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * x + 0.7152 * y + 0.0722 * z; };
    const bad = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        if (!texts.currentNode.data.trim() || !element.checkVisibility() || element.matches('noscript, option')) continue;
        const behind = [];
        for (let at = element; at; at = at.parentElement) behind.unshift(getComputedStyle(at).backgroundColor);
        const [a, b] = [light(rgba([...behind, getComputedStyle(element).color])), light(rgba(behind))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) bad.push(`${texts.currentNode.data}: ${ratio.toFixed(2)}`);
    }
    return [...new Set(bad)];
})()"""


def check_contrast(page, where):
    bad = page.value(CONTRAST)
    expect(not bad, f"{where}: too little contrast: {bad}")


# Cells whose content reaches into the next one.
OVERFLOWING = """[...document.querySelectorAll('#rows > .row > *')]
    .filter((cell) => cell.scrollWidth > cell.clientWidth).map((cell) => cell.innerText)"""


def check_overflow(page, where):
    overflowing = page.value(OVERFLOWING)
    expect(not overflowing, f"{where}: cells overflow: {overflowing}")


def healthy(page):
    title(page, "Everything in use is fresh")
    expect(page.value("document.querySelectorAll('#rows > .row').length") == 7, "seven endpoints are listed")
    for path, word in [("/orders/count", "Fresh"), ("/orders/{customer}", "Fresh"), ("/reports/yearly", "Idle")]:
        state(page, path, word)
    page.once(f"{row('/orders/{customer}')}.innerText.includes('3 keys')")
    # Curves begin with the second sample.
    page.once(f"{row('/orders/count')}.querySelector('canvas')")
    page.once("document.querySelectorAll('#totals canvas').length === 5")
    page.value(f"{row('/orders/count')}.querySelector('.path button').click()")
    page.once("document.querySelectorAll('.facts canvas').length === 3")
    page.screenshot(SHOTS / "healthy.png")
    idle = f"{row('/reports/yearly')}.querySelector('.path button')"
    page.value(f"{idle}.click()")
    page.once("document.querySelectorAll('.facts canvas').length === 6")
    page.value(f"{idle}.click()")
    check_contrast(page, "healthy")
    check_overflow(page, "healthy")


def outage(page, postgres, url):
    postgres.stop()
    began = late(url, title(page, "Postgres is unreachable"))
    state(page, "/orders/count", "Failing")
    page.once(f"{row('/orders/count')}.querySelector('.error').innerText.includes('Postgres is unreachable')")
    page.once("document.querySelector('#rows > .row').classList.contains('failing')")
    expect(page.value("document.title").startswith("Postgres is unreachable"), "the title of the tab shows it")
    page.screenshot(SHOTS / "outage.png")
    check_contrast(page, "outage")
    text = status_json(url) + page.value("document.documentElement.outerHTML")
    shown = [secret for secret in SECRETS if secret in text]
    expect(not shown, f"these are public: {shown}")
    postgres.start()
    page.once("document.querySelector('#title').innerText !== 'Postgres is unreachable'")
    ended = late(url, page.value("Date.now() / 1000"))
    title(page, "Everything in use is fresh")
    state(page, "/orders/count", "Fresh")
    print(f"/status: an outage was shown {began} s after Larder noticed it, its end after {ended} s")


def hidden(page):
    """A hidden page polls rarely, and at once when it becomes visible."""
    turn = "Object.defineProperty(document, 'hidden', {{ configurable: true, get: () => {} }}); document.dispatchEvent(new Event('visibilitychange'))"
    # A wait of more than five seconds, which the page uses for nothing else, is returned and never ends by itself.
    wait = page.value(f"""new Promise((done) => {{
        const real = window.setTimeout;
        window.setTimeout = (call, wait) => {{ if (wait <= 5000) return real(call, wait); window.setTimeout = real; done(wait); }};
        {turn.format("true")};
    }})""")
    expect(wait == 30_000, f"it polls again after {wait} ms though it is hidden")
    before = page.value("document.getElementById('as-of').innerText")
    page.value(turn.format("false"))
    page.once(f"document.getElementById('as-of').innerText !== {json.dumps(before)}")


def lost_and_found(page, postgres, port):
    title(page, "Larder is unreachable")
    page.once("document.getElementById('detail').innerText.includes('The values are from')")
    page.screenshot(SHOTS / "lost.png")
    with larder(postgres, port, FEW) as url:
        # The errors of the server before the restart are gone.
        title(page, "Everything in use is fresh")
        page.once("document.getElementById('rows').innerText.includes('/orders/count')")
        expect("Postgres is unreachable" not in page.value("document.body.innerText"), "the errors are gone")
        page.expect_no_complaints(url)


def many(page):
    title(page, "Everything in use is fresh")
    rows = "document.querySelectorAll('#rows > .row').length"
    expect(page.value(rows) == 200, "only the first rows are drawn")
    page.once(f"{row('/visits/299/by-country')} === null && !document.getElementById('more').hidden")
    page.screenshot(SHOTS / "many.png")
    drawn = page.value("document.querySelectorAll('#rows canvas').length")
    expect(drawn < 40, f"{drawn} curves are drawn, of which few are visible")
    page.value("document.getElementById('more').click()")
    page.once(f"{rows} === 300 && document.getElementById('more').hidden")


def by_keyboard(page):
    """Everything works without a pointer."""
    focused = "document.activeElement"
    page.value("document.body.focus()")
    page.press("/")
    page.once(f"{focused}.id === 'filter'")
    page.type("returns weekly")
    page.once("document.querySelectorAll('#rows > .row').length === 20")
    page.press("Tab")
    page.press("ArrowRight")  # from all to failing
    page.once("!document.getElementById('none').hidden")
    expect(page.value(f"{focused}.value") == "failing", "the states are one stop with arrows between them")
    page.value("document.querySelector('#states [value=all]').click()")
    page.value("(document.getElementById('filter').value = '', document.getElementById('filter').dispatchEvent(new Event('input')))")
    page.value("document.querySelector('#states [value=all]').focus()")
    head = "document.querySelector('#columns [aria-sort]')"
    page.press("Tab")
    page.press("Tab")
    page.press("Enter", "\r")
    page.once(f"{head}.innerText.trim().startsWith('Endpoint') && {head}.ariaSort === 'ascending'")
    up = order(page)
    expect(up == sorted(up), "sorted by path")
    page.press("Enter", "\r")
    page.once(f"{head}.ariaSort === 'descending'")
    down = order(page)
    expect(down == sorted(down, reverse=True) and down[0] == "/visits/299/by-country", "sorted by path, descending")
    for _ in range(8):  # the other columns, then the first row
        page.press("Tab")
    page.press("Enter", "\r")
    page.once(f"{focused}.getAttribute('aria-expanded') === 'true' && document.querySelector('.facts dl').innerText.includes('Fresh up to')")
    page.press("Enter", "\r")
    page.once("document.querySelector('.facts') === null")


def accessible(page):
    """The table has the roles of a table, even where it is drawn as something else."""
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {node["role"]["value"] for node in nodes if not node["ignored"]}
    missing = {"table", "row", "cell", "rowheader", "status", "searchbox", "radio", "heading"} - roles
    expect(not missing, f"missing roles: {missing}")


def on_a_phone(page):
    title(page, "Everything in use is fresh")
    page.screenshot(SHOTS / "phone.png")
    page.value(f"{row('/orders/count')}.scrollIntoView()")
    page.once(f"{row('/orders/count')}.querySelector('canvas')")
    page.screenshot(SHOTS / "phone-endpoints.png")
    width = page.value("document.documentElement.scrollWidth")
    expect(width == 360, f"it is {width} pixels wide on a phone of 360")
    accessible(page)
    check_contrast(page, "on a phone")
    check_overflow(page, "on a phone")
    page.value("(document.getElementById('sort').value = 'Endpoint', document.getElementById('sort').dispatchEvent(new Event('change')))")
    page.once("document.querySelector('#rows > .row').dataset.endpoint === '/orders/by-country'")


def in_the_dark(page):
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.call("Emulation.setEmulatedMedia", features=dark)
    page.once("getComputedStyle(document.body).backgroundColor === 'rgb(22, 25, 29)'")
    check_contrast(page, "in the dark")
    page.screenshot(SHOTS / "dark.png")


def with_credentials(page, url):
    """The page is opened by anybody, and asks for a credential before it shows anything."""
    def enter(key):
        page.value(f"(document.getElementById('key').value = {json.dumps(key)}, true)")
        page.value("document.querySelector('#credential button').click()")

    detail = "document.getElementById('detail').innerText"
    hidden = "document.getElementById('data').hidden"
    page.open(f"{url}/status")
    title(page, "This page needs a credential")
    page.once(f"{hidden} && document.activeElement.id === 'key'")
    page.screenshot(SHOTS / "credential.png")
    check_contrast(page, "without a credential")
    enter("unknown-key")
    page.once(f"{detail}.includes('The key is unknown.')")
    enter("guest-key")
    page.once(f"{detail}.includes('lacks a scope')")
    expect(page.value(hidden), "nothing is shown to a key without the scope")
    shown = page.value("document.documentElement.outerHTML")
    expect("/orders" not in shown, "the page has no data")
    enter("operator-key")
    page.once(f"!{hidden} && document.querySelectorAll('#rows > .row').length === 7")
    title(page, "Everything in use is fresh")
    page.once("document.querySelectorAll('#totals canvas').length === 5")
    expect(page.value("document.getElementById('credential').hidden"), "it asks no longer")
    page.screenshot(SHOTS / "with-credential.png")
    kept = page.value("JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])")
    for where in [kept, page.value("document.documentElement.outerHTML"), *page.requested]:
        expect("operator-key" not in where, f"the key is in {where}")
    page.expect_no_complaints(url)


def main():
    SHOTS.mkdir(parents=True, exist_ok=True)
    with Postgres() as postgres, chromium() as devtools:
        port = free_port()
        with larder(postgres, port, FEW) as url, polling(port, POLLED):
            page = opened(devtools, url)
            healthy(page)
            accessible(page)
            outage(page, postgres, url)
            in_the_dark(page)
            hidden(page)
            phone = opened(devtools, url, 360, 740)
            on_a_phone(phone)
            phone.expect_no_complaints(url)
        lost_and_found(page, postgres, port)

        port = free_port()
        with larder(postgres, port, MANY) as url, polling(port, [f"/orders/{n:03}/daily" for n in range(0, 300, 15)]):
            page = opened(devtools, url)
            many(page)
            by_keyboard(page)
            page.expect_no_complaints(url)

        port = free_port()
        with larder(postgres, port, ACCESS + FEW) as url:
            with_credentials(Page(devtools), url)
    print(f"/status: healthy, in an outage, without Larder, with 300 endpoints, with credentials, in Chromium; see {SHOTS}")


main()

"""A large answer that is reloaded continuously while it is read."""

import wrk
from larder import SALES, Larder
from report import figure, median, micros, ratio, say, table

READERS = 4


def declared(every: str) -> str:
    return f"""
[[endpoint]]
path = "/large"
sql = '''
SELECT clock_timestamp() AS now, ordernumber, quantityordered, productline, status, customername, country
FROM {SALES}, generate_series(1, 4) AS copy
ORDER BY ordernumber, orderlinenumber, copy LIMIT 6000'''
refresh = {{ every = "{every}" }}
"""


def measure(options, folder, every: str) -> tuple[wrk.Tally, float, float]:
    """The readers' results, and the numbers of successful and failed loads."""
    # On all cores, so that loads and readers do not share one.
    with Larder(options.larder, declared(every), folder, on_one_core=False) as server:
        load = wrk.Load("/large", READERS)
        wrk.run(server.port, load, 1)
        name = "larder_refreshes_total"
        before = server.total(name, outcome="changed")
        tally = wrk.run(server.port, load, options.seconds * 2)
        return tally, server.total(name, outcome="changed") - before, server.total(name, outcome="failed")


def run(options, folder) -> tuple[str, list[str]]:
    broken, rows = [], []
    tallies = {"1h": [], "100ms": []}
    loads = {"1h": [], "100ms": []}
    for number in range(options.rounds):
        order = list(tallies) if number % 2 == 0 else list(reversed(tallies))
        for every in order:
            tally, changed, failed = measure(options, folder, every)
            tallies[every].append(tally)
            loads[every].append(changed)
            if tally.errors or failed:
                broken.append(f"a refresh every {every}: {tally.errors} requests and {failed:.0f} loads failed")
        quiet, busy = tallies["1h"][-1], tallies["100ms"][-1]
        say(f"round {number + 1}/{options.rounds}: quiet p99 {quiet.p99} µs, refreshed p99 {busy.p99}, worst {busy.worst} µs")
    for every, name in [("1h", "never"), ("100ms", "every 100 ms")]:
        of = lambda what: median([what(tally) for tally in tallies[every]])
        rows.append([
            name,
            figure(median(loads[every])),
            figure(of(lambda it: it.rate)),
            micros(of(lambda it: it.p50)),
            micros(of(lambda it: it.p99)),
            micros(of(lambda it: it.p999)),
            micros(of(lambda it: it.worst)),
        ])
    header = ["1 MB, reloaded", "loads meanwhile", "requests/s", "p50", "p99", "p99.9", "worst"]
    pairs = list(zip(tallies["100ms"], tallies["1h"]))
    worst = ratio([busy.worst / quiet.p99 for busy, quiet in pairs])
    p99 = ratio([busy.p99 / quiet.p99 for busy, quiet in pairs])
    text = "**A large answer reloaded while it is read** (target: the worst time is at most 2 times the quiet p99)\n\n"
    text += table(header, rows)
    return text + f"\nCompared with the quiet p99: worst {worst}, p99 {p99}.\n", broken

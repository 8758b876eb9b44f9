"""Many schedules due in the same second, and the maximum rate of loads."""

import time
from dataclasses import dataclass

import wrk
from larder import Larder
from report import figure, micros, say, table

PERIOD = 10
"""Seconds between cron runs. Larder spreads the endpoints over a tenth of that."""

READERS = 4


@dataclass(frozen=True)
class Rhythm:
    name: str
    refresh: str
    due: float
    """Runs per second of each."""


RHYTHMS = [
    Rhythm("in the same second", f'refresh = {{ cron = "*/{PERIOD} * * * * *" }}', 1 / PERIOD),
    Rhythm("every second", 'refresh = { every = "1s" }', 1),
    Rhythm("every 100 ms, as many as possible", 'refresh = { every = "100ms" }', 10),
]


def declared(count: int, refresh: str) -> str:
    sql = "SELECT {0}::int8 AS n, clock_timestamp() AS now"
    one = f'[[endpoint]]\npath = "/s/{{0}}"\nsql = "{sql}"\n'
    return "".join(one.format(n) + refresh + "\n" for n in range(1, count + 1))


def loads(server: Larder, outcome: str) -> float:
    return server.total("larder_refreshes_total", trigger="schedule", outcome=outcome)


def between_periods():
    """Waits for the middle of a period, when all runs are over."""
    time.sleep((PERIOD / 2 - time.time()) % PERIOD)


def measure(options, folder, rhythm: Rhythm) -> tuple[list[str], list[str]]:
    count = options.schedules
    with Larder(options.larder, declared(count, rhythm.refresh), folder, patience=300) as server:
        between_periods()
        before, cpu, begun = {it: loads(server, it) for it in ("changed", "failed", "skipped")}, server.cpu(), time.time()
        tally = wrk.run(server.port, wrk.Load("/s/%d", READERS, keys=count), 2 * PERIOD)
        between_periods()
        spent, elapsed = server.cpu() - cpu, time.time() - begun
        done = {outcome: loads(server, outcome) - so_far for outcome, so_far in before.items()}
        name = "larder_last_refresh_success_timestamp_seconds"
        moments = [value for sample, value in server.metrics().items() if sample.startswith(name)]
        spread = max(moments) - min(moments)
    say(f"{rhythm.name}: {done['changed'] / elapsed:,.0f} loads/s, hits' p99 {tally.p99} µs")
    broken = []
    if done["failed"] or tally.errors:
        broken.append(f"{count:,} schedules {rhythm.name}: {done['failed']:.0f} loads and {tally.errors} requests failed")
    return [
        rhythm.name,
        figure(count * rhythm.due),
        figure(done["changed"] / elapsed),
        f"{done['skipped']:,.0f}",
        f"{spread:.2f} s",
        f"{spent / elapsed:.0%}",
        figure(tally.rate),
        micros(tally.p50),
        micros(tally.p99),
        micros(tally.worst),
    ], broken


def run(options, folder) -> tuple[str, list[str]]:
    rows, broken = [], []
    for rhythm in RHYTHMS:
        row, complaints = measure(options, folder, rhythm)
        rows.append(row)
        broken += complaints
    header = [f"{options.schedules:,} schedules", "due/s", "loads/s", "skipped", "first to last"]
    header += ["busy", "hits/s", "p50", "p99", "worst"]
    return "**Schedules** (one core; hits take what is left of it)\n\n" + table(header, rows), broken

"""Many keys of one endpoint: loading them, a hit, memory in addition to their bytes."""

from contextlib import ExitStack

import hits
import wrk
from larder import Larder, get
from report import figure, median, ratio, say, table

SETTINGS = '[cache]\nmax_size = "16GiB"\n[defaults]\nmax_age = "1d"\n'


def declared(count: int) -> str:
    return f"""
[[endpoint]]
path = "/k/{{id}}"
sql = "SELECT :id::int8 AS id, repeat('x', 100) AS text"
shape = "row"
max_keys = {count}
warm_sql = "SELECT generate_series(1, {count}) AS id"
timeout = "30s"
"""


def run(options, folder) -> tuple[str, list[str]]:
    counts = sorted({1, min(10_000, options.keys), options.keys})
    rows, broken = [], []
    with ExitStack() as stack:
        servers, memory = [], []
        for count in counts:
            server = stack.enter_context(Larder(options.larder, declared(count), folder, SETTINGS, patience=1_200))
            say(f"{count:,} keys: ready after {server.start_up:.1f} s")
            entries = server.total("larder_cache_entries")
            if entries != count:
                broken.append(f"{count:,} keys: {entries:,.0f} entries were loaded")
            servers.append(server)
            memory.append(server.memory())
        body = len(get(servers[0].port, "/k/1")[2])
        one = hits.compare(servers, [wrk.Load("/k/%d", keys=1, varied=True)] * len(counts), options.rounds, options.seconds)
        each = [wrk.Load("/k/%d", keys=count, varied=True) for count in counts]
        costs = hits.compare(servers, each, options.rounds, options.seconds)
        for count, server, of_one, cost, held in zip(counts, servers, one, costs, memory):
            if failed := of_one.failed + cost.failed:
                broken.append(f"{count:,} keys: {failed} requests failed")
            many = count > 1
            counted = server.total("larder_cache_bytes") / count
            rows.append([
                f"{count:,}",
                f"{server.start_up:.1f} s",
                figure(count / server.start_up) if many else "-",
                figure(median(of_one.cpu)),
                ratio(of_one.times) if many else "1",
                ratio(cost.times) if many else "1",
                figure(median(cost.p99)),
                figure(held / 2**20),
                figure((held - memory[0]) / (count - 1) - body) if many else "-",
                figure(counted - body),
            ])
    header = ["keys", "ready", "loads/s", "CPU µs", "one", "all", "p99 µs", "MiB", f"B/key besides {body}", "counted B/key"]
    target = "a hit costs at most 1.10 times that of 1, a key takes at most 300 B in addition to its bytes"
    return f"**Keys** (target: {target})\n\n" + table(header, rows), broken

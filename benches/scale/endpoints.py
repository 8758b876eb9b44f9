"""Many endpoints: startup, a hit, a scrape, memory."""

import time
from contextlib import ExitStack

import hits
import wrk
from larder import Larder, get
from report import figure, median, ratio, say, table

SCRAPES = 10


def declared(count: int) -> str:
    one = '[[endpoint]]\npath = "/e/{0}"\nsql = "SELECT {0}::int8 AS n"\nshape = "tuple"\n'
    return '[defaults]\nmax_age = "1d"\n' + "".join(one.format(n) for n in range(1, count + 1))


def scrape(server: Larder) -> tuple[float, float, int]:
    """Milliseconds per scrape, the processor time among them, and the bytes."""
    before, begun = server.cpu(), time.monotonic()
    for _ in range(SCRAPES):
        status, _, body = get(server.port, "/metrics")
        assert status == 200, status
    elapsed = time.monotonic() - begun
    return elapsed * 1e3 / SCRAPES, (server.cpu() - before) * 1e3 / SCRAPES, len(body)


def run(options, folder) -> tuple[str, list[str]]:
    counts = sorted({1, min(100, options.endpoints), options.endpoints})
    rows, scrapes, broken = [], [], []
    with ExitStack() as stack:
        servers = []
        for count in counts:
            server = stack.enter_context(Larder(options.larder, declared(count), folder, patience=600))
            say(f"{count:,} endpoints: ready after {server.start_up:.2f} s")
            servers.append(server)
        memory = [server.memory() for server in servers]
        one = hits.compare(servers, [wrk.Load("/e/%d", keys=1, varied=True)] * len(counts), options.rounds, options.seconds)
        each = [wrk.Load("/e/%d", keys=count, varied=True) for count in counts]
        costs = hits.compare(servers, each, options.rounds, options.seconds)
        for count, server, of_one, cost, held in zip(counts, servers, one, costs, memory):
            took, cpu, size = scrape(server)
            if failed := of_one.failed + cost.failed:
                broken.append(f"{count:,} endpoints: {failed} requests failed")
            rows.append([
                f"{count:,}",
                f"{server.start_up:.2f} s",
                figure(median(of_one.cpu)),
                ratio(of_one.times) if count > 1 else "1",
                ratio(cost.times) if count > 1 else "1",
                figure(median(cost.p99)),
                figure(held / 2**20),
                figure((held - memory[0]) / 1024 / (count - 1)) if count > 1 else "-",
            ])
            scrapes.append([f"{count:,}", f"{took:.1f} ms", f"{cpu:.1f} ms", f"{size / 1024:,.0f} KiB"])
    header = ["endpoints", "ready", "CPU µs", "one", "all", "p99 µs", "MiB", "KiB each"]
    text = "**Endpoints** (target: a hit costs at most 1.10 times that of 1)\n\n" + table(header, rows)
    return text + "\n" + table(["endpoints", "a scrape", "its CPU", "its size"], scrapes), broken

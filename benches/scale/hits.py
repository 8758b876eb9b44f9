"""The cost of hits on one Larder compared with another, in pairs."""

from dataclasses import dataclass, field

import wrk
from larder import Larder
from report import say


@dataclass
class Cost:
    """Hits on one server: what was measured in each round."""

    cpu: list[float] = field(default_factory=list)
    """Microseconds of processor time per request."""
    p99: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """The ratio of processor time to the first server's, in each pair."""
    failed: int = 0


def compare(servers: list[Larder], loads: list[wrk.Load], rounds: int, seconds: float) -> list[Cost]:
    """Measures each server under its load in pairs with the first one, in alternating order."""
    costs = [Cost() for _ in servers]
    for number in range(rounds):
        for at in range(1, len(servers)):
            pair = [0, at] if number % 2 == 0 else [at, 0]
            cpu = {}
            for which in pair:
                server, load = servers[which], loads[which]
                wrk.run(server.port, load, 1)
                before = server.cpu()
                tally = wrk.run(server.port, load, seconds)
                cpu[which] = (server.cpu() - before) * 1e6 / max(tally.requests, 1)
                costs[which].cpu.append(cpu[which])
                costs[which].p99.append(tally.p99)
                costs[which].failed += tally.errors
            costs[at].times.append(cpu[at] / cpu[0])
            say(f"round {number + 1}/{rounds}: {cpu[at]:.1f} µs a hit, {cpu[at] / cpu[0]:.3f} times that of the first")
    return costs



"""Larder compared with the alternatives: see --help."""

import argparse
import http.client
import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent.parent / "lib"))

import servers
import wrk
from chart import draw
from larder import get
from processes import cores, postgres_cpu, prepare
from report import figure, machine, median, micros, ratio, say, table

GZIP = {"Accept-Encoding": "gzip"}
SERVERS = ["larder", "hyper", "nginx", "varnish", "flask open", "flask new"]
SLOW = ["flask open", "flask new"]
FOR_THE_SLOW = ["6 B", "6 B, 1 connection", "2 KB", "2 KB, not modified", "100 KB"]
"""They do not benefit from more connections, neither pipeline nor compress, and take seconds for larger answers."""

LEGEND = """CPU and Postgres: µs of processor time per request. busy: the share of the server's core. × Larder: the ratio of
processor time to Larder's, in pairs.
"""


@dataclass(frozen=True)
class Scenario:
    name: str
    load: wrk.Load
    status: int = 200
    seconds: float = 1.0
    """Measured for this long minus one second more than the others."""


def scenarios(etag: str) -> list[Scenario]:
    def load(target="/count", connections=64, **more):
        return wrk.Load(target, connections, **more)

    return [
        Scenario("6 B", load()),
        Scenario("6 B, no request like another", load(varied=True)),
        Scenario("6 B, pipelined 16", load(pipelined=16)),
        Scenario("6 B, 1 connection", load(connections=1)),
        Scenario("6 B, 1,000 connections", load(connections=1_000)),
        # Connecting takes part of the time.
        Scenario("6 B, 10,000 connections", load(connections=10_000), seconds=3.0),
        Scenario("2 KB", load("/lines/2k")),
        Scenario("2 KB, not modified", load("/lines/2k", headers={"If-None-Match": etag}), status=304),
        Scenario("100 KB", load("/lines/100k")),
        Scenario("100 KB, gzip", load("/lines/100k", headers=GZIP)),
        Scenario("1 MB", load("/lines/1m")),
    ]


@dataclass
class Run:
    """One server under one load, once."""

    server: str
    scenario: str
    round: int
    pair: int
    tally: wrk.Tally
    cpu: float
    """Microseconds of processor time per request."""
    postgres: float
    """The same for Postgres."""
    busy: float
    """The share of its core."""
    memory: int


@dataclass(frozen=True)
class Target:
    """A bound on the ratio between another server's figure and Larder's, or its inverse."""

    name: str
    server: str
    scenario: str
    of: Callable[[Run], float]
    bound: float
    at_least: bool
    """If true, the other's divided by Larder's is at least this; otherwise Larder's divided by the other's at most."""


def cpu(run: Run) -> float:
    return run.cpu


def all_cpu(run: Run) -> float:
    return run.cpu + run.postgres


TARGETS = [
    Target("CPU of a hit, compared with hyper", "hyper", "6 B", cpu, 1.05, False),
    Target("the same, 16 requests pipelined", "hyper", "6 B, pipelined 16", cpu, 1.2, False),
    Target("the same, no request like another", "hyper", "6 B, no request like another", cpu, 1.05, False),
    Target("CPU of nginx, compared with a hit", "nginx", "6 B", cpu, 2.0, True),
    Target("CPU of Varnish, compared with a hit", "varnish", "6 B", cpu, 2.8, True),
    Target("requests/s per core, compared with Flask including Postgres", "flask open", "6 B", all_cpu, 50, True),
    Target("the same, without Postgres's processor time", "flask open", "6 B", cpu, 50, True),
]


class Compare:
    def __init__(self, options, folder: Path):
        self.options, self.folder = options, folder
        self.runs: list[Run] = []
        self.complaints: list[str] = []
        self.skipped: set[str] = set()
        self.deadline = time.monotonic() + options.minutes * 60

    def start(self, stack: ExitStack):
        folder, programs = self.folder, self.options.programs
        say("starting the servers")
        self.larder = stack.enter_context(servers.larder(self.options.larder or programs / "larder", folder))
        self.origin = stack.enter_context(servers.flask(folder, "open"))
        self.running = {"larder": self.larder, "flask open": self.origin}
        if "flask new" in self.options.servers:
            self.running["flask new"] = stack.enter_context(servers.flask(folder, "new"))
        for name, start in [("nginx", servers.nginx), ("varnish", servers.varnish)]:
            if name in self.options.servers:
                self.running[name] = stack.enter_context(start(folder, self.origin.port))
        self.scenarios = [
            scenario
            for scenario in scenarios("")
            if not self.options.scenarios or any(part in scenario.name for part in self.options.scenarios)
        ]

    def of(self, scenario: Scenario, server) -> Scenario:
        """The scenario with the ETag of this server."""
        if "If-None-Match" not in scenario.load.headers:
            return scenario
        _, headers, _ = get(server.port, scenario.load.target)
        return next(s for s in scenarios(headers["ETag"]) if s.name == scenario.name)

    def check(self, name: str, server, scenario: Scenario, expected: bytes) -> bool:
        """Checks that it sends the same bytes as Larder, from its cache. False if it does not support the encoding."""
        for _ in range(2):
            own = self.of(scenario, server)
            status, headers, _ = get(server.port, own.load.target, own.load.headers)
        wanted = scenario.load.headers.get("Accept-Encoding")
        if wanted and headers["Content-Encoding"] != wanted:
            return False
        _, _, plainly = get(server.port, own.load.target, {"Accept-Encoding": "identity"})
        if status != scenario.status or plainly != expected:
            self.complaints.append(f"{name}, {scenario.name}: a {status}, or other bytes than Larder's")
        return True

    def measure(self, name: str, server, scenario: Scenario, number: int, pair: int) -> Run:
        own = self.of(scenario, server)
        wrk.run(server.port, own.load, 1)
        # Linux accounts processor time in hundredths of a second, so the run must be much longer.
        seconds = self.options.seconds + scenario.seconds - 1
        before, at_origin, of_postgres = server.cpu(), self.origin.cpu(), postgres_cpu()
        begun = time.monotonic()
        tally = wrk.run(server.port, own.load, seconds)
        elapsed = time.monotonic() - begun
        cpu, asked = server.cpu() - before, self.origin.cpu() - at_origin
        of_postgres = postgres_cpu() - of_postgres
        if tally.errors and name == "larder":
            self.complaints.append(f"{name}, {scenario.name}: {tally.errors} of {tally.requests} failed")
        if name in ("nginx", "varnish") and asked > 0.1 * elapsed:
            self.complaints.append(f"{name}, {scenario.name}: not answered from its cache")
        requests = max(tally.requests, 1)
        each = 1e6 / requests
        return Run(
            name,
            scenario.name,
            number,
            pair,
            tally,
            cpu=cpu * each,
            postgres=of_postgres * each,
            busy=cpu / elapsed,
            memory=server.memory(),
        )

    def others(self, scenario: Scenario):
        for name in self.options.servers:
            if name == "larder" or f"{name}, {scenario.name}" in self.skipped:
                continue
            if name in SLOW and scenario.name not in FOR_THE_SLOW:
                continue
            yield name

    def run(self):
        for number in range(self.options.rounds):
            for scenario in self.scenarios:
                if time.monotonic() > self.deadline:
                    say("time is up: the remaining rounds are left out")
                    return
                self.run_scenario(scenario, number)

    def run_scenario(self, scenario: Scenario, number: int):
        own = self.of(scenario, self.larder)
        expected = get(self.larder.port, scenario.load.target, {"Accept-Encoding": "identity"})[2]
        answer = raw_answer(self.larder.port, own.load)
        others = list(self.others(scenario))
        if not others:
            self.runs.append(self.measure("larder", self.larder, scenario, number, 0))
        for pair, name in enumerate(others):
            if name == "hyper":
                server = servers.floor(self.options.programs / "examples/floor", self.folder, answer)
            else:
                server = self.running[name]
            try:
                if name != "hyper" and not self.check(name, server, scenario, expected):
                    self.skipped.add(f"{name}, {scenario.name}")
                    continue
                # Alternating order, so that drift favours neither.
                both = [("larder", self.larder), (name, server)]
                for which, process in both if number % 2 == 0 else reversed(both):
                    run = self.measure(which, process, scenario, number, pair)
                    self.runs.append(run)
            finally:
                if name == "hyper":
                    server.stop()
            mine, its = self.runs[-2:] if number % 2 == 0 else (self.runs[-1], self.runs[-2])
            say(
                f"round {number + 1}/{self.options.rounds}, {scenario.name}: {name} "
                f"{its.tally.rate:,.0f}/s, {its.cpu:.1f} µs; larder {mine.tally.rate:,.0f}/s, {mine.cpu:.1f} µs"
            )

    def select(self, server: str, scenario: str) -> list[Run]:
        return [run for run in self.runs if (run.server, run.scenario) == (server, scenario)]

    def pairs(self, server: str, scenario: str, of) -> list[float]:
        """The ratio to Larder's, in each pair."""
        ratios = []
        for its in self.select(server, scenario):
            for mine in self.select("larder", scenario):
                if (mine.round, mine.pair) == (its.round, its.pair) and of(mine) > 0:
                    ratios.append(of(its) / of(mine))
        return ratios

    def report(self) -> str:
        parts = [f"Machine: {machine()}. {self.options.rounds} rounds; medians.\n", LEGEND]
        header = ["server", "requests/s", "failed", "p50", "p99", "p99.9", "CPU", "Postgres", "busy", "MiB", "× Larder"]
        for scenario in self.scenarios:
            rows = []
            for name in self.options.servers:
                runs = self.select(name, scenario.name)
                if not runs:
                    continue
                of = lambda what: median([what(run) for run in runs])
                own = name == "larder"
                rows.append([
                    name,
                    figure(of(lambda run: run.tally.rate), 4),
                    f"{sum(run.tally.errors for run in runs):,}",
                    micros(of(lambda run: run.tally.p50)),
                    micros(of(lambda run: run.tally.p99)),
                    micros(of(lambda run: run.tally.p999)),
                    figure(of(cpu)),
                    figure(of(lambda run: run.postgres)),
                    f"{of(lambda run: run.busy):.0%}",
                    figure(of(lambda run: run.memory) / 2**20),
                    "1" if own else ratio(self.pairs(name, scenario.name, cpu)),
                ])
            parts.append(f"**{scenario.name}**\n\n" + table(header, rows))
        parts.append(self.targets())
        return "\n".join(parts)

    def targets(self) -> str:
        rows = []
        for target in TARGETS:
            values = self.pairs(target.server, target.scenario, target.of)
            if not target.at_least:
                values = [1 / value for value in values if value > 0]
            middle = median(values)
            if middle is None:
                met = "-"
            else:
                met = "yes" if (middle >= target.bound if target.at_least else middle <= target.bound) else "no"
            bound = f"at {'least' if target.at_least else 'most'} {target.bound}"
            rows.append([target.name, bound, ratio(values), met])
        return "**Targets**\n\n" + table(["what", "target", "measured", "met"], rows)


def raw_answer(port: int, load: wrk.Load) -> bytes:
    """A response as it is sent, without the headers of the connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", load.target, headers={"Accept-Encoding": "identity", **load.headers})
        answer = connection.getresponse()
        fields = "".join(f"{name}: {value}\r\n" for name, value in answer.getheaders())
        return f"HTTP/1.1 {answer.status} {answer.reason}\r\n{fields}\r\n".encode("latin-1") + answer.read()
    finally:
        connection.close()


def options():
    parser = argparse.ArgumentParser(
        prog="benches/compare/run",
        description="Compares Larder with a bare hyper server, with nginx and Varnish in front of a Flask server, and "
        "with that server itself: the same bytes, servers on one core, load on another. Prints a table; a chart "
        "and the single runs go to target/benches/compare. Exits with 1 when responses are wrong or fail, never "
        "because of a speed.",
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="NUMBER", help="how often to measure each (default: 5)")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="NUMBER", help="how long each time (default: 2)")
    parser.add_argument("--minutes", type=float, default=28.0, metavar="NUMBER", help="start nothing new after this time (default: 28)")
    parser.add_argument("--quick", action="store_true", help="one round of one second, to check that everything works")
    parser.add_argument("--servers", metavar="LIST", help=f"some of {', '.join(SERVERS)} (default: all); larder is always included")
    parser.add_argument("--scenarios", metavar="LIST", help="those whose names contain one of these, separated by '+'")
    parser.add_argument("--larder", type=Path, metavar="FILE", help="the program to measure, instead of building one")
    parser.add_argument("--list", action="store_true", help="print the scenarios and exit")
    parser.add_argument("--programs", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
    chosen = [name.strip() for name in options.servers.split(",")] if options.servers else SERVERS
    if unknown := set(chosen) - set(SERVERS):
        parser.error(f"unknown server: {', '.join(unknown)}")
    options.servers = [name for name in SERVERS if name in chosen or name == "larder"]
    options.scenarios = [part.strip() for part in options.scenarios.split("+")] if options.scenarios else []
    return options


def main() -> int:
    chosen = options()
    if chosen.list:
        print("\n".join(scenario.name for scenario in scenarios("")))
        return 0
    core, others = cores()
    if others == {core}:
        say("there is only one core: servers and load share it, and times mean little")
    prepare()
    chosen.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # Readable for servers that give up root.
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="larder-compare-")))
        folder.chmod(0o755)
        compare = Compare(chosen, folder)
        compare.start(stack)
        compare.run()
        text = compare.report()
    (chosen.out / "result.md").write_text(text)
    (chosen.out / "runs.json").write_text(json.dumps([asdict(run) for run in compare.runs]))
    draw(compare, chosen.out / "result.png")
    print(text)
    say(f"the chart and the single runs are in {chosen.out}")
    for complaint in sorted(set(compare.complaints)):
        print(f"error: {complaint}", file=sys.stderr)
    return 1 if compare.complaints else 0


if __name__ == "__main__":
    sys.exit(main())

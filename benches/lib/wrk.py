"""Load by wrk: a fixed number of connections, each of which sends its next request when it has the answer."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

SCRIPT = Path(__file__).parent / "wrk.lua"


@dataclass(frozen=True)
class Load:
    """What is requested, and over how many connections."""

    target: str
    connections: int = 64
    pipelined: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    keys: int = 0
    """If not 0, `%d` in the target is a random number up to this."""
    varied: bool = False
    """Whether each request has its own number in a header, so that hardly any is repeated."""


@dataclass(frozen=True)
class Tally:
    """The results of a run."""

    requests: int
    seconds: float
    errors: int
    """Responses other than 2xx and 3xx, and failed connections."""
    p50: float
    p99: float
    p999: float
    worst: float
    """Latencies, in microseconds."""

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def run(port: int, load: Load, seconds: float) -> Tally:
    command = ["wrk", "-t1", f"-c{load.connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"]
    command += ["-s", str(SCRIPT)]
    for name, value in load.headers.items():
        command += ["-H", f"{name}: {value}"]
    first = load.target.replace("%d", "1")
    command += [f"http://127.0.0.1:{port}{first}", "--", load.target, str(load.pipelined), str(load.keys)]
    command += ["varied"] * load.varied
    ran = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120)
    lines = [line for line in ran.stdout.splitlines() if line.startswith("{")]
    if ran.returncode != 0 or not lines:
        print(ran.stdout, ran.stderr, file=sys.stderr)
        raise RuntimeError(f"wrk failed: {' '.join(command)}")
    return Tally(**json.loads(lines[-1]))

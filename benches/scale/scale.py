"""What many endpoints, keys, clients and schedules cost: see --help."""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent.parent / "lib"))

import crowd
import endpoints
import keys
import rewrite
import schedules
from processes import prepare
from report import machine, say

PARTS = {
    "endpoints": endpoints.run,
    "keys": keys.run,
    "crowd": crowd.run,
    "rewrite": rewrite.run,
    "schedules": schedules.run,
}


def options():
    parser = argparse.ArgumentParser(
        prog="benches/scale/run",
        description="Measures Larder with many endpoints, many keys, many clients on a cold key, a large answer that "
        "is reloaded while it is read, and many schedules at once. Prints tables. Exits with 1 when a promise was "
        "broken (a failed request, more than one query for a cold key), never because of a speed.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--parts", default=",".join(PARTS), metavar="LIST", help="what to measure")
    parser.add_argument("--rounds", type=int, default=5, metavar="NUMBER", help="how often to measure each pair")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="NUMBER", help="how long each time")
    parser.add_argument("--endpoints", type=int, default=10_000, metavar="NUMBER", help="maximum number of endpoints")
    parser.add_argument("--keys", type=int, default=1_000_000, metavar="NUMBER", help="maximum number of keys")
    parser.add_argument("--clients", type=int, default=10_000, metavar="NUMBER", help="on a cold key")
    parser.add_argument("--schedules", type=int, default=1_000, metavar="NUMBER", help="in the same second")
    parser.add_argument("--quick", action="store_true", help="one short round with fewer, to check that everything works")
    parser.add_argument("--larder", type=Path, metavar="FILE", help="the program to measure, instead of building one")
    parser.add_argument("--programs", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
        options.endpoints, options.keys, options.clients, options.schedules = 1_000, 20_000, 1_000, 200
    options.parts = [part.strip() for part in options.parts.split(",")]
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    options.larder = options.larder or options.programs / "larder"
    return options


def main() -> int:
    chosen = options()
    prepare()
    chosen.out.mkdir(parents=True, exist_ok=True)
    parts, complaints = [f"Machine: {machine()}. {chosen.rounds} rounds; medians.\n"], []
    with TemporaryDirectory(prefix="larder-scale-") as folder:
        for part in chosen.parts:
            say(part)
            text, broken = PARTS[part](chosen, Path(folder))
            parts.append(text)
            complaints += broken
    text = "\n".join(parts)
    (chosen.out / "result.md").write_text(text)
    print(text)
    for complaint in complaints:
        print(f"error: {complaint}", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())

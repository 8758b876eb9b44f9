"""Output: tables in Markdown, and progress."""

import os
import platform
import statistics
import sys
import time
from pathlib import Path

BEGUN = time.monotonic()


def say(text: str):
    """Progress, on stderr."""
    elapsed = time.monotonic() - BEGUN
    print(f"[{int(elapsed // 60):2}:{int(elapsed % 60):02}] {text}", file=sys.stderr)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table whose first column is text; the others are numbers."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def figure(value: float | None, digits: int = 3) -> str:
    """A number with its significant digits."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    magnitude = len(str(int(abs(value))))
    return f"{value:,.{max(0, digits - magnitude)}f}"


def micros(value: float | None) -> str:
    """A time in microseconds, with its unit."""
    if value is None:
        return "-"
    return f"{value:.0f} µs" if value < 10_000 else f"{value / 1_000:,.0f} ms"


def median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def ratio(values: list[float]) -> str:
    """The median of the pairs, with the minimum and maximum."""
    if not values:
        return "-"
    low, high = min(values), max(values)
    return f"{figure(median(values))} ({figure(low)} to {figure(high)})"


def machine() -> str:
    """One line about this machine."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    load = os.getloadavg()[0]
    return (
        f"{model}, {os.cpu_count()} cores, Linux {platform.release()}; load average {load:.1f}"
    )

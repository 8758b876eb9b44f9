"""The comparison as a chart."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from report import median


def draw(compare, file: Path):
    """Processor time per request, by scenario and server."""
    scenarios = [scenario.name for scenario in compare.scenarios]
    figure, axes = pyplot.subplots(figsize=(11, 1.5 + 0.9 * len(scenarios)))
    servers = compare.options.servers
    height = 0.8 / len(servers)
    for at, server in enumerate(servers):
        places, lengths = [], []
        for row, scenario in enumerate(scenarios):
            if runs := compare.select(server, scenario):
                places.append(row + (at + 0.5) * height - 0.4)
                lengths.append(median([run.cpu for run in runs]))
        bars = axes.barh(places, lengths, height * 0.9, label=server)
        axes.bar_label(bars, fmt="{:,.1f}", padding=3, fontsize=7)
    axes.set_yticks(range(len(scenarios)), scenarios)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("processor time per request, µs (less is better)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="best")
    figure.tight_layout()
    figure.savefig(file, dpi=120)

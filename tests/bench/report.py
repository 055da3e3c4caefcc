"""Turns FOLDER/results.jsonl into FOLDER/report.md and FOLDER/report.svg.

Of each figure the median and the best of all rounds are told, and Alluvium's median as a multiple of Kafka's.
"""

import json
import os
import platform
import statistics
import sys
from collections import defaultdict
from pathlib import Path

# figure, heading, decimals, whether more is better
COLUMNS = [
    ("MiB_s", "MiB/s", 0, True),
    ("records_s", "records/s", 0, True),
    ("cpu_s_per_GiB", "broker CPU-s/GiB", 2, False),
    ("ack_p50_ms", "ack p50 ms", 1, False),
    ("ack_p99_ms", "ack p99 ms", 1, False),
    ("e2e_p50_ms", "e2e p50 ms", 1, False),
    ("e2e_p99_ms", "e2e p99 ms", 1, False),
    ("peak_rss_MiB", "peak RSS MiB", 0, False),
    ("puts_s", "PUTs/s", 1, None),
    ("gets", "GETs", 0, None),
]
TITLES = {"kafka": "Apache Kafka", "local": "Alluvium, local directory", "minio": "Alluvium, MinIO"}
COLORS = {"kafka": "#8a8f98", "local": "#2f6fde", "minio": "#d9822b"}


def read(folder):
    """{load: {target: {figure: [values]}}}, loads and targets in order of appearance."""
    loads = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for line in (folder / "results.jsonl").read_text().splitlines():
        entry = json.loads(line)
        load, target = entry.pop("load"), entry.pop("target")
        entry.pop("round")
        for figure, value in entry.items():
            loads[load][target][figure].append(value)
    return loads


def best(values, more):
    return max(values) if more else min(values)


def number(value, decimals):
    return f"{value:,.{decimals}f}"


def columns_of(load, targets):
    """Throughput says little under a fixed rate, and latency little without one."""
    paced = load.startswith("e2e")
    for figure, heading, decimals, more in COLUMNS:
        if paced and figure in ("MiB_s", "records_s") or not paced and figure.startswith("ack"):
            continue
        if any(figure in figures for figures in targets.values()):
            yield figure, heading, decimals, more


def table(load, targets):
    columns = list(columns_of(load, targets))
    yield f"| {load} | " + " | ".join(heading for _, heading, _, _ in columns) + " |"
    yield "| --- |" + " ---: |" * len(columns)
    for target, figures in targets.items():
        cells = []
        for figure, _, decimals, more in columns:
            values = figures.get(figure)
            if not values:
                cells.append("–")
                continue
            cell = number(statistics.median(values), decimals)
            if len(values) > 1 and more is not None:
                cell += f" ({number(best(values, more), decimals)})"
            base = targets.get("kafka", {}).get(figure) if target != "kafka" else None
            if base and statistics.median(base) > 0:
                cell += f" **{statistics.median(values) / statistics.median(base):.2f}×**"
            cells.append(cell)
        yield f"| {TITLES[target]} | " + " | ".join(cells) + " |"
    yield ""


def markdown(loads):
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    yield "# Alluvium beside Apache Kafka"
    yield ""
    yield f"{os.cpu_count()} CPUs, {memory:.0f} GiB, {platform.system()} {platform.release()}; client and broker share the machine."
    yield "Medians, in brackets the best round, in bold the multiple of Kafka's median. Kafka does not fsync; Alluvium's local directory does."
    yield ""
    yield "![the figures as bars](report.svg)"
    yield ""
    for load, targets in loads.items():
        if load == "start":
            for target, figures in targets.items():
                yield f"- {TITLES[target]}: {figures['first_ack_ms'][0]:.0f} ms from the start to the first acknowledged record"
            yield ""
        elif load == "idle":
            for target, figures in targets.items():
                yield f"- {TITLES[target]}: {figures['rss_MiB'][0]:.0f} MiB resident before any load"
            yield ""
        else:
            yield from table(load, targets)


def svg(loads):
    """One panel a figure: a group of bars for each load that has it, each bar as a share of the group's longest."""
    rows = []
    for figure, heading, decimals, _ in COLUMNS[:1] + [c for c in COLUMNS if c[0] in ("cpu_s_per_GiB", "e2e_p50_ms", "e2e_p99_ms")]:
        groups = []
        for load, targets in loads.items():
            paced = load.startswith("e2e")
            if figure == "MiB_s" and paced or figure.startswith("e2e") and not paced:
                continue
            bars = [(t, statistics.median(f[figure])) for t, f in targets.items() if f.get(figure)]
            if bars:
                groups.append((load, bars))
        if groups:
            rows.append((heading, decimals, groups))
    out, y = [], 16
    for heading, decimals, groups in rows:
        out.append(f'<text x="16" y="{y + 14}" font-weight="600">{heading}</text>')
        y += 28
        for load, bars in groups:
            longest = max(value for _, value in bars) or 1
            out.append(f'<text x="16" y="{y + 12}">{load}</text>')
            for target, value in bars:
                width = max(2, 380 * value / longest)
                out.append(f'<rect x="190" y="{y}" width="{width:.1f}" height="14" rx="2" fill="{COLORS[target]}"/>')
                out.append(f'<text x="{196 + width:.1f}" y="{y + 12}">{number(value, decimals)}</text>')
                y += 18
            y += 8
        y += 12
    shown = dict.fromkeys(target for targets in loads.values() for target in targets)
    for place, target in enumerate(shown):
        x = 16 + 210 * place
        out.append(f'<rect x="{x}" y="{y}" width="14" height="14" rx="2" fill="{COLORS[target]}"/>')
        out.append(f'<text x="{x + 20}" y="{y + 12}">{TITLES[target]}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="680" height="{y + 30}" font-family="system-ui, sans-serif" font-size="12" fill="#24292f">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#ffffff"/>', *out, "</svg>", ""])


def main():
    folder = Path(sys.argv[1])
    loads = read(folder)
    text = "\n".join(markdown(loads))
    (folder / "report.md").write_text(text + "\n")
    (folder / "report.svg").write_text(svg(loads))
    print(text)


main()

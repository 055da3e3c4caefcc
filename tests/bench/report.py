"""Turns FOLDER/results.jsonl into FOLDER/report.md and FOLDER/report.svg.

Of each figure the median and the best of all rounds are told, and Alluvium's median as a multiple of Kafka's. The targets come first:
each with its value and whether the medians meet it.
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
    ("store_put_p50_ms", "store's own PUT p50 ms", 1, False),
    ("store_put_p99_ms", "store's own PUT p99 ms", 1, False),
    ("e2e_p50_ms", "e2e p50 ms", 1, False),
    ("e2e_p99_ms", "e2e p99 ms", 1, False),
    ("peak_rss_MiB", "peak RSS MiB", 0, False),
    ("segments_s", "segments/s", 1, None),
    ("puts_s", "PUTs/s", 1, None),
    ("gets", "GETs", 0, None),
    ("reader_gets", "of readers", 0, None),
]
TITLES = {"kafka": "Apache Kafka", "local": "Alluvium, local directory", "minio": "Alluvium, MinIO", "store": "MinIO's own PUT"}
# At most or at least so many times Kafka's figure: target, load, figure, at least, factor.
AT_LEAST, AT_MOST = True, False
MULTIPLES = [
    ("local", "produce", "MiB_s", AT_LEAST, 1.2),
    ("local", "produce", "cpu_s_per_GiB", AT_MOST, 0.3),
    ("minio", "produce", "cpu_s_per_GiB", AT_MOST, 0.4),
    ("local", "consume", "MiB_s", AT_LEAST, 1.0),
    ("local", "consume", "cpu_s_per_GiB", AT_MOST, 1.0),
    *[
        ("local", load, figure, at_least, factor)
        for load in ("produce-100B", "produce-lz4", "produce-100-partitions")
        for figure, at_least, factor in (("MiB_s", AT_LEAST, 1.0), ("cpu_s_per_GiB", AT_MOST, 0.5))
    ],
    *[("local", load, figure, AT_MOST, 1.0) for load in ("e2e-5000", "e2e-50000") for figure in ("e2e_p50_ms", "e2e_p99_ms")],
    ("local", "e2e-5000", "cpu_s_per_GiB", AT_MOST, 0.5),
]
# What a broker is started with when nothing is set.
FLUSH_INTERVAL_MS, FLUSH_MIB = 100, 8
CACHES_MIB, BUFFERS_MIB, REST_MIB = 128 + 128, 256, 64
IDLE_MIB = 40
FIRST_ACK_MS = {"local": 300, "minio": 1000}

COLORS = {"kafka": "#8a8f98", "local": "#2f6fde", "minio": "#d9822b", "store": "#3a9d5d"}


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


def figures_of(loads, load, target, figure):
    return loads.get(load, {}).get(target, {}).get(figure) or []


def multiples(loads):
    headings = {figure: heading for figure, heading, _, _ in COLUMNS}
    for target, load, figure, at_least, factor in MULTIPLES:
        ours, kafkas = figures_of(loads, load, target, figure), figures_of(loads, load, "kafka", figure)
        if not ours or not kafkas or not statistics.median(kafkas):
            continue
        value = statistics.median(ours) / statistics.median(kafkas)
        told = f"{value:.2f} ×"
        if len(ours) > 1 and best(kafkas, at_least):
            told += f" (the best: {best(ours, at_least) / best(kafkas, at_least):.2f} ×)"
        sign = "≥" if at_least else "≤"
        yield f"{load}, {target}: {headings[figure]}", f"{sign} {factor} × Kafka", told, value >= factor if at_least else value <= factor


def acknowledgements(loads):
    """A record waits for half an interval on average, and for a whole one at most; then for the store."""
    for load in loads:
        for share, wait, why in (
            ("p50", FLUSH_INTERVAL_MS / 2 + 3, "half the interval + 3 ms"),
            ("p99", FLUSH_INTERVAL_MS, "the interval"),
        ):
            acks, puts = (figures_of(loads, load, "minio", f"{name}_{share}_ms") for name in ("ack", "store_put"))
            if acks and puts:
                limit = statistics.median(puts) + wait
                value = statistics.median(acks)
                told = f"{value:.1f} ms" + (f" (the best: {min(acks):.1f} ms)" if len(acks) > 1 else "")
                yield f"{load}, minio: ack {share}", f"≤ {limit:.1f} ms: the store's PUT {share} + {why}", told, value <= limit


def memory(loads):
    for target in ("local", "minio"):
        idle = figures_of(loads, "idle", target, "rss_MiB")
        if idle:
            yield f"{target}: memory, idle", f"≤ {IDLE_MIB} MiB", f"{max(idle):.0f} MiB", max(idle) <= IDLE_MIB
        peaks = [(max(figures["peak_rss_MiB"]), load) for load in loads if (figures := loads[load].get(target, {})).get("peak_rss_MiB")]
        if peaks:
            limit = CACHES_MIB + BUFFERS_MIB + REST_MIB
            value, load = max(peaks)
            yield f"{target}: memory, at most", f"≤ {limit} MiB: caches + buffers + {REST_MIB} MiB", f"{value:.0f} MiB ({load})", value <= limit


def requests(loads):
    """Each round of each load by itself; the one that comes nearest to its limit is told."""
    rounds = []
    for load in loads:
        figures = loads[load].get("minio", {})
        for puts, mib in zip(figures.get("segments_s", []), figures.get("MiB_s", [])):
            limit = 1000 / FLUSH_INTERVAL_MS + mib / FLUSH_MIB
            rounds.append((puts / limit, puts, limit, load))
    if rounds:
        share, puts, limit, load = max(rounds)
        yield "minio: PUTs of segments/s", f"≤ {limit:.1f}: 1/interval + bytes/{FLUSH_MIB} MiB", f"{puts:.1f} ({load})", share <= 1
    for target in ("local", "minio"):
        tailing = [gets for load in loads if load.startswith("e2e") for gets in figures_of(loads, load, target, "reader_gets")]
        if tailing:
            yield f"{target}: GETs while tailing", "0", number(sum(tailing), 0), sum(tailing) == 0


def starts(loads):
    for target, limit in FIRST_ACK_MS.items():
        took = figures_of(loads, "start", target, "first_ack_ms")
        if took:
            yield f"{target}: start to first ack", f"< {limit} ms", f"{took[0]:.0f} ms", took[0] < limit


def targets_table(loads):
    rows = [row for rule in (multiples, acknowledgements, requests, memory, starts) for row in rule(loads)]
    if not rows:
        return
    met = sum(row[3] for row in rows)
    yield f"{met} of {len(rows)} targets are met:"
    yield ""
    yield "| | target | median | met |"
    yield "| --- | --- | --- | --- |"
    for what, target, value, is_met in rows:
        yield f"| {what} | {target} | {value} | {'yes' if is_met else '**no**'} |"
    yield ""


def columns_of(load, targets):
    """Throughput says little under a fixed rate, and latency little without one."""
    paced = load.startswith(("e2e", "ack"))
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
    yield from targets_table(loads)
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
    shown_figures = ("MiB_s", "cpu_s_per_GiB", "ack_p50_ms", "ack_p99_ms", "e2e_p50_ms", "e2e_p99_ms")
    for figure, heading, decimals, _ in [column for column in COLUMNS if column[0] in shown_figures]:
        groups = []
        for load, targets in loads.items():
            paced = load.startswith(("e2e", "ack"))
            # Of the load for acknowledgements these alone, and of no other load.
            if figure == "MiB_s" and paced or figure.startswith("ack") != load.startswith("ack"):
                continue
            bars = [(t, statistics.median(f[figure])) for t, f in targets.items() if f.get(figure)]
            puts = targets.get("minio", {}).get(figure.replace("ack", "store_put"))
            if puts and figure.startswith("ack"):
                bars.append(("store", statistics.median(puts)))
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
    drawn = dict.fromkeys(target for _, _, groups in rows for _, bars in groups for target, _ in bars)
    x = 16
    for target in drawn:
        out.append(f'<rect x="{x}" y="{y}" width="14" height="14" rx="2" fill="{COLORS[target]}"/>')
        out.append(f'<text x="{x + 20}" y="{y + 12}">{TITLES[target]}</text>')
        x += 44 + 7 * len(TITLES[target])
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

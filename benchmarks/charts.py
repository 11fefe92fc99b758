#!/usr/bin/env python3
"""charts.py FIGURES.json DIRECTORY: two SVG charts of what guestram-bench measured.

performance-ratio.svg: each case's time over its baseline's, on a logarithmic scale.
performance-latency.svg: what one fault takes, ours beside each baseline.
"""

import json
import math
import sys
from html import escape
from pathlib import Path

WIDTH, LABEL, ROW, TOP = 860, 330, 26, 58
INK, MUTED, GRID, OURS, SLOWER, BASELINE = (
    "#1f2937", "#6b7280", "#e5e7eb", "#0f766e", "#b45309", "#94a3b8")


def text(x, y, content, anchor="start", color=INK, size=13):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" '
            f'font-size="{size}">{escape(content)}</text>')


def bar(x, y, width, color):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="12" fill="{color}"/>'


def line(x, bottom, color=GRID):
    return f'<path d="M{x:.1f} {TOP - 8}V{bottom}" stroke="{color}"/>'


def document(title, subtitle, height, body):
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="system-ui, sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        text(16, 24, title, size=16), text(16, 42, subtitle, color=MUTED, size=12),
        *body, "</svg>", ""])


def ratios(figures):
    rows = [f for f in figures if not f["name"].startswith(("mem.", "lib.", "path.", "floor"))
            and ".4to1" not in f["name"]
            and f["ratio"] > 0]
    bottom = TOP + ROW * len(rows)
    powers = range(math.floor(math.log2(min(f["ratio"] for f in rows))) - 1,
                   math.ceil(math.log2(max(f["ratio"] for f in rows))) + 2)
    span = WIDTH - LABEL - 180

    def place(ratio):
        share = (math.log2(ratio) - powers[0]) / (powers[-1] - powers[0])
        return LABEL + span * share

    step = 1 + len(powers) // 9
    body = []
    for power in powers[::step]:
        label = str(2 ** power) if power >= 0 else f"1/{2 ** -power}"
        body += [line(place(2.0 ** power), bottom),
                 text(place(2.0 ** power), bottom + 18, label, "middle", MUTED, 11)]
    body.append(line(place(1), bottom, INK))
    for index, figure in enumerate(rows):
        y, ratio = TOP + ROW * index, figure["ratio"]
        ends = sorted((place(1), place(ratio)))
        color = OURS if ratio <= 1 else SLOWER
        body += [text(LABEL - 10, y + 10, figure["name"], "end"),
                 bar(ends[0], y, ends[1] - ends[0], color),
                 text(ends[1] + 6, y + 10, f"{ratio:.2f}  vs {figure['baseline_name']}",
                      color=MUTED, size=11)]
    return document("Time over the baseline's, by case",
                    "Left of 1: the library is faster. Logarithmic scale.", bottom + 30, body)


def latencies(figures):
    rows = [f for f in figures if f["unit"] == "us"]
    bottom = TOP + 2 * ROW * len(rows)
    most = max(max(f["ours"], f["baseline"]) for f in rows)
    span = WIDTH - LABEL - 200
    body = []
    for index, figure in enumerate(rows):
        y = TOP + 2 * ROW * index
        body.append(text(LABEL - 10, y + 18, figure["name"], "end"))
        for offset, value, color, name in (
                (0, figure["ours"], OURS, "ours"),
                (15, figure["baseline"], BASELINE, figure["baseline_name"])):
            width = span * value / most
            body += [bar(LABEL, y + offset, width, color),
                     text(LABEL + width + 6, y + offset + 10, f"{value:.1f}  {name}",
                          color=MUTED, size=11)]
    return document("What one fault takes", "Microseconds, medians of rounds.", bottom + 10, body)


def main(source, directory):
    figures = [f for f in json.loads(Path(source).read_text()) if not f["name"].endswith(".aa")]
    Path(directory).mkdir(parents=True, exist_ok=True)
    charts = {"ratio": ratios, "latency": latencies}
    for name, chart in charts.items():
        usable = figures if name == "ratio" else [f for f in figures if f["unit"] == "us"]
        if usable:
            Path(directory, f"performance-{name}.svg").write_text(chart(usable))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])

# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dashboard: one HTML file without anything from elsewhere, drawn from the JSON lines of a run, outside of training."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .durable import replace_text
from .errors import DataError

WIDTH, HEIGHT, LEFT, BOTTOM = 560, 220, 64, 24
MOST_POINTS = 600  # of one curve; more are thinned, each kept point being the last of its group
COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed")
# chart -> the names of its curves in metrics.jsonl or in events
CHARTS: Mapping[str, tuple[str, ...]] = {
    "Loss": ("loss", "val_loss", "mean_loss"), "Learning rate": ("lr",), "Gradient norm": ("grad_norm",),
    "Accuracy": ("val_accuracy", "val_top5"), "Confidence": ("val_confidence", "val_entropy", "val_calibration_error"),
    "Drift": ("drift_score", "drift_threshold"),
}
STYLE = ("body{font:14px system-ui,sans-serif;margin:24px;color:#111}h1{font-size:20px}h2{font-size:15px;margin:0 0 4px}"
         "section{display:inline-block;margin:0 16px 24px 0;vertical-align:top}table{border-collapse:collapse}"
         "td,th{padding:2px 12px 2px 0;text-align:left}text{font-size:11px;fill:#555}")
Point = tuple[float, float]


def dashboard(run_dir: Path, target: Path) -> Path:
    """Write the dashboard of a run. Raises DataError where there is no metrics.jsonl, or a line of it is not JSON."""
    curves = read_curves(_lines(run_dir / "metrics.jsonl"))
    events = _lines(run_dir / "events.jsonl") if (run_dir / "events.jsonl").exists() else []
    status = _lines_of_status(run_dir / "status.json")
    for event in events:
        if event.get("event") == "drift":
            curves.setdefault("drift_score", []).append((_number(event["step"]), _number(event["score"])))
            curves.setdefault("drift_threshold", []).append((_number(event["step"]), _number(event["threshold"])))
    charts = [chart(title, {name: curves[name] for name in names if name in curves}) for title, names in CHARTS.items()]
    body = "".join(part for part in charts if part)
    title = html.escape(f"{run_dir.resolve().name}: step {status.get('step', '?')}, {status.get('phase', 'unknown')}")
    page = (f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
            f"<h1>{title}</h1>{body}{_event_table(events)}</html>\n")
    replace_text(target, page)
    return target


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except FileNotFoundError:
        raise DataError(f"there is no {path}; give the run folder of a run that has begun") from None
    except ValueError as error:
        raise DataError(f"{path} holds a line that is not JSON: {error}") from error


def _lines_of_status(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _number(value: Any) -> float:
    """Numbers as they are; the texts that stand for NaN and infinity in the log as floats."""
    return float(value)


def read_curves(lines: Iterable[Mapping[str, Any]]) -> dict[str, list[Point]]:
    """name -> (step, value) of everything that is drawn."""
    wanted = {name for names in CHARTS.values() for name in names}
    out: dict[str, list[Point]] = {}
    for line in lines:
        for name in wanted & line.keys():
            out.setdefault(name, []).append((float(line["step"]), _number(line[name])))
    return out


def chart(title: str, curves: Mapping[str, Sequence[Point]]) -> str:
    """One chart as SVG; empty text where no curve has a finite point."""
    drawn = {name: thinned([point for point in points if math.isfinite(point[1])]) for name, points in curves.items()}
    points = [point for curve in drawn.values() for point in curve]
    if not points:
        return ""
    right, low = max(x for x, dummy in points), min(y for dummy, y in points)
    left, high = min(x for x, dummy in points), max(y for dummy, y in points)
    spans = (right - left or 1.0, high - low or 1.0)

    def place(point: Point) -> str:
        return (f"{LEFT + (point[0] - left) / spans[0] * (WIDTH - LEFT - 8):.1f},"
                f"{8 + (high - point[1]) / spans[1] * (HEIGHT - BOTTOM - 16):.1f}")

    def draw(curve: Sequence[Point], colour: str) -> str:
        if len(curve) == 1:  # a line of one point is not to be seen
            x, y = place(curve[0]).split(",")
            return f'<circle fill="{colour}" r="3" cx="{x}" cy="{y}"/>'
        return f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{" ".join(map(place, curve))}"/>'

    lines = "".join(draw(curve, COLOURS[number % len(COLOURS)]) for number, curve in enumerate(drawn.values()))
    legend = " ".join(f'<span style="color:{COLOURS[number % len(COLOURS)]}">&#9632; {html.escape(name)} {curve[-1][1]:.5g}</span>'
                      for number, (name, curve) in enumerate(drawn.items()) if curve)
    axes = (f'<text x="0" y="16">{high:.4g}</text><text x="0" y="{HEIGHT - BOTTOM}">{low:.4g}</text>'
            f'<text x="{LEFT}" y="{HEIGHT - 4}">step {left:g}</text><text x="{WIDTH - 70}" y="{HEIGHT - 4}">step {right:g}</text>')
    return (f'<section><h2>{html.escape(title)}</h2><svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{html.escape(title)}">'
            f"{lines}{axes}</svg><div>{legend}</div></section>")


def thinned(points: Sequence[Point]) -> list[Point]:
    """At most MOST_POINTS of them, the last one among them."""
    every = -(-len(points) // MOST_POINTS) or 1
    return [point for number, point in enumerate(points, 1) if number % every == 0 or number == len(points)]


def _event_table(events: Sequence[Mapping[str, Any]]) -> str:
    """What happened, the newest first; texts come from logs, so all of them are escaped."""
    rows = "".join(f"<tr><td>{html.escape(str(event.get('event')))}<td>" + html.escape(", ".join(
        f"{name} {value}" for name, value in event.items() if name not in ("event", "time"))) for event in reversed(events[-200:]))
    return f"<section><h2>Events</h2><table>{rows}</table></section>" if rows else ""

"""Plots as SVG by hand: lines, stacked columns, bars and a diagonal. Knows numbers and names, not what they mean.

A plot is as wide as its place and takes its colours from the page's style sheet (classes c0 to c5), so that it is right
in light and in dark. Nothing is loaded and nothing runs: what there is to read is in the SVG.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 26
COLOURS = 6
POINTS_MAX = 400
"""Of a line; of more, every so many-th is drawn, with the extremes between."""
TICKS = 5


@dataclass(frozen=True, slots=True)
class Line:
    """x: numbers, or seconds since 1970 where the plot is over time. NaN breaks the line."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where numbers go on the picture."""

    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, value: float) -> float:
        return LEFT + (value - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM)


def lines(
    alt: str,
    series: Sequence[Line],
    say: Callable[[float], str],
    *,
    over_time: bool = True,
    zero: bool = True,
    diagonal: bool = False,
) -> str:
    """Draw lines over time or over numbers.

    Args:
        say: how a number of the y axis is written.
        zero: the y axis reaches 0.
        diagonal: both axes go from 0 to 1, and what is equal is marked.
    """
    drawn = [_thinned(line) for line in series if any(map(math.isfinite, line.y))]
    if not drawn:
        return ""
    values = [y for line in drawn for y in line.y if math.isfinite(y)] + ([0.0] if zero else [])
    xs = [x for line in drawn for x in line.x]
    ticks = _ticks(*((0.0, 1.0) if diagonal else (min(values), max(values))))
    frame = _Frame(*((0.0, 1.0) if diagonal else _wide(min(xs), max(xs))), ticks[0], ticks[-1])
    parts = [_y_axis(frame, ticks, say)]
    parts.append(_time_axis(frame) if over_time else _x_axis(frame, [0, 0.25, 0.5, 0.75, 1], say))
    if diagonal:
        ends = f"{frame.x(0):.1f},{frame.y(0):.1f} {frame.x(1):.1f},{frame.y(1):.1f}"
        parts.append(f'<polyline class="even" points="{ends}"/>')
    for i, line in enumerate(drawn):
        for points in _runs(frame, line):
            if " " in points:
                parts.append(f'<polyline class="line c{i % COLOURS}" points="{points}"/>')
            if diagonal or " " not in points:
                spots = (point.split(",") for point in points.split())
                parts += [f'<circle class="spot c{i % COLOURS}" r="3" cx="{x}" cy="{y}"/>' for x, y in spots]
    return _picture(alt, parts) + _legend([line.name for line in drawn])


def columns(alt: str, labels: Sequence[str], stacks: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Draw columns of counts, stacked: one label each, and for each part of the stack its name and numbers."""
    totals = [sum(numbers[i] for _, numbers in stacks) for i in range(len(labels))]
    if not totals or not max(totals):
        return ""
    ticks = _ticks(0.0, float(max(totals)))
    frame = _Frame(0.0, float(len(labels)), ticks[0], ticks[-1])
    parts = [_y_axis(frame, ticks, count)]
    width = (WIDTH - LEFT - RIGHT) / len(labels)
    below = [0.0] * len(labels)
    for part, (_, numbers) in enumerate(stacks):
        for i, number in enumerate(numbers):
            if number:
                top, height = frame.y(below[i] + number), frame.y(below[i]) - frame.y(below[i] + number)
                place = (
                    f'x="{frame.x(i) + 0.1 * width:.1f}" y="{top:.1f}" width="{0.8 * width:.1f}" height="{height:.2f}"'
                )
                parts.append(f'<rect class="bar c{part % COLOURS}" {place}/>')
                below[i] += number
    told = range(0, len(labels), math.ceil(len(labels) / 8))
    parts += [_text(frame.x(i + 0.5), HEIGHT - 8, labels[i], "middle") for i in told]
    return _picture(alt, parts) + (_legend([name for name, _ in stacks]) if len(stacks) > 1 else "")


def bars(alt: str, rows: Sequence[tuple[str, float]], say: Callable[[float], str]) -> str:
    """Draw horizontal bars, one a row; numbers ≥ 0."""
    if not rows or not max(number for _, number in rows):
        return ""
    step, left = 20, 220
    height = step * len(rows) + 8
    largest = max(number for _, number in rows)
    parts = []
    for i, (name, number) in enumerate(rows):
        y = 4 + step * i
        wide = (WIDTH - left - 70) * number / largest
        parts.append(_text(left - 8, y + 14, name, "end"))
        parts.append(f'<rect class="bar c0" x="{left}" y="{y + 3}" width="{wide:.1f}" height="{step - 6}"/>')
        parts.append(_text(left + wide + 6, y + 14, say(number), "start"))
    return _picture(alt, parts, height)


def count(number: float) -> str:
    """Write a count: 950, 12k, 3.4M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def _picture(alt: str, parts: Sequence[str], height: int = HEIGHT) -> str:
    body, said = "".join(parts), html.escape(alt)
    return f'<svg role="img" aria-label="{said}" viewBox="0 0 {WIDTH} {height}"><title>{said}</title>{body}</svg>'


def _legend(names: Sequence[str]) -> str:
    keys = (f'<span><i class="c{i % COLOURS}"></i>{html.escape(name)}</span>' for i, name in enumerate(names))
    return f'<p class="legend">{"".join(keys)}</p>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _y_axis(frame: _Frame, ticks: Sequence[float], say: Callable[[float], str]) -> str:
    parts = []
    for tick in ticks:
        y = frame.y(tick)
        kind = "zero" if tick == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 6, y + 4, say(tick), "end"))
    return "".join(parts)


def _x_axis(frame: _Frame, ticks: Sequence[float], say: Callable[[float], str]) -> str:
    return "".join(_text(frame.x(tick), HEIGHT - 8, say(tick), _anchor(i, len(ticks))) for i, tick in enumerate(ticks))


def _time_axis(frame: _Frame) -> str:
    parts, days = [], (frame.x1 - frame.x0) / 86_400
    shape = "%d %b" if days > 3 else "%d %b %H:%M"
    for i in range(TICKS):
        at = frame.x0 + (frame.x1 - frame.x0) * i / (TICKS - 1)
        said = datetime.fromtimestamp(at, UTC).strftime(shape)
        parts.append(_text(frame.x(at), HEIGHT - 8, said, _anchor(i, TICKS)))
    return "".join(parts)


def _anchor(i: int, count: int) -> str:
    """Return how a label below the plot is placed, so that the outer ones stay on the picture."""
    return "start" if i == 0 else "end" if i == count - 1 else "middle"


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers from below the lowest to above the highest."""
    low, high = _wide(low, high)
    rough = (high - low) / (TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _wide(low: float, high: float) -> tuple[float, float]:
    """Return ends that are apart, as a scale needs them."""
    return (low, high) if high > low else (low - 0.5, high + 0.5) if low else (0.0, 1.0)


def _thinned(line: Line) -> Line:
    """Keep of a long line the lowest and the highest point of each stretch: no spike is lost."""
    if len(line.x) <= POINTS_MAX:
        return line
    stretch = math.ceil(2 * len(line.x) / POINTS_MAX)
    kept: list[int] = []
    for start in range(0, len(line.x), stretch):
        some = [i for i in range(start, min(start + stretch, len(line.x))) if math.isfinite(line.y[i])]
        if some:
            kept += sorted({min(some, key=lambda i: line.y[i]), max(some, key=lambda i: line.y[i])})
    return Line(line.name, [line.x[i] for i in kept], [line.y[i] for i in kept])


def _runs(frame: _Frame, line: Line) -> list[str]:
    """Return the points of each stretch without a gap."""
    runs: list[list[str]] = [[]]
    for x, y in zip(line.x, line.y, strict=True):
        if math.isfinite(y):
            runs[-1].append(f"{frame.x(x):.1f},{frame.y(y):.1f}")
        elif runs[-1]:
            runs.append([])
    return [" ".join(run) for run in runs if run]

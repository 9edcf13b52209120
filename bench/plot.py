"""Draws latency against offered load as SVG, by hand. Knows curves, no measure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 170, 50, 60


@dataclass(frozen=True, slots=True)
class Curve:
    """Points (x, y), joined by a line."""

    label: str
    colour: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


def svg(title: str, subtitle: str, x_label: str, y_label: str, curves: Sequence[Curve]) -> str:
    """Return the picture: x linear from 0, y logarithmic over whole decades."""
    every = [point for curve in curves for point in curve.points]
    x_step = _nice(max(x for x, _ in every) / 6)
    x_steps = math.ceil(max(x for x, _ in every) / x_step)
    x_max = x_steps * x_step
    low = math.floor(math.log10(min(y for _, y in every)))
    high = max(low + 1, math.ceil(math.log10(max(y for _, y in every))))

    def x_of(x: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * x / x_max

    def y_of(y: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (math.log10(y) - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#333">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 20, title, 'font-size="15" font-weight="bold"'),
        _text(LEFT, 38, subtitle, 'fill="#777" font-size="10"'),
    ]
    for decade in range(low, high + 1):
        for step in (1, 2, 5):
            value = step * 10.0**decade
            if decade == high and step > 1:
                break
            y = y_of(value)
            shade = "#ccc" if step == 1 else "#eee"
            parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{shade}"/>')
            parts.append(_text(LEFT - 8, y + 4, f"{value:g}", 'text-anchor="end"'))
    for i in range(x_steps + 1):
        x = x_of(i * x_step)
        parts.append(f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#eee"/>')
        parts.append(_text(x, HEIGHT - BOTTOM + 18, f"{i * x_step:,g}", 'text-anchor="middle"'))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 16, x_label, 'text-anchor="middle"'))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(_text(18, middle, y_label, f'text-anchor="middle" transform="rotate(-90 18 {middle})"'))
    for i, curve in enumerate(curves):
        places = [(x_of(x), y_of(y)) for x, y in curve.points]
        dash = ' stroke-dasharray="5 4"' if curve.dashed else ""
        way = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path d="M{way}" fill="none" stroke="{curve.colour}" stroke-width="2"{dash}/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{curve.colour}"/>' for x, y in places]
        x, y = WIDTH - RIGHT + 12, TOP + 12 + 20 * i
        parts.append(f'<path d="M{x} {y}h22" stroke="{curve.colour}" stroke-width="2"{dash}/>')
        parts.append(_text(x + 28, y + 4, curve.label))
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, words: str, more: str = "") -> str:
    escaped = words.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escaped}</text>'


def _nice(value: float) -> float:
    """Return the next larger 1, 2 or 5 × 10^n."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)

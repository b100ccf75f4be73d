"""Small figures for the cards of a report: rows of intervals, and curves."""

import math
from typing import NamedTuple

from glscl.report.figures.svg import Axis, Box, Drawing, text_width

WIDTH, ROW = 330, 21  # pixels


class Row(NamedTuple):
    """A value with its interval, where it has one; without a value the name is a heading. `hero` stands out."""

    name: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    hero: bool = False


def intervals(
    title: str, rows: list[Row], rule: float | None = None, log: bool = False, unit: str = "", width: int = WIDTH
) -> Drawing:
    """One row per name with a dot and its interval, and the value in figures at the right.

    rule: a value with a dashed line, such as 0 or 100. log: equal factors at equal distances. unit: after each figure.
    width: in pixels.
    """
    told = [row for row in rows if row.value is not None]
    if not told:
        raise ValueError(f"the figure {title!r} needs one value at least, got none; leave it out.")
    names = max(text_width(row.name, 12) for row in told) + 8
    kind = ".3g" if log else ".1f"
    figures = {row: f"{format(row.value, kind)}{unit}".replace("-", "\N{MINUS SIGN}") for row in told}
    right = max(text_width(figure, 12) for figure in figures.values()) + 8
    frame = Box(12 + names, 40, width - 12 - right, 46 + ROW * len(rows))
    edges = [v for row in told for v in (row.value, row.low, row.high) if v is not None]
    edges += [] if rule is None else [rule]
    low, high = min(edges), max(edges)
    room = (high / low) ** 0.06 if log else (high - low or 1.0) * 0.06
    x = Axis(low / room if log else low - room, high * room if log else high + room, frame.left, frame.right, log)
    drawing = Drawing(width, frame.bottom + 30, title, "; ".join(f"{row.name} {figures[row]}" for row in told))
    drawing.text(12, 22, title, "small")
    for tick in x.ticks(4):
        drawing.line(x(tick), frame.top - 4, x(tick), frame.bottom, "grid")
        drawing.text(
            x(tick), frame.bottom + 17, f"{tick:,.10g}".replace("-", "\N{MINUS SIGN}"), "small muted", "middle"
        )
    if rule is not None:
        drawing.line(x(rule), frame.top - 4, x(rule), frame.bottom, "rule")
    for number, row in enumerate(rows):
        middle = frame.top + ROW * (number + 0.5)
        kind = "hero-" if row.hero else ""
        if row.value is None:
            drawing.text(12, middle + 5, row.name, "small muted")
            continue
        drawing.text(frame.left - 8, middle + 4, row.name, "small hero-text" if row.hero else "small", "end")
        if row.low is not None:
            drawing.line(x(row.low), middle, x(row.high), middle, f"{kind}bar")
        drawing.dot(x(row.value), middle, f"{kind}dot", radius=4)
        drawing.text(width - 12, middle + 4, figures[row], "small muted", "end")
    return drawing


class Line(NamedTuple):
    """A curve of (x, y) points; a named one has its name at its right end, and `hero` stands out."""

    name: str
    points: list[tuple[float, float]]
    named: bool = False
    hero: bool = False


def curves(title: str, lines: list[Line], below: str) -> Drawing:
    """Curves over common axes; below: what the horizontal axis shows. Names at the ends keep their distance."""
    if not lines:
        raise ValueError(f"the figure {title!r} needs one curve at least, got none; leave it out.")
    named = [line for line in lines if line.named or line.hero]
    right = max((text_width(line.name, 12) for line in named), default=0) * 1.06 + 18
    frame = Box(40, 36, WIDTH - right, 172)
    xs, ys = zip(*(point for line in lines for point in line.points), strict=True)
    x = Axis(min(xs), max(max(xs), min(xs) + 1), frame.left, frame.right)
    room = (max(ys) - min(ys) or 1.0) * 0.06
    y = Axis(min(ys) - room, max(ys) + room, frame.bottom, frame.top)
    drawing = Drawing(WIDTH, 220, title, "; ".join(f"{line.name} ends at {line.points[-1][1]:.1f}" for line in lines))
    drawing.text(12, 22, title, "small")
    for tick in y.ticks(4):
        drawing.line(frame.left, y(tick), frame.right, y(tick), "grid")
        drawing.text(frame.left - 6, y(tick) + 4, f"{tick:g}", "small muted", "end")
    for tick in x.ticks(5):
        drawing.text(x(tick), frame.bottom + 17, f"{tick:g}", "small muted", "middle")
    drawing.line(frame.left, frame.bottom, frame.right, frame.bottom, "axis")
    drawing.text((frame.left + frame.right) / 2, frame.bottom + 36, below, "small muted", "middle")
    for line in sorted(lines, key=lambda line: line.hero):
        path = [(x(a), y(b)) for a, b in line.points]
        drawing.curve(path, "hero-bar" if line.hero else "curve", line.name)
    ends = _apart([y(line.points[-1][1]) for line in named], 15)
    for line, end in zip(named, ends, strict=True):
        drawing.text(frame.right + 6, end + 4, line.name, "small hero-text" if line.hero else "small")
    return drawing


def _apart(places: list[float], distance: float) -> list[float]:
    """The places, pushed so that neighbours keep the distance while their mean stays."""
    moved, last = list(places), -math.inf
    for index in sorted(range(len(places)), key=places.__getitem__):
        last = moved[index] = max(places[index], last + distance)
    shift = (sum(places) - sum(moved)) / max(len(places), 1)
    return [place + shift for place in moved]

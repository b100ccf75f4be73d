"""A small histogram with one value marked, for a page or a README."""

from collections import Counter
from collections.abc import Sequence

from glscl.report.figures.svg import Axis, Box, Drawing, text_width

WIDTH, COLUMN = 480, 14  # pixels; COLUMN: height of one value


def histogram(
    title: str,
    values: Sequence[float],
    marked: float,
    mark: str,
    rule: float,
    ruled: str,
    below: str,
    step: float = 0.1,
) -> Drawing:
    """A dot per value, stacked over a common axis, one value marked in colour, and a dashed line.

    values: without the marked one, in units of `step`, such as printed decimals. mark, ruled: what the marked value and
    the dashed line at `rule` are. below: what the axis shows. Raises ValueError without a value.
    """
    if not len(values):
        raise ValueError(f"the figure {title!r} needs one value at least, got none; leave it out.")
    counts = Counter(round(value / step) for value in values)
    edges = [min(*values, marked, rule), max(*values, marked, rule)]
    frame = Box(16, 66, WIDTH - 16, 72 + COLUMN * max(4, *counts.values()))
    x = Axis(edges[0] - 2 * step, edges[1] + 2 * step, frame.left, frame.right)
    about = f"{len(values)} values from {min(values):g} to {max(values):g}; {mark}; {ruled}"
    drawing = Drawing(WIDTH, frame.bottom + 44, title, about)
    drawing.text(16, 22, title)
    drawing.line(frame.left, frame.bottom, frame.right, frame.bottom, "axis")
    for tick in x.ticks(8):
        drawing.text(x(tick), frame.bottom + 17, f"{tick:.6g}", "small muted", "middle")
    drawing.text((frame.left + frame.right) / 2, frame.bottom + 36, below, "small muted", "middle")
    for place, count in sorted(counts.items()):
        for number in range(count):
            drawing.dot(x(place * step), frame.bottom - COLUMN * (number + 0.5), "dot", f"{place * step:.6g}")
    drawing.line(x(rule), frame.top - 4, x(rule), frame.bottom, "rule")
    drawing.dot(x(marked), frame.bottom - COLUMN * (counts[round(marked / step)] + 0.5), "hero-dot", mark, radius=6)
    for place, text, kind, height in ((rule, ruled, "small muted", 44), (marked, mark, "small hero-text", 60)):
        half = text_width(text, 12) / 2  # the text stays inside the drawing
        drawing.text(min(max(x(place), half + 4), WIDTH - half - 4), height, text, kind, "middle")
    return drawing

"""The picture of the study: how often the right video comes first, against the work that a query takes."""

import itertools
import math
from typing import NamedTuple

from glscl.report.figures.svg import Axis, Box, Drawing, text_width
from glscl.report.page import significant

TITLE, UNTRAINED = "Text-to-video accuracy against the cost of a query", "zero-shot CLIP"
NARROW = 560  # pixels; below it the labels of ticks and axes are short
UNITS = {6: "million", 9: "billion", 12: "trillion"}
SHORT_UNITS = {6: "M", 9: "G", 12: "T"}
SIZE, LINE, GAP, FAR = 13, 15, 9, 24  # of labels: font size, height, distance from the dot, and one that needs a line
RADIUS = 5.5


class Point(NamedTuple):
    """A method: multiply-accumulates of one query, and its R@1 in percent; `hero` stands out.

    low, high: a 95 % interval, None where there is none.
    """

    name: str
    macs: float
    value: float
    low: float | None
    high: float | None
    hero: bool = False

    @property
    def ends(self) -> tuple[float, float]:
        """Of the bar: the interval, or the value where there is none."""
        return (self.value, self.value) if self.low is None else (self.low, self.high)

    @property
    def recall(self) -> str:
        """R@1 with its interval as text."""
        return f"{self.value:.1f}" if self.low is None else f"{self.value:.1f} [{self.low:.1f}, {self.high:.1f}]"


def counted(macs: float, units: dict[int, str] = UNITS) -> str:
    """Multiply-accumulates in words, such as "247 million"."""
    power = max((power for power in units if macs >= 10**power), default=0)
    return f"{significant(macs / 10**power)} {units.get(power, '')}".strip()


def overview(
    points: list[Point],
    width: int,
    gallery: int,
    untrained: float | None = None,
    others: list[Point] | None = None,
    title: str = TITLE,
) -> Drawing:
    """Accuracy against work, one dot and 95 % interval per point, each with its name; labels do not overlap.

    gallery: videos that the query is compared with. untrained: R@1 of zero-shot CLIP, a line. others: points of
    another drawing beside this one, so that both get the same axes. Raises ValueError without a point.
    """
    if not points:
        raise ValueError("the picture needs one method at least, got none; train one or leave the picture out.")
    short = width < NARROW
    height = 460 if not short else 380
    frame = Box(46, 52, width - 14, height - 52)
    everything = [*points, *(others or [])]
    low, high = (pick(p.macs for p in everything) for pick in (min, max))
    x = Axis(low / 2.2, high * 2.6, frame.left, frame.right, log=True)
    top = max([p.ends[1] for p in everything] + [untrained or 0.0])
    y = Axis(0, 1.06 * top or 1.0, frame.bottom, frame.top)
    told = "; ".join(f"{p.name} {p.recall} at {counted(p.macs)}" for p in points)
    drawing = Drawing(width, height, title, f"R@1 in percent with 95 % intervals, and multiply-accumulates: {told}.")
    _axes(drawing, frame, x, y, gallery, short)
    places = _places(points, x, y)
    bars = [Box(px - 2, y(p.ends[1]), px + 2, y(p.ends[0])) for p, (px, _) in zip(points, places, strict=True)]
    dots = [Box(px - RADIUS, py - RADIUS, px + RADIUS, py + RADIUS) for px, py in places]
    choices = [_beside(point, *drawn) for point, *drawn in zip(points, places, bars, strict=True)]
    taken = [*bars, *dots]
    if untrained is not None:
        drawing.line(frame.left, y(untrained), frame.right, y(untrained), "rule")
        taken.append(Box(frame.left, y(untrained) - 1, frame.right, y(untrained) + 1))
        choices.append(_along(y(untrained), frame))
    *labels, caption = [*fitted(choices, frame, taken), None][: len(points) + 1]
    if caption:
        drawing.text(caption.left, caption.bottom - 4, UNTRAINED, "small muted")
    for point, bar, box, (px, py) in zip(points, bars, labels, places, strict=True):
        kind = "hero-" if point.hero else ""
        near = min(max(px, box.left), box.right), min(max(py, box.top + 4), box.bottom - 4)
        if math.dist(near, (px, py)) > FAR and abs(near[0] - px) > 1:
            drawing.line(px, py, *near, "axis")
        drawing.line(px, bar.top, px, bar.bottom, f"{kind}bar")
        tip = f"{point.name}: R@1 {point.recall}, {counted(point.macs)} MACs"
        drawing.dot(px, py, f"{kind}dot", tip, RADIUS)
        drawing.text(box.left, box.bottom - 4, point.name, "hero-text" if point.hero else "")
    return drawing


def _axes(drawing: Drawing, frame: Box, x: Axis, y: Axis, gallery: int, short: bool) -> None:
    drawing.text(14, 22, drawing.title)
    drawing.text(14, 40, "R@1, % of texts whose video comes first" if not short else "R@1, %", "small muted")
    for tick in y.ticks():
        drawing.line(frame.left, y(tick), frame.right, y(tick), "grid")
        drawing.text(frame.left - 8, y(tick) + 4, f"{tick:g}", "small muted", "end")
    for tick in x.ticks(5 if short else 8):
        drawing.line(x(tick), frame.top, x(tick), frame.bottom, "grid")
        drawing.text(
            x(tick), frame.bottom + 18, counted(tick, SHORT_UNITS if short else UNITS), "small muted", "middle"
        )
    drawing.line(frame.left, frame.bottom, frame.right, frame.bottom, "axis")
    text = f"multiply-accumulates of a query against {gallery:,} videos"
    text = text if not short else f"multiply-accumulates, {gallery:,} videos"
    drawing.text((frame.left + frame.right) / 2, frame.bottom + 40, text, "small muted", "middle")


def _places(points: list[Point], x: Axis, y: Axis) -> list[tuple[float, float]]:
    """Where the dots stand; those of equal work stand side by side around it, so that their intervals can be seen."""
    places = {}
    for _, same in itertools.groupby(
        sorted(range(len(points)), key=lambda i: points[i].macs), lambda i: points[i].macs
    ):
        same = list(same)
        for position, index in enumerate(same):
            shift = (position - (len(same) - 1) / 2) * 2.2 * RADIUS
            places[index] = (x(points[index].macs) + shift, y(points[index].value))
    return [places[index] for index in range(len(points))]


def _beside(point: Point, place: tuple[float, float], bar: Box) -> list[Box]:
    """Where the name of a point may stand, best first: beside its dot, above or below its bar, farther off."""
    (px, py), width = place, text_width(point.name, SIZE) * (1.06 if point.hero else 1.0)
    over, under = bar.top - LINE / 2 - 2, bar.bottom + LINE / 2 + 2
    sides = [(left, py + step) for step in (0, -10, 10, -18, 18) for left in (px + GAP, px - GAP - width)]
    ends = [(px - width * share, middle) for middle in (over, under) for share in (0.5, 0.2, 0.8)]
    far = [(left, py + step) for step in (-30, 30, -44, 44, -58, 58) for left in (px + GAP, px - GAP - width)]
    return [Box(left, middle - LINE / 2, left + width, middle + LINE / 2) for left, middle in [*sides, *ends, *far]]


def _along(height: float, frame: Box) -> list[Box]:
    """Where the name of the line may stand: at its right or left end, above or below it."""
    width = text_width(UNTRAINED, 12)
    lefts = (frame.right - 2 - width, frame.left + 4)
    return [Box(left, top, left + width, top + LINE) for left in lefts for top in (height - LINE - 2, height + 3)]


def fitted(choices: list[list[Box]], frame: Box, taken: list[Box]) -> list[Box]:
    """Of the boxes that each label may have, best first, the one that covers least of the others and of `taken`."""
    chosen = [boxes[0] for boxes in choices]
    for _ in range(4):  # one label at a time; more rounds find nothing better
        for index, boxes in enumerate(choices):
            rest = [*taken, *(box for other, box in enumerate(chosen) if other != index)]
            costs = [
                20 * box.outside(frame) + 5 * sum(box.overlap(other) for other in rest) + rank
                for rank, box in enumerate(boxes)
            ]
            chosen[index] = boxes[costs.index(min(costs))]
    return chosen

"""Small drawings as SVG text: the same bytes on every machine, readable on light and dark pages, all text escaped."""

import html
import math
from typing import NamedTuple

from glscl.report.figures.common import FONT

STYLE = """
.drawing text { font-family: FONT; font-size: 13px; fill: #24292f; }
.drawing .small { font-size: 12px; }
.drawing .muted { fill: #57606a; }
.drawing .hero-text { fill: #0969b5; font-weight: 600; }
.drawing .page { fill: #ffffff; }
.drawing .grid { stroke: #e4e7eb; stroke-width: 1; }
.drawing .axis { stroke: #8c959f; stroke-width: 1; }
.drawing .rule { stroke: #8c959f; stroke-width: 1.2; stroke-dasharray: 5 4; }
.drawing .bar { stroke: #8c959f; stroke-width: 1.6; }
.drawing .dot { fill: #57606a; }
.drawing .curve { stroke: #afb8c1; stroke-width: 1.6; fill: none; }
.drawing .hero-bar { stroke: #0072b2; stroke-width: 2.4; fill: none; }
.drawing .hero-dot { fill: #0072b2; }
""".replace("FONT", FONT.replace("'", '"'))
DARK = """
@media (prefers-color-scheme: dark) {
.drawing text { fill: #e6edf3; }
.drawing .muted { fill: #9da7b3; }
.drawing .hero-text { fill: #58b4f0; }
.drawing .page { fill: #0d1117; }
.drawing .grid { stroke: #262c36; }
.drawing .axis, .drawing .rule, .drawing .bar { stroke: #6e7681; }
.drawing .dot { fill: #9da7b3; }
.drawing .curve { stroke: #484f58; }
.drawing .hero-bar { stroke: #58b4f0; }
.drawing .hero-dot { fill: #58b4f0; }
}
"""

# Advance widths in units of the font size, wide enough for any of the fonts that a reader may have.
NARROW, WIDE = set("iljtfrI.,:;'|!()[] -"), set("mwMWQO%@")


def text_width(text: str, size: float = 13) -> float:
    """About how many pixels a text takes, rather too many than too few."""
    each = (0.42 if c in NARROW else 0.98 if c in WIDE else 0.72 if c.isupper() else 0.62 for c in text)
    return size * sum(each)


class Box(NamedTuple):
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box") -> float:
        """The area that both cover, in square pixels."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)

    def outside(self, frame: "Box") -> float:
        """The area of this box that lies outside `frame`."""
        return (self.right - self.left) * (self.bottom - self.top) - self.overlap(frame)


class Axis(NamedTuple):
    """Values low to high onto pixels start to end, in equal steps or, with `log`, equal factors."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values inside the axis: powers of ten, or multiples of 1, 2 or 5 times one; at most so many."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            step = max(1, math.ceil((last - first + 1) / most))
            return [10.0**power for power in range(first, last + 1, step)]
        power = 10.0 ** math.floor(math.log10((self.high - self.low) / most))
        step = next(s * power for s in (1, 2, 5, 10) if (self.high - self.low) / (s * power) <= most)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


class Drawing:
    """Elements in the order in which they are painted, over a page of its own colour; coordinates in pixels."""

    def __init__(self, width: float, height: float, title: str, description: str = ""):
        self.width, self.height, self.title, self.description = width, height, title, description
        self.parts: list[str] = [self._tag("rect", "page", x=0, y=0, width=width, height=height, rx=6)]

    def _tag(self, name: str, kind: str, tip: str = "", **attributes) -> str:
        values = "".join(f' {key}="{_plain(value)}"' for key, value in attributes.items())
        inside = f"><title>{html.escape(tip)}</title></{name}>" if tip else "/>"
        return f'<{name} class="{kind}"{values}{inside}'

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """A straight line."""
        self.parts.append(self._tag("line", kind, x1=x1, y1=y1, x2=x2, y2=y2))

    def dot(self, x: float, y: float, kind: str, tip: str = "", radius: float = 4.5) -> None:
        """A filled circle; `tip` shows under the mouse."""
        self.parts.append(self._tag("circle", kind, tip, cx=x, cy=y, r=radius))

    def curve(self, points: list[tuple[float, float]], kind: str, tip: str = "") -> None:
        """Straight lines from point to point."""
        path = " ".join(f"{_plain(x)},{_plain(y)}" for x, y in points)
        self.parts.append(self._tag("polyline", kind, tip, points=path))

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        """A line of text whose baseline begins, ends (`end`) or has its middle (`middle`) at the point."""
        place = f'x="{_plain(x)}" y="{_plain(y)}" text-anchor="{anchor}"'
        self.parts.append(f'<text class="{kind}" {place}>{html.escape(text)}</text>')

    def svg(self, alone: bool = False) -> str:
        """The drawing as an element of a page, or `alone` as a file, which follows the reader's dark mode too."""
        size = f'width="{_plain(self.width)}" height="{_plain(self.height)}"'
        view = f'viewBox="0 0 {_plain(self.width)} {_plain(self.height)}"'
        space = 'xmlns="http://www.w3.org/2000/svg" ' if alone else ""
        head = f'<svg {space}class="drawing" role="img" {size} {view}>'
        about = f"<title>{html.escape(self.title)}</title>"
        about += f"<desc>{html.escape(self.description)}</desc>" if self.description else ""
        style = f"<style>{STYLE}{DARK if alone else ''}</style>"
        return "\n".join([head, about, style, *self.parts, "</svg>"]) + "\n" * alone


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")  # never -0

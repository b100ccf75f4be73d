"""The picture: everything inside, no label on another one, on wide and on narrow pages."""

import random
import re
from xml.etree import ElementTree

import pytest

from glscl.report.figures.overview import SIZE, UNTRAINED, Point, counted, overview
from glscl.report.figures.svg import Box, text_width
from tests.report.conftest import HOSTILE

# What the full profile found, rounded: two methods of equal cost, five close to each other, one far away.
POINTS = [
    Point("CLIP4Clip", 512_000, 14.1, 12.0, 16.1),
    Point("NCL", 512_000, 13.2, 11.3, 15.2),
    Point("X-Pool", 14_083_144, 17.3, 15.3, 19.4),
    Point("X-CLIP", 247_530_752, 24.0, 21.7, 26.5),
    Point("DRL", 205_012_992, 16.4, 14.3, 18.5),
    Point("DiCoSA", 40_195_072, 14.4, 12.6, 16.3),
    Point("GLCCL", 492_438_144, 21.2, 18.9, 23.4),
    Point("T-MASS", 57_603_144, 16.8, 14.8, 18.8),
    Point("cross-encoder, best 20", 9_148_856_320, 5.0, 4.2, 5.9),
    Point("GLSCL", 149_779_072, 14.4, 12.6, 16.2, hero=True),
]
WIDTHS = [1000, 860, 510, 360]


def elements(drawing) -> dict[str, list]:
    found = {}
    for element in ElementTree.fromstring(drawing.svg(alone=True)).iter():
        found.setdefault(element.tag.partition("}")[2], []).append(element)
    return found


def labels(drawing, names: list[str]) -> dict[str, Box]:
    """The boxes of some texts of a drawing, a little lower than their lines."""
    boxes = {}
    for text in elements(drawing)["text"]:
        if text.text in names:
            x, y = float(text.get("x")), float(text.get("y"))
            size = 12 if "small" in text.get("class") else SIZE
            boxes[text.text] = Box(x, y - 10, x + text_width(text.text, size), y + 2)
    return boxes


def collisions(drawing, points) -> list:
    """Pairs of labels that touch, and labels that leave the drawing or hide a dot."""
    boxes = labels(drawing, [*(point.name for point in points), UNTRAINED])
    dots = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in elements(drawing)["circle"]]
    page = Box(0, 0, drawing.width, drawing.height)
    assert len(boxes) == len(points) + 1
    bad = [(one, two) for one in boxes for two in boxes if one < two and boxes[one].overlap(boxes[two])]
    bad += [name for name, box in boxes.items() if box.outside(page)]
    return bad + [n for n, b in boxes.items() for x, y in dots if b.left < x < b.right and b.top < y < b.bottom]


@pytest.mark.parametrize("width", WIDTHS)
def test_no_label_covers_another_or_a_dot(width):
    drawing = overview(POINTS, width, 1_000, untrained=10.8)
    assert drawing.width == width
    assert collisions(drawing, POINTS) == []


@pytest.mark.parametrize("seed", range(8))
def test_labels_find_room_whatever_was_found(seed):
    rng = random.Random(seed)
    points = []
    for number in range(10):
        value = rng.uniform(5, 60)
        points.append(Point(f"method {number}", 10 ** rng.uniform(5.7, 10), value, value - 2, value + 2, number == 9))
    assert collisions(overview(points, 860, 1_000, untrained=20.0), points) == []


def test_a_dot_and_an_interval_per_method_at_its_place():
    drawing = overview(POINTS, 860, 1_000)
    found = elements(drawing)
    dots = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in found["circle"]]
    bars = [line for line in found["line"] if line.get("class").endswith("bar")]
    assert len(dots) == len(bars) == len(POINTS)
    order = sorted(range(len(POINTS)), key=lambda i: POINTS[i].macs)
    assert [dots[i][0] for i in order] == sorted(x for x, _ in dots)
    order = sorted(range(len(POINTS)), key=lambda i: -POINTS[i].value)
    assert [dots[i][1] for i in order] == sorted(y for _, y in dots)
    assert dots[0][0] != dots[1][0]  # of equal cost, side by side
    for (x, y), bar in zip(dots, bars, strict=True):
        assert float(bar.get("x1")) == float(bar.get("x2")) == pytest.approx(x, abs=0.1)
        assert float(bar.get("y1")) < y < float(bar.get("y2"))


def test_labels_of_a_crowd_have_lines_to_their_dots():
    crowd = [Point(f"method {n}", 1e6 * 1.3**n, 20.0, 19.0, 21.0) for n in range(8)] + [Point("x", 1e10, 5.0, 4.0, 6.0)]
    drawing = overview(crowd, 860, 1_000, untrained=15.0)
    dots = {(dot.get("cx"), dot.get("cy")) for dot in elements(drawing)["circle"]}
    assert collisions(drawing, crowd) == []
    assert sum((line.get("x1"), line.get("y1")) in dots for line in elements(drawing)["line"]) >= 2


def test_glscl_stands_out_and_all_is_told_in_words():
    drawing = overview(POINTS, 860, 1_000, untrained=10.8)
    assert drawing.svg().count('class="hero-dot"') == 1
    assert "GLSCL 14.4 [12.6, 16.2] at 150 million" in drawing.description
    assert "X-CLIP: R@1 24.0 [21.7, 26.5], 248 million MACs" in drawing.svg()


def test_two_pictures_share_their_axes():
    one, two = POINTS[:4], POINTS[4:]
    ticks = [
        [(t.text, t.get("x"), t.get("y")) for t in elements(drawing)["text"] if re.fullmatch(r"[\d.]+( [MG])?", t.text)]
        for drawing in (overview(one, 510, 1_000, None, two), overview(two, 510, 1_000, None, one))
    ]
    assert ticks[0] == ticks[1]
    assert len(ticks[0]) > 6


def test_names_cannot_become_markup():
    assert HOSTILE not in overview([Point(HOSTILE, 1e6, 10.0, 9.0, 11.0)], 860, 1_000).svg()


def test_a_picture_needs_a_method():
    with pytest.raises(ValueError, match="one method at least, got none"):
        overview([], 860, 1_000)


@pytest.mark.parametrize(
    ("macs", "text"), [(512_000, "512,000"), (14_083_144, "14.1 million"), (9.15e9, "9.15 billion"), (1e6, "1 million")]
)
def test_work_is_told_in_words(macs, text):
    assert counted(macs) == text

"""Drawings: well formed, escaped, the same bytes twice, and axes with round ticks."""

from xml.etree import ElementTree

import pytest

from glscl.report.figures.svg import Axis, Box, Drawing, text_width
from tests.report.conftest import HOSTILE

SVG = "{http://www.w3.org/2000/svg}"


def drawn() -> Drawing:
    drawing = Drawing(200, 100, HOSTILE, HOSTILE)
    drawing.line(0, 0, 200, -0.01, "axis")
    drawing.dot(10.04, 20.06, "dot", HOSTILE)
    drawing.curve([(0, 0), (1.26, 2)], "curve")
    drawing.text(5, 5, HOSTILE, "small", "end")
    return drawing


def test_a_file_is_well_formed_and_its_text_escaped():
    text = drawn().svg(alone=True)
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert [root.find(f"{SVG}{name}").text for name in ("title", "desc", "text")] == [HOSTILE] * 3
    assert root.find(f"{SVG}circle").attrib == {"class": "dot", "cx": "10", "cy": "20.1", "r": "4.5"}
    assert root.find(f"{SVG}line").get("y2") == "0"
    assert root.find(f"{SVG}polyline").get("points") == "0,0 1.3,2"
    assert text == drawn().svg(alone=True)


def test_only_a_file_follows_the_dark_mode_of_its_reader():
    assert "prefers-color-scheme: dark" in drawn().svg(alone=True)
    assert "prefers-color-scheme" not in drawn().svg()
    assert 'class="page"' in drawn().svg()  # a drawing brings its own background


def test_styles_touch_drawings_alone():
    style = drawn().svg(alone=True).split("<style>")[1].split("</style>")[0]
    selectors = [line.split("{")[0] for line in style.splitlines() if "{" in line and "@media" not in line]
    assert selectors
    assert all(part.strip().startswith(".drawing ") for selector in selectors for part in selector.split(","))


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis(0, 28, 0, 100), [0, 5, 10, 15, 20, 25]),
        (Axis(-1.2, 2.2, 0, 100), [-1, 0, 1, 2]),
        (Axis(2e5, 3e7, 0, 100, log=True), [1e6, 1e7]),
        (Axis(1, 1e12, 0, 100, log=True), [1, 1e3, 1e6, 1e9, 1e12]),
    ],
)
def test_ticks_are_round_and_few(axis, ticks):
    assert axis.ticks() == pytest.approx(ticks)


def test_axes_place_values():
    assert Axis(0, 10, 100, 0)(2.5) == 75
    assert Axis(1, 100, 0, 10, log=True)(10) == pytest.approx(5)


def test_boxes_overlap():
    one = Box(0, 0, 10, 10)
    assert one.overlap(Box(5, 5, 20, 20)) == 25
    assert one.overlap(Box(11, 0, 20, 10)) == 0
    assert one.outside(Box(0, 0, 20, 20)) == 0
    assert one.outside(Box(0, 0, 4, 20)) == 60


def test_longer_text_is_wider():
    assert text_width("GLSCL") < text_width("GLSCL, best 20") < text_width("GLSCL, best 20", 16)

"""Small figures: rows of intervals, and curves with names at their ends."""

import itertools
from xml.etree import ElementTree

import pytest

from glscl.report.figures.cards import WIDTH, Line, Row, _apart, curves, intervals

ROWS = [Row("GLSCL", 2.0, 1.0, 3.0, hero=True), Row("from there"), Row("X-CLIP", -0.5, -1.0, 0.2), Row("none", 1.0)]


def parts(drawing, tag: str, kind: str = "") -> list:
    root = ElementTree.fromstring(drawing.svg(alone=True))
    return [one for one in root.iter() if one.tag.endswith(f"}}{tag}") and kind in one.get("class", "")]


def test_a_row_has_its_name_dot_interval_and_value():
    drawing = intervals("points", ROWS, rule=0)
    assert drawing.width == WIDTH
    own, rival, none = (float(dot.get("cx")) for dot in parts(drawing, "circle"))
    assert rival < none < own
    assert len(parts(drawing, "line", "bar")) == 2
    assert len(parts(drawing, "line", "rule")) == 1
    texts = [text.text for text in parts(drawing, "text")]
    assert {"GLSCL", "from there", "X-CLIP", "none", "2.0", "\N{MINUS SIGN}0.5", "1.0"} <= set(texts)
    places = {text.text: float(text.get("y")) for text in parts(drawing, "text")}
    assert places["GLSCL"] < places["from there"] < places["X-CLIP"] < places["none"]


def test_equal_factors_stand_at_equal_distances():
    drawing = intervals("times", [Row("a", 1.0), Row("b", 10.0), Row("c", 100.0)], rule=1, log=True)
    one, two, three = (float(dot.get("cx")) for dot in parts(drawing, "circle"))
    assert two - one == pytest.approx(three - two, abs=0.2)


def test_curves_have_names_that_do_not_touch():
    lines = [Line(f"head {n}", [(0, 10.0), (9, 70 + 0.1 * n)], named=n < 2, hero=n == 2) for n in range(4)]
    drawing = curves("recall", lines, "steps")
    assert len(parts(drawing, "polyline")) == 4
    assert len(parts(drawing, "polyline", "hero-bar")) == 1
    places = sorted(float(text.get("y")) for text in parts(drawing, "text") if text.text.startswith("head"))
    assert len(places) == 3
    assert all(second - first >= 14 for first, second in itertools.pairwise(places))


def test_places_are_pushed_apart_and_keep_their_mean():
    assert _apart([10, 10, 40], 15) == pytest.approx([5, 20, 35])
    assert _apart([], 15) == []


@pytest.mark.parametrize("call", [lambda: intervals("a", [Row("heading")]), lambda: curves("a", [], "steps")])
def test_a_figure_of_nothing_is_an_error(call):
    with pytest.raises(ValueError, match="needs one"):
        call()


def test_one_value_and_one_step_make_a_figure():
    assert parts(intervals("a", [Row("GLSCL", 5.0)]), "circle")
    assert parts(curves("a", [Line("GLSCL", [(0, 5.0)], hero=True)], "steps"), "polyline")

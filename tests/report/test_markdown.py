"""Markdown made of results: text stays text."""

import pandas as pd
import pytest

from glscl.report.markdown import between, plain, table_markdown

MARKS = "<!-- a -->", "<!-- b -->"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("R@1 14.1 [12.0, 16.1] (sd 0.2)", "R@1 14.1 [12.0, 16.1] (sd 0.2)"),
        ("clip4clip_seqTransf", "clip4clip_seqTransf"),
        ("a | b\nc", r"a \| b c"),
        ("<img src=x>", "&lt;img src=x>"),
        ("[a](http://b)", r"\[a](http://b)"),
        ("*a* `b`", r"\*a\* \`b\`"),
        (None, ""),
        (float("nan"), ""),
        (3, "3"),
    ],
)
def test_text_stays_text(text, shown):
    assert plain(text) == shown


def test_a_table_has_bold_numbers():
    table = pd.DataFrame({"method": ["a", "b|c"], "R@1": ["1.0 [0.5, 1.5]", None]})
    bold = pd.DataFrame({"method": [False, False], "R@1": [True, False]})
    lines = ["| method | R@1 |", "| --- | --- |", "| a | **1.0** [0.5, 1.5] |", r"| b\|c |  |"]
    assert table_markdown(table, bold) == "\n".join(lines)
    assert table_markdown(table).splitlines()[2] == "| a | 1.0 [0.5, 1.5] |"


def test_what_lies_between_the_marks_is_replaced():
    text = f"before {MARKS[0]} old {MARKS[1]} after"
    new = between(text, MARKS, "new", "README.md")
    assert new == f"before {MARKS[0]}\nnew\n{MARKS[1]} after"
    assert between(new, MARKS, "new", "README.md") == new


@pytest.mark.parametrize("text", ["none", MARKS[0], "".join(MARKS) + MARKS[0]])
def test_marks_that_are_not_there_once_are_an_error(text):
    with pytest.raises(ValueError, match=r"README\.md must hold the marks"):
        between(text, MARKS, "new", "README.md")

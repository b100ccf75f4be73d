"""Tables, cards and the ledger: what is bold, what is set to the right, and what text can do (nothing)."""

import pandas as pd
import pytest

from glscl.report import tables
from tests.report.conftest import HOSTILE

UP, DOWN = "\N{UPWARDS ARROW}", "\N{DOWNWARDS ARROW}"
FINDING = {"text": HOSTILE, "value": 7.195, "low": None, "high": None, "kind": "measured", "threshold": None}
FINDING |= {"direction": None, "page": "07_concepts", "figure": "Table 8"}
DECIDES = FINDING | {"low": 7.037, "high": 7.2, "threshold": 8.0, "direction": "above"}
CLAIM = {
    "claim": HOSTILE,
    "test": HOSTILE,
    "scope": HOSTILE,
    "verdict": "contradicted",
    "changes_at": [7.2],
    "evidence": [DECIDES, FINDING | {"kind": "published"}, FINDING, FINDING | {"kind": "time"}],
}


def cells(**columns) -> pd.DataFrame:
    return pd.DataFrame({"method": list("abcd"), "temporal encoder": ["none", "2 layers", "2 layers", None]} | columns)


def test_the_best_cell_is_found_among_rows_that_compare():
    table = cells(**{f"R@1 {UP}": ["9.0 [8.0, 10.0]", "10.0", "30.0 [1.0, 50.0]", "96.0"]})
    table[f"MdR {DOWN}"] = ["9.0", "5.0 [4.0, 6.0]", "5.0", "1.0"]
    table["R@1 over seeds"] = "sd 0.1, n = 3"
    found = tables.best(table)
    assert found.shape == table.shape
    assert found[f"R@1 {UP}"].tolist() == [False, False, True, False]  # the first row is alone without an encoder
    assert found[f"MdR {DOWN}"].tolist() == [False, True, True, False]
    assert not found[["method", "temporal encoder", "R@1 over seeds"]].any(axis=None)


def test_results_have_intervals_set_small_dashes_and_bold_numbers():
    results = pd.DataFrame(
        {"method": ["GLSCL", HOSTILE], "R@1": ["44.1 [41.0, 47.2]", "41.0 [38.1, 43.9]"], "MdR": [2.04, None]}
    )
    bold = pd.DataFrame({"method": [False, False], "R@1": [True, False], "MdR": [False, False]})
    page = tables.results_html(results, f"Table 1. {HOSTILE}", bold)
    assert '<td class="number"><b>44.1</b> <small>[41.0, 47.2]</small></td><td class="number">2.0</td>' in page
    assert '<td class="number">41.0 <small>' in page
    assert '<td class="number">\N{EN DASH}</td>' in page
    assert HOSTILE not in page


@pytest.mark.parametrize(
    "text",
    [
        "44.1 [41.0, 47.2]",
        "\N{EN DASH}",
        "-0.5",
        "12 ms",
        "95 %",
        "1,000 (extrapolated)",
        "1e-4",
        "131 *",
        "-3.4 to 2.3",
    ],
)
def test_what_counts_as_a_number(text):
    assert 'class="number"' in tables.results_html(pd.DataFrame({"a": [text]}))


@pytest.mark.parametrize("text", ["2 layers", "sd 0.2, n = 3", "GLSCL", "3 of 5", ""])
def test_what_counts_as_text(text):
    assert 'class="number"' not in tables.results_html(pd.DataFrame({"a": [text]}))


def test_a_card_has_question_answer_link_and_figure():
    page = tables.cards_html(
        [tables.Card("Is it fast?", "In full?", "06_costs.html", [("quick", "Yes.")], "<svg></svg>")]
    )
    assert '<h3><a href="06_costs.html" title="In full?">Is it fast?</a></h3>' in page
    assert '<p class="answer">Yes.</p><figure><svg></svg></figure>' in page
    assert "quick" not in page


def test_answers_of_two_runs_are_named():
    page = tables.cards_html([tables.Card("Q", "Q", "a.html", [("quick", "Yes."), ("full", "No.")])])
    assert '<p class="answer"><span class="run-name">quick</span> Yes.</p>' in page
    assert '<p class="beside"><span class="run-name">full</span> No.</p>' in page
    assert "figure" not in page
    assert HOSTILE not in tables.cards_html([tables.Card(*[HOSTILE] * 3, [(HOSTILE, HOSTILE), ("b", HOSTILE)])])


def test_the_ledger_says_verdict_what_decides_and_what_stands_beside():
    page = tables.ledger_html([CLAIM])
    assert '<span class="verdict" data-verdict="contradicted">contradicted</span>' in page
    assert "<b>7.2 [7.04, 7.2]</b>; the claim holds above 8. <small><a" in page
    assert '<td class="turning">7.2</td></tr>' in page
    assert "Test, scope, published (1), measured here (2)" in page
    published, measured = page.split("<ul>")[1:]
    assert published.count("<li>") == 1
    assert measured.count("<li>") == 2
    assert "<b>7.2</b>, a time of one machine <a" in measured
    assert '<a href="07_concepts.html">07_concepts, Table 8</a>' in measured
    assert HOSTILE not in page


def test_a_claim_that_nothing_decides_has_dashes():
    page = tables.ledger_html([CLAIM | {"evidence": [], "changes_at": [], "verdict": "not decided here"}])
    assert page.count(">\N{EN DASH}</td>") == 2
    assert tables.deciding(CLAIM | {"evidence": [FINDING]}) is None


def test_a_condition_is_a_side_or_a_margin():
    assert tables.condition(DECIDES) == "above 8"
    assert tables.condition(DECIDES | {"direction": "within", "threshold": 0.5}) == "within -0.5 to 0.5"
    assert tables.turning(CLAIM | {"changes_at": [-0.62, 1.0]}) == "-0.62 and 1"


def test_verdicts_of_another_run_stand_in_a_column_beside():
    claims = [CLAIM | {"claim": name} for name in ("a", "b")]
    page = tables.ledger_html(claims, run="quick", beside={"full": [CLAIM | {"claim": "b", "verdict": "supported"}]})
    assert '<th scope="col">quick</th><th scope="col">full</th>' in page
    first, _, second = page.split("<tbody>")[1].split("</tr>")[:3]
    assert 'data-run="full">\N{EN DASH}</td>' in first
    assert 'data-verdict="contradicted"' in second
    assert 'data-run="full"><span class="verdict" data-verdict="supported">' in second


def test_a_ledger_can_show_the_verdicts_and_what_decides_alone():
    page = tables.ledger_html([CLAIM], folded=False)
    assert "<b>7.2 [7.04, 7.2]</b>; the claim holds above 8. <small><a" in page
    assert "details" not in page
    assert "change" not in page


def test_rows_of_glscl_stand_out():
    page = tables.results_html(
        pd.DataFrame({"method": ["X-CLIP", "GLSCL", "glscl, exact", "glsclx"], "R@1": [1, 2, 3, 4]})
    )
    assert [row.startswith(' class="own"') for row in page.split("<tr")[2:]] == [False, True, True, False]


def test_a_ledger_without_claims_is_an_empty_table():
    assert "<tbody></tbody>" in tables.ledger_html([])

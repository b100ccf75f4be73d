"""Tables of results, cards of questions and the ledger of claims as HTML; all text is escaped."""

import html
import re
from typing import NamedTuple

import pandas as pd

from glscl.report.names import named
from glscl.report.page import significant

DASH = "\N{EN DASH}"  # of a cell without a value
# A number with a unit, the end of a range, an interval or a remark, or a dash for none.
VALUE = r"[-+\N{MINUS SIGN}]?[\d.,]+(e[-+]?\d+)?"
NUMBER = re.compile(rf"\N{{EN DASH}}|{VALUE}( to {VALUE})?( ?%| [A-Za-z\N{{MICRO SIGN}}]{{1,3}}| \*)?( [\[(].*[\])])?")

OWN = re.compile(r"glscl\b", re.IGNORECASE)


def results_html(results: pd.DataFrame, caption: str = "", bold: pd.DataFrame | None = None) -> str:
    """A table and its caption, escaped. "43.1 [41.0, 45.2]" has its interval set small; a missing value is a dash.

    Floats show one decimal; a column of numbers is set to the right; rows of GLSCL, by their first column, stand out.
    bold: of the shape of the results, true for cells whose number is set bold.
    """

    def text(value) -> str:
        if pd.isna(value):
            return DASH
        return f"{value:.1f}" if isinstance(value, float) else html.escape(str(value))

    results = named(results)
    columns = {html.escape(str(name)): [text(value) for value in results[name]] for name in results}
    strong = [[False] * len(columns)] * len(results) if bold is None else bold.to_numpy().tolist()
    kinds = ["number" if all(map(NUMBER.fullmatch, column)) else "text" for column in columns.values()]
    head = "".join(f'<th scope="col" class="{kind}">{name}</th>' for kind, name in zip(kinds, columns, strict=True))
    rows = []
    for values, heavy in zip(zip(*columns.values(), strict=True), strong, strict=True):
        cells = [re.sub(r"^\S+", r"<b>\g<0></b>", v) if h else v for v, h in zip(values, heavy, strict=True)]
        cells = [re.sub(r" (\[.*\])$", r" <small>\1</small>", cell) for cell in cells]
        row = "".join(f'<td class="{kind}">{cell}</td>' for kind, cell in zip(kinds, cells, strict=True))
        rows.append(f"""<tr{' class="own"' * bool(OWN.match(values[0]))}>{row}</tr>""")
    table = f'<table class="results"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<figure><div class="scroll">{table}</div><figcaption>{html.escape(caption)}</figcaption></figure>'


class Card(NamedTuple):
    """A question in short and in full, the page that answers it, and its answers by the name of the run that gave them.

    figure: an element of a page, such as `Drawing.svg` gives, or nothing.
    """

    short: str
    text: str
    page: str
    answers: list[tuple[str, str]]
    figure: str = ""


def cards_html(cards: list[Card]) -> str:
    """The questions as cards: each with its answer, those of other runs below it, a small figure, and a link.

    All text is escaped; figures are HTML.
    """
    items = []
    for card in cards:
        several = len({run for run, _ in card.answers}) > 1
        own = card.answers[0][0] if card.answers else ""
        said = []
        for run, sentence in card.answers:
            kind = "answer" if run == own else "beside"
            name = f'<span class="run-name">{html.escape(run)}</span> ' if several else ""
            said.append(f'<p class="{kind}">{name}{html.escape(sentence)}</p>')
        link = f'<a href="{html.escape(card.page)}" title="{html.escape(card.text)}">{html.escape(card.short)}</a>'
        figure = f"<figure>{card.figure}</figure>" if card.figure else ""
        items.append(f"<li><h3>{link}</h3>{''.join(said)}{figure}</li>")
    return f'<ol class="cards">{"".join(items)}</ol>'


def ledger_html(claims: list[dict], run: str = "verdict", beside: dict | None = None, folded: bool = True) -> str:
    """Claims as a table: verdict, and the number that decides it.

    claims: as `glscl.study.claims.read_ledger` gives them. run: heading of their verdicts. beside: claims of other
    runs, by heading, whose verdicts stand in columns of their own. folded: with the threshold at which a verdict would
    change, and with test, scope, and what is published and measured beside it, folded away. All text is escaped.
    """
    runs = {run: claims} | (beside or {})
    verdicts = {name: {claim["claim"]: claim["verdict"] for claim in those} for name, those in runs.items()}
    heads = ["claim of the abstract", *runs, "what decides", *(["would change at"] if folded else [])]
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in heads)
    rows = []
    for claim in claims:
        cells = [f"<td>{html.escape(claim['claim'])}</td>"]
        cells += [
            f'<td class="verdicts" data-run="{html.escape(name) if len(runs) > 1 else ""}">'
            f"{_verdict_html(given.get(claim['claim'], ''))}</td>"
            for name, given in verdicts.items()
        ]
        cells.append(f"<td>{_deciding_html(claim)}</td>")
        if folded:
            cells.append(f'<td class="turning">{turning(claim) or DASH}</td>')
        rows.append(f'<tr class="decided">{"".join(cells)}</tr>')
        if folded:
            rows.append(f'<tr class="beside"><td colspan="{len(heads)}">{_beside_html(claim)}</td></tr>')
    return f'<table class="ledger"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _verdict_html(verdict: str) -> str:
    verdict = html.escape(verdict)
    return f'<span class="verdict" data-verdict="{verdict}">{verdict}</span>' if verdict else DASH


def deciding(claim: dict) -> dict | None:
    """The finding that decides a claim of the ledger, the one that has a threshold; None where none does."""
    return next((finding for finding in claim["evidence"] if finding["threshold"] is not None), None)


def with_interval(finding: dict) -> str:
    """The value of a finding of the ledger with its interval, where it has one."""
    value, *edges = (significant(finding[name]) for name in ("value", "low", "high") if finding[name] is not None)
    return f"{value} [{', '.join(edges)}]" if edges else value


def condition(finding: dict) -> str:
    """Where the deciding number must lie for its claim to hold: "above 0.01", "below 1" or "within -1 to 1"."""
    threshold = significant(finding["threshold"])
    return (
        f"within -{threshold} to {threshold}"
        if finding["direction"] == "within"
        else (f"{finding['direction']} {threshold}")
    )


def turning(claim: dict) -> str:
    """The thresholds at which the verdict would change, as text."""
    return " and ".join(map(significant, claim["changes_at"]))


def _deciding_html(claim: dict) -> str:
    if (finding := deciding(claim)) is None:
        return DASH
    return (
        f"{html.escape(finding['text'])}: <b>{with_interval(finding)}</b>; the claim holds {condition(finding)}. "
        f"<small>{_place_html(finding)}</small>"
    )


def _beside_html(claim: dict) -> str:
    context = [finding for finding in claim["evidence"] if finding["threshold"] is None]
    columns = {
        "Published": [finding for finding in context if finding["kind"] == "published"],
        "Measured here": [finding for finding in context if finding["kind"] != "published"],
    }
    counts = ", ".join(f"{title.lower()} ({len(found)})" for title, found in columns.items())
    listed = "".join(
        f"<div><b>{title}</b><ul>{''.join(map(_finding_html, found)) or '<li>none</li>'}</ul></div>"
        for title, found in columns.items()
    )
    about = f"<p>{html.escape(claim['test'])} <small>{html.escape(claim['scope'])}</small></p>"
    return (
        f"<details><summary><small>Test, scope, {counts}</small></summary>{about}"
        f'<div class="columns">{listed}</div></details>'
    )


def _finding_html(finding: dict) -> str:
    timed = ", a time of one machine" if finding["kind"] == "time" else ""
    return f"<li>{html.escape(finding['text'])}: <b>{with_interval(finding)}</b>{timed} {_place_html(finding)}</li>"


def _place_html(finding: dict) -> str:
    page, figure = html.escape(finding["page"]), html.escape(finding["figure"])
    return f'<a href="{page}.html">{page}, {figure}</a>'


HIGHER, LOWER = "\N{UPWARDS ARROW}", "\N{DOWNWARDS ARROW}"  # where better lies, in the columns of `shown`


def best(cells: pd.DataFrame) -> pd.DataFrame:
    """Which cells of `glscl.evaluation.results.shown` are the best of their column, among the trained rows; same shape.

    Rows compare under the same temporal encoder, and one alone with it is best of nothing; reference rows, such as
    chance or the oracle, have none and are never best. Values that show the same digits are best together.
    """
    marks = pd.DataFrame(False, cells.index, cells.columns)
    for _, rows in cells[cells["temporal encoder"].notna()].groupby("temporal encoder"):
        if len(rows) == 1:
            continue
        for column in [name for name in cells if name.endswith((HIGHER, LOWER))]:
            values = rows[column].str.split(" ").str[0].astype(float)
            marks.loc[rows.index, column] = values == (values.max() if column.endswith(HIGHER) else values.min())
    return marks

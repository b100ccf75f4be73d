"""A page of a report, and how it shows facts and numbers."""

import html
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

TEMPLATE = Path(__file__).parent / "template"


class Link(NamedTuple):
    """A page in the bar of pages: its address, the question that it answers, and what it is called there."""

    href: str
    question: str
    label: str


def page(
    title: str, body: str, pages: Sequence[Link] = (), current: str = "", code_style: str = "", library: str = ""
) -> str:
    """A whole page around `body`, which is HTML; title and links are escaped.

    pages: for the bar above the page; current: the address of this one among them. code_style: style sheet of code
    that a reader may unfold, if there is any. library: elements that load what scripts in the body need.
    """
    from jinja2 import Environment, FileSystemLoader  # here, as every notebook shows facts and few make a page

    environment = Environment(loader=FileSystemLoader(TEMPLATE), autoescape=True)
    given = {"title": title, "body": body, "pages": pages, "current": current}
    return environment.get_template("page.html.j2").render(given | {"code_style": code_style, "library": library})


def facts_table(facts: dict, summary: str = "What the numbers rest on") -> str:
    """A table of names and values, folded away under its summary; all text is escaped."""
    rows = (
        f'<tr><th scope="row">{html.escape(str(k))}</th><td>{html.escape(str(v))}</td></tr>' for k, v in facts.items()
    )
    table = f'<div class="scroll"><table>{"".join(rows)}</table></div>'
    return f'<details class="provenance"><summary>{html.escape(summary)}</summary>{table}</details>'


def p_value(p: float) -> str:
    """A p-value to three decimals, or that it is below 0.001."""
    return f"{p:.3f}" if p >= 0.001 else "below 0.001"


def significant(value: float) -> str:
    """A number to three significant digits, with commas and never as a power: 44,100 or 0.00862.

    What is 0 to six decimals is 0.000000: a difference of 1e-9 is rounding.
    """
    if 0 < abs(value) < 0.5e-6:
        return "0.000000"
    return f"{Decimal(f'{value:.3g}'):,f}"

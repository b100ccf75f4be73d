"""The look of every page of a report."""

import html
from decimal import Decimal

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; color: #222; background: #fff; }
body { font: 17px/1.6 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif; }
header, main { max-width: 1080px; margin: 0 auto; padding: 0 20px; }
header { display: flex; justify-content: space-between; gap: 16px; padding-top: 14px; font-size: 14px; color: #555; }
header label { cursor: pointer; margin-left: auto; }
main { position: relative; padding-bottom: 64px; overflow-x: clip; }
h1 { font-size: 1.9em; line-height: 1.2; margin: .9em 0 .5em; }
h2 { font-size: 1.35em; line-height: 1.3; margin: 1.9em 0 .5em; }
h3 { font-size: 1.1em; margin: 1.5em 0 .4em; }
a { color: #0b5cad; }
.headline { border-left: 4px solid #0072B2; padding-left: 14px; font-weight: 600; }
p, li { max-width: 44em; }
h1, h2, h3, p, li, figcaption { overflow-wrap: anywhere; }
.anchor-link { position: absolute; visibility: hidden; text-decoration: none; color: #aaa; padding-left: .3em; }
:is(h1, h2, h3):hover .anchor-link { visibility: visible; }
.scroll, .output_html { overflow-x: auto; }
.rendered_html > table { display: block; overflow-x: auto; }
table { border-collapse: collapse; font-size: 15px; line-height: 1.4; margin: .8em 0; }
table { font-variant-numeric: tabular-nums; }
th, td { padding: 5px 12px; border: 0; border-bottom: 1px solid #e4e4e4; text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid #555; vertical-align: bottom; }
.number { text-align: right; }
td small { color: #666; white-space: nowrap; }
.number small { display: block; }
.dataframe :is(td, th):not(:first-child) { text-align: right; }
.provenance { font-size: 14px; color: #555; }
.provenance table { font-size: 13px; }
.provenance th { font-weight: 600; white-space: nowrap; }
.provenance td { overflow-wrap: anywhere; min-width: 12em; }
figure { margin: 0; }
.caption { font-size: 15px; max-width: 58em; color: #444; }
figcaption { font-size: 14px; color: #555; max-width: 52em; }
img, video { max-width: 100%; height: auto; }
video { max-height: 420px; border-radius: 4px; background: #f2f2f2; }
pre, code { font: 13.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { margin: 0; overflow-x: auto; }
.output_stdout pre { font: inherit; font-size: 15px; white-space: pre-wrap; color: #444; max-width: 52em; }
.output_stderr pre, .output_error pre { background: #fdf1ee; padding: 8px 12px; border-radius: 6px; }
.output_area { margin: 12px 0; }
.input { display: none; }
body:has(#show-code:checked) .input { display: block; }
.input pre { background: #f6f7f9; padding: 12px 16px; border-radius: 6px; margin: 12px 0; }
.runs { padding-left: 18px; }
.lead { font-size: 1.1em; }
.reports { columns: 2 340px; column-gap: 32px; list-style: none; padding: 0; font-size: 15px; }
.reports li { break-inside: avoid; margin: 0 0 .8em; }
details > summary { cursor: pointer; }
details.provenance { margin: 1.2em 0; }
.drawing { display: block; max-width: 100%; height: auto; }
.pictures { display: flex; flex-wrap: wrap; gap: 16px; }
.pictures figure { flex: 1 1 480px; min-width: 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 18px; padding: 0; }
.cards { list-style: none; margin: 1em 0; }
.cards > li { border: 1px solid #d8dee4; border-radius: 8px; padding: 14px 14px 10px; max-width: none; }
.cards > li { display: flex; flex-direction: column; }
.cards h3 { margin: 0 0 .4em; }
.cards h3 a { text-decoration-thickness: 1px; text-underline-offset: 3px; }
.cards p { margin: 0 0 .6em; font-size: 16px; line-height: 1.45; }
.cards p.beside { font-size: 14px; color: #555; }
.cards figure { margin: auto 0 .4em; }
.run-name { font-size: 12px; font-weight: 600; color: #555; }
.ledger td { vertical-align: top; }
.ledger small { color: #555; white-space: normal; }
.ledger details p, .ledger details ul { font-size: 14px; margin: .5em 0; padding-left: 18px; }
.ledger tr.beside td { border-top: 0; padding-top: 0; }
.ledger tr.decided td { border-bottom: 0; padding-bottom: 2px; }
.ledger .columns { display: grid; grid-template-columns: 1fr 1fr; gap: 24px; font-size: 14px; }
.verdict { display: inline-block; padding: 1px 8px; border-radius: 10px; font-size: 14px; background: #e8e8e8; }
.verdict { white-space: nowrap; font-weight: 600; }
.verdict[data-verdict="supported"] { background: #cdeee2; }
.verdict[data-verdict="not decided here"] { background: #fbeccb; }
.verdict[data-verdict="contradicted"] { background: #f9d8c6; }
@media (max-width: 600px) {
  .cards, .ledger .columns { grid-template-columns: 1fr; }
  .panels { overflow-x: auto; }
  .panels .plotly-graph-div { min-width: 620px; }
  .wide { display: none; }
  .results td:first-child { position: sticky; left: 0; background: #fff; }
  .narrow { display: block !important; }
  .ledger thead { display: none; }
  .ledger tr { display: block; border-bottom: 1px solid #e4e4e4; padding: 8px 0; }
  .ledger td { display: block; border: 0; padding: 2px 0; }
  .ledger td.verdicts::before { content: attr(data-run); color: #555; font-size: 12px; padding-right: 6px; }
  body { font-size: 16px; }
  header, main { padding-left: 14px; padding-right: 14px; }
  table { font-size: 14px; }
  th, td { padding: 4px 8px; }
}
@media print { header { display: none; } }
"""

# The policy makes browsers refuse every address outside the folder. Plotly compiles its WebGL drawing, hence eval.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'self' file: data: blob: 'unsafe-inline' 'unsafe-eval'">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
{script}
</head>
<body>
<header>{header}</header>
<main>
{body}
</main>
</body>
</html>
"""


def page(title: str, body: str, header: str = "", style: str = "", script: str = "") -> str:
    """A whole page. `title` is escaped; the rest is HTML, and `style` is added to the shared style sheet."""
    return PAGE.format(title=html.escape(title), body=body, header=header, style=STYLE + style, script=script)


def facts_table(facts: dict, summary: str = "What the numbers rest on") -> str:
    """A table of names and values, folded away under its summary; all text is escaped."""
    rows = (f"<tr><th>{html.escape(str(k))}</th><td>{html.escape(str(v))}</td></tr>" for k, v in facts.items())
    table = f'<div class="scroll"><table>{"".join(rows)}</table></div>'
    return f'<details class="provenance"><summary>{html.escape(summary)}</summary>{table}</details>'


def significant(value: float) -> str:
    """A number to three significant digits, with commas and never as a power: 44,100 or 0.00862.

    What is 0 to six decimals is 0.000000: a difference of 1e-9 is rounding.
    """
    if 0 < abs(value) < 0.5e-6:
        return "0.000000"
    return f"{Decimal(f'{value:.3g}'):,f}"

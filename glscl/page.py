"""The look of every page of a report."""

import html

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; color: #222; background: #fff; }
body { font: 17px/1.6 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif; }
header, main { max-width: 1080px; margin: 0 auto; padding: 0 20px; }
header { display: flex; justify-content: space-between; gap: 16px; padding-top: 14px; font-size: 14px; color: #555; }
header label { cursor: pointer; margin-left: auto; }
main { padding-bottom: 64px; }
h1 { font-size: 1.9em; line-height: 1.2; margin: .9em 0 .5em; }
h2 { font-size: 1.35em; line-height: 1.3; margin: 1.9em 0 .5em; }
h3 { font-size: 1.1em; margin: 1.5em 0 .4em; }
a { color: #0b5cad; }
.headline { border-left: 4px solid #0072B2; padding-left: 14px; font-weight: 600; }
p, li { max-width: 44em; }
h1, h2, h3, p, li, figcaption { overflow-wrap: anywhere; }
.anchor-link { visibility: hidden; text-decoration: none; color: #aaa; padding-left: .3em; }
:is(h1, h2, h3):hover .anchor-link { visibility: visible; }
.scroll, .output_html { overflow-x: auto; }
.rendered_html > table { display: block; overflow-x: auto; }
table { border-collapse: collapse; font-size: 15px; line-height: 1.4; margin: .8em 0; }
table { font-variant-numeric: tabular-nums; }
th, td { padding: 5px 12px; border: 0; border-bottom: 1px solid #e4e4e4; text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid #555; vertical-align: bottom; white-space: nowrap; }
.number { text-align: right; }
td small { color: #666; white-space: nowrap; }
.dataframe :is(td, th):not(:first-child) { text-align: right; }
.provenance { font-size: 13px; color: #555; }
.provenance th { font-weight: 600; white-space: nowrap; }
.provenance td { overflow-wrap: anywhere; min-width: 12em; }
figure { margin: 0; }
figcaption { font-size: 14px; color: #555; max-width: 52em; }
img, video { max-width: 100%; height: auto; }
video { max-height: 420px; border-radius: 4px; background: #f2f2f2; }
pre, code { font: 13.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { margin: 0; overflow-x: auto; }
.output_stream pre { color: #555; padding: 4px 0; }
.output_stderr pre, .output_error pre { background: #fdf1ee; padding: 8px 12px; border-radius: 6px; }
.output_area { margin: 12px 0; }
.input { display: none; }
body:has(#show-code:checked) .input { display: block; }
.input pre { background: #f6f7f9; padding: 12px 16px; border-radius: 6px; margin: 12px 0; }
.reports { list-style: none; padding: 0; }
.reports li { margin: 0 0 1.1em; }
.reports ul { padding-left: 18px; }
.questions > li, .ledger > li { margin: 0 0 1.2em; }
.questions p, .ledger p { margin: .3em 0; }
.ledger small { color: #555; }
.ledger details { font-size: 15px; }
.ledger summary { cursor: pointer; color: #0b5cad; }
.ledger i { color: #555; }
.verdict { padding: 1px 8px; border-radius: 10px; font-size: 14px; white-space: nowrap; background: #e8e8e8; }
.verdict[data-verdict="supported"] { background: #cdeee2; }
.verdict[data-verdict="supported in part"] { background: #fbeccb; }
.verdict[data-verdict="contradicted"] { background: #f9d8c6; }
@media (max-width: 600px) {
  .questions, .ledger { padding-left: 22px; }
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


def facts_table(facts: dict) -> str:
    """A table of names and values, both escaped."""
    rows = (f"<tr><th>{html.escape(str(k))}</th><td>{html.escape(str(v))}</td></tr>" for k, v in facts.items())
    return f'<div class="scroll"><table class="provenance">{"".join(rows)}</table></div>'


def significant(value: float) -> str:
    """A number to three significant digits, with commas and never as a power: 44,100 or 0.00862."""
    return f"{float(f'{value:.3g}'):,.12g}"

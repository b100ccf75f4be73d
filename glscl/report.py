"""Executed notebooks as web pages that open offline, from a folder or as one file.

python -m glscl.report single work/notebooks/04_evaluate-scenes.ipynb evaluate.html
"""

import argparse
import base64
import html
import re
import sys
from itertools import groupby
from pathlib import Path

import pandas as pd
from plotly.offline import get_plotlyjs
from pygments.formatters import HtmlFormatter

from glscl.figures import PLOTLY_MIME, figure_html
from glscl.page import facts_table, page, significant
from glscl.preview import preview
from glscl.stage import write_text

INDEX_LINK = '<a href="index.html">All reports</a>'
CODE_TOGGLE = '<label><input type="checkbox" id="show-code"> Show code</label>'
EMBEDS = r"<(?:script|link|img|video|audio|source|iframe)\b[^>]*?"
EXTERNAL = re.compile(EMBEDS + r"\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)")
PLAYER = 'width="224" controls autoplay muted loop playsinline'


def _read(notebook: str | Path):
    import nbformat  # here, as its two seconds are paid by every stage that only shows a table

    return nbformat.read(notebook, as_version=4)


def clips_html(found: dict[str, list[tuple[str | Path, str]]], megabytes: float) -> str:
    """HTML with the clips inside it, under one heading per sentence: it plays anywhere, from Jupyter to a mailed page.

    found: for each sentence the video files, anywhere on the disk, and their captions; all text is escaped. Files are
    embedded as `glscl.preview` copies in this order, as long as the HTML stays below so many megabytes of clips; a
    clip beyond that keeps its caption, which then says so. Raises VideoError at a file that cannot be read.
    """
    left, parts = megabytes * 1e6, []
    for sentence, clips in found.items():
        figures = []
        for path, caption in clips:
            content = base64.b64encode(preview(path)).decode() if left > 0 else ""
            if 0 < len(content) <= left:
                left -= len(content)
                video = f'<video {PLAYER} src="data:video/mp4;base64,{content}"></video>'
            else:
                left, video = 0, ""
                caption = f"{caption} (not shown: the clips of this page are limited to {megabytes:g} MB)"
            figures.append(
                f'<figure style="width: 224px">{video}<figcaption>{html.escape(caption)}</figcaption></figure>'
            )
        row = f'<div style="display: flex; flex-wrap: wrap; gap: 16px">{"".join(figures)}</div>'
        parts.append(f"<h3>{html.escape(sentence)}</h3>{row}")
    return "".join(parts)


def title_and_question(notebook: Path) -> tuple[str, str]:
    """The heading and the first paragraph of a notebook's first cell, as plain text."""
    cells = _read(notebook).cells
    found = re.match(r"# +(.+)\n*((?:.+\n?)*)", cells[0].source.strip() if cells else "")
    if not found or cells[0].cell_type != "markdown":
        raise ValueError(f"{notebook} must begin with a markdown cell '# Title' and a paragraph that says its question")
    title, question = (re.sub(r"[*`]|\[([^\]]*)\]\([^)]*\)", r"\1", text) for text in found.groups())
    return title.strip(), " ".join(question.split()).removeprefix("Question. ")


def headline(notebook: Path) -> str:
    """What the cell tagged `headline` of an executed notebook printed: its result in a sentence; empty without one."""
    cells = _read(notebook).cells
    printed = [output for cell in cells if "headline" in cell.metadata.get("tags", []) for output in cell.outputs]
    return " ".join("".join(output.get("text", "") for output in printed).split())


def _without_progress_bars(outputs: list) -> list:
    """The outputs less what tqdm wrote; warnings stay."""
    bar = re.compile(r"\d+%\||\d+it \[")
    kept = []
    for output in outputs:
        if output.get("name") == "stderr":
            output.text = "\n".join(s for s in re.split(r"[\r\n]+", output.text) if s.strip() and not bar.search(s))
        if output.get("text") != "":
            kept.append(output)
    return kept


def _render(notebook: Path, key: str) -> tuple[str, str]:
    """HTML of a notebook's first cell and of the others: figures as plotly calls, code in `.input` elements."""
    from nbconvert import HTMLExporter
    from nbformat.v4 import new_notebook

    content = _read(notebook)
    figures = 0
    for cell in content.cells:
        if cell.cell_type == "code":
            cell.outputs = _without_progress_bars(cell.outputs)
        for output in cell.get("outputs", []):
            if PLOTLY_MIME in output.get("data", {}):
                figures += 1
                output["data"] = {"text/html": figure_html(output.data[PLOTLY_MIME], f"{key}-{figures}")}
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    parts = [new_notebook(cells=cells) for cells in (content.cells[:1], content.cells[1:])]
    return tuple(exporter.from_notebook_node(part)[0] for part in parts)


def export_page(notebooks: list[str | Path], out_html: str | Path, single: bool = False) -> Path:
    """Write executed runs of one notebook, such as one per dataset, as a page that needs no network, code folded away.

    Beside the page comes assets/plotly.min.js, shared by all pages of a folder; `single` puts it into the page instead.
    Raises ValueError where a notebook embeds something from the network.
    """
    out_html = Path(out_html)
    results, bodies = [], []
    for number, notebook in enumerate(map(Path, notebooks), start=1):
        intro, body = _render(notebook, f"figure-{number}")
        if external := EXTERNAL.search(re.sub(r"<script>.*?</script>", "", intro + body, flags=re.DOTALL)):
            raise ValueError(f"{notebook} shows {external[1]}, out of reach offline; keep a copy in the project")
        name, result = html.escape(run_name(notebook)), html.escape(headline(notebook))
        results.append(f'<p class="headline">{result}</p>' if result else "")
        heading = f'<h2 class="run" id="{name}">{name}</h2>' if len(notebooks) > 1 else ""
        bodies.append(heading + body)
    links = " · ".join(f'<a href="#{html.escape(n)}">{html.escape(n)}</a>' for n in map(run_name, map(Path, notebooks)))
    body = intro + "".join(results) + (f"<p>Runs: {links}</p>" if len(notebooks) > 1 else "") + "".join(bodies)
    script = ""
    if "Plotly.newPlot" in body and single:
        script = f"<script>{get_plotlyjs()}</script>"
    elif "Plotly.newPlot" in body:
        write_text(out_html.parent / "assets" / "plotly.min.js", get_plotlyjs())
        script = '<script src="assets/plotly.min.js"></script>'
    title = title_and_question(Path(notebooks[0]))[0]
    style = HtmlFormatter(style="default").get_style_defs(".highlight")
    write_text(out_html, page(title, body, CODE_TOGGLE if single else INDEX_LINK + CODE_TOGGLE, style, script))
    return out_html


def run_name(notebook: Path) -> str:
    """What tells runs of one notebook apart: `scenes-glscl` of 03_train-scenes-glscl.ipynb."""
    return notebook.stem.partition("-")[2] or notebook.stem


def results_html(results: pd.DataFrame, caption: str = "", bold: pd.DataFrame | None = None) -> str:
    """A table and its caption, escaped. "43.1 [41.0, 45.2]" has its interval set small; a missing value is a dash.

    Floats show one decimal; a column whose cells all begin as numbers do is set to the right. bold: of the shape of
    the results, true for cells whose number is set bold.
    """

    def text(value) -> str:
        if pd.isna(value):
            return "\N{EN DASH}"
        return f"{value:.1f}" if isinstance(value, float) else html.escape(str(value))

    columns = {html.escape(str(name)): [text(value) for value in results[name]] for name in results}
    strong = [[False] * len(columns)] * len(results) if bold is None else bold.to_numpy().tolist()
    number = re.compile(r"[-+.\d\N{EN DASH}]")
    kinds = ["number" if all(map(number.match, column)) else "text" for column in columns.values()]
    head = "".join(f'<th class="{kind}">{name}</th>' for kind, name in zip(kinds, columns, strict=True))
    rows = []
    for values, heavy in zip(zip(*columns.values(), strict=True), strong, strict=True):
        cells = [re.sub(r"^\S+", r"<b>\g<0></b>", v) if h else v for v, h in zip(values, heavy, strict=True)]
        cells = [re.sub(r" (\[.*\])$", r" <small>\1</small>", cell) for cell in cells]
        row = "".join(f'<td class="{kind}">{cell}</td>' for kind, cell in zip(kinds, cells, strict=True))
        rows.append(f"<tr>{row}</tr>")
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<figure><div class="scroll">{table}</div><figcaption>{html.escape(caption)}</figcaption></figure>'


def questions_html(answered: list[tuple]) -> str:
    """The research questions, each a link to its page, with the answers of `glscl.findings.answers`; all escaped."""
    items = []
    for question, sentences in answered:
        text = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences)
        items.append(f'<li><a href="{question.page}">{html.escape(question.text)}</a>{text}</li>')
    return f'<ol class="questions">{"".join(items)}</ol>'


SAYS = {True: "for", False: "against", None: "beside"}


def ledger_html(claims: list[dict], unfolded: bool = False) -> str:
    """Claims with verdict and scope; test and evidence below, folded away or not. All text is escaped.

    claims: what `glscl.claims.Claim.judged` gives. Evidence stands as for the claim, against it, or beside: shown
    without deciding.
    """
    items = []
    for claim in claims:
        said = [SAYS[finding["holds"]] for finding in claim["evidence"]]
        counts = ", ".join(f"{said.count(word)} {word}" for word in SAYS.values() if word in said)
        evidence = "".join(map(_finding_html, claim["evidence"]))
        items.append(
            f'<li><p><b class="verdict" data-verdict="{claim["verdict"]}">{claim["verdict"]}</b> '
            f"{html.escape(claim['claim'])}</p><p><small>{html.escape(claim['scope'])}</small></p>"
            f"<details{' open' * unfolded}><summary>Test and evidence: {counts or 'none'}</summary>"
            f"<p>{html.escape(claim['test'])}</p><ul>{evidence}</ul></details></li>"
        )
    return f'<ol class="ledger">{"".join(items)}</ol>'


def _finding_html(finding: dict) -> str:
    value = significant(finding["value"])
    if finding["low"] is not None:
        value += f" [{significant(finding['low'])}, {significant(finding['high'])}]"
    page = finding["page"]
    return (
        f"<li><i>{SAYS[finding['holds']]}</i> {html.escape(finding['text'])}: <b>{value}</b> "
        f'<a href="{page}.html">{page}, {finding["figure"]}</a></li>'
    )


def build_report(
    notebooks: list[str | Path], out: str | Path, title: str, sections: dict[str, str], provenance: dict
) -> Path:
    """Write `out`/index.html and one page per notebook, its runs one after the other; return the index.

    notebooks: executed runs, NN_name.ipynb or NN_name-run.ipynb. sections: heading -> HTML, such as `questions_html`,
    `results_html` and `ledger_html` make; links in them name the pages of the notebooks. provenance: a mapping of what
    the numbers rest on. Title, headings and provenance are escaped.
    """
    out, items = Path(out), []
    in_order = sorted(map(Path, notebooks), key=lambda notebook: notebook.stem)
    for stem, runs in groupby(in_order, lambda notebook: notebook.stem.partition("-")[0]):
        runs = list(runs)
        written = export_page(runs, out / f"{stem}.html").name
        heading, question = map(html.escape, title_and_question(runs[0]))
        found = "".join(f"<li>{html.escape(result)}</li>" for run in runs if (result := headline(run)))
        items.append(f'<li><a href="{written}">{heading}</a><br>{question}<ul>{found}</ul></li>')
    parts = {**sections, "Reports": f'<ul class="reports">{"".join(items)}</ul>'}
    parts["What the numbers rest on"] = facts_table(provenance)
    body = "".join(f"<h2>{html.escape(heading)}</h2>\n{part}\n" for heading, part in parts.items())
    write_text(out / "index.html", page(title, f"<h1>{html.escape(title)}</h1>\n{body}"))
    return out / "index.html"


def main(argv: list[str] | None = None) -> int:
    """Export the notebook named on the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m glscl.report")
    commands = parser.add_subparsers(required=True)
    single = commands.add_parser("single", help="write one executed notebook as one self-contained page")
    single.add_argument("notebook", type=Path)
    single.add_argument("out_html", type=Path)
    given = parser.parse_args(argv)
    try:
        written = export_page([given.notebook], given.out_html, single=True)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {written} ({written.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())

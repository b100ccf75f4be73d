"""Executed notebooks as web pages that open offline, from a folder or as one file.

python -m glscl.report.export single work/notebooks/quick/04_evaluate-scenes.ipynb evaluate.html
"""

import argparse
import html
import re
import sys
from pathlib import Path

from plotly.offline import get_plotlyjs
from pygments.formatters import HtmlFormatter

from glscl.files import write_text
from glscl.report.figures.common import PLOTLY_MIME, figure_html
from glscl.report.page import facts_table, page

INDEX_LINK = '<a href="index.html">All reports</a>'
CODE_TOGGLE = '<label><input type="checkbox" id="show-code"> Show code</label>'
EMBEDS = r"<(?:script|link|img|video|audio|source|iframe)\b[^>]*?"
CAPTION = re.compile(r"<p><em>(?=(?:Figure|Table)s? \d)")
HEADING = re.compile(r"(#{1,6}) +\S.*")
EXTERNAL = re.compile(EMBEDS + r"\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)")


def _read(notebook: str | Path):
    """An executed notebook with the text of its source as it stands now: to reword it runs no stage again."""
    import nbformat  # here, as its two seconds are paid by every stage that only shows a table

    executed = nbformat.read(notebook, as_version=4)
    source = Path(executed.metadata.get("papermill", {}).get("input_path", ""))
    if source.is_file():
        texts = {c.id: c.source for c in nbformat.read(source, as_version=4).cells if c.cell_type == "markdown"}
        for cell in executed.cells:
            cell.source = texts.get(cell.get("id"), cell.source)
    return executed


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
    printed = [output for cell in _read(notebook).cells if _is_headline(cell) for output in cell.outputs]
    return " ".join("".join(output.get("text", "") for output in printed).split())


def _is_headline(cell) -> bool:
    return "headline" in cell.metadata.get("tags", [])


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


def _split_at_headings(cell) -> list:
    """A markdown cell as one cell per heading; any other cell as it is."""
    if cell.cell_type != "markdown":
        return [cell]
    parts, fenced = [[]], False
    for line in cell.source.split("\n"):
        fenced ^= line.lstrip().startswith("```")
        if HEADING.fullmatch(line) and not fenced and any(map(str.strip, parts[-1])):
            parts.append([])
        parts[-1].append(line)
    return [type(cell)(cell | {"source": "\n".join(lines)}) for lines in parts]


def without_empty_headings(cells: list) -> list:
    """The cells less headings above nothing: none of the cells up to the next heading of their level shows anything.

    Code is hidden in a report, so a code cell without output shows nothing.
    """
    parts = [part for cell in cells for part in _split_at_headings(cell)]
    levels = []  # of a part that is a heading alone, 0 for what shows something, None for what shows nothing
    for part in parts:
        alone = part.cell_type == "markdown" and HEADING.fullmatch(part.source.strip())
        shows = part.source.strip() if part.cell_type != "code" else part.get("outputs")
        levels.append(len(alone[1]) if alone else 0 if shows else None)
    kept = []
    for index, (part, level) in enumerate(zip(parts, levels, strict=True)):
        below = [0]
        if level:
            limits = (_level(later) for later in parts[index + 1 :])
            end = next((n for n, later in enumerate(limits) if later and later <= level), len(parts))
            below = levels[index + 1 :][:end]
        if 0 in below:
            kept.append(part)
    return kept


def _level(cell) -> int | None:
    found = HEADING.match(cell.source.lstrip()) if cell.cell_type == "markdown" else None
    return len(found[1]) if found else None


def _render(notebook: Path, key: str) -> tuple[str, str]:
    """HTML of a notebook's first cell and of the others: figures as plotly calls, code in `.input` elements.

    The cell tagged `headline` is left out: the page shows what it printed above all.
    """
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
                figure = output.data[PLOTLY_MIME]
                kind = "panels" if "xaxis2" in figure.get("layout", {}) else "panel"
                shown = figure_html(figure, f"{key}-{figures}")
                output["data"] = {"text/html": f'<div class="{kind}">{shown}</div>'}
    first, *others = content.cells
    others = without_empty_headings([cell for cell in others if not _is_headline(cell)])
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    parts = [new_notebook(cells=cells) for cells in ([first], others)]
    return tuple(CAPTION.sub('<p class="caption"><em>', exporter.from_notebook_node(part)[0]) for part in parts)


def export_page(notebooks: list[str | Path], out_html: str | Path, single: bool = False) -> Path:
    """Write executed runs of one notebook, such as one per dataset, as a page that needs no network, code folded away.

    Beside the page comes assets/plotly.min.js, shared by all pages of a folder; `single` puts it into the page instead.
    Raises ValueError where a notebook embeds something from the network.
    """
    out_html, notebooks = Path(out_html), [*map(Path, notebooks)]
    several, results, bodies = len(notebooks) > 1, [], []
    for number, notebook in enumerate(notebooks, start=1):
        intro, body = _render(notebook, f"figure-{number}")
        if external := EXTERNAL.search(re.sub(r"<script>.*?</script>", "", intro + body, flags=re.DOTALL)):
            raise ValueError(f"{notebook} shows {external[1]}, out of reach offline; keep a copy in the project")
        name, result = html.escape(run_name(notebook)), html.escape(headline(notebook))
        if several:
            results.append(f'<li><a href="#{name}">{name}</a>{": " * bool(result)}{result}</li>')
            body = f'<h2 class="run" id="{name}">{name}</h2>' + body
        elif result:
            results.append(f'<p class="headline">{result}</p>')
        bodies.append(body)
    top = f'<ul class="runs">{"".join(results)}</ul>' if several else "".join(results)
    body = intro + top + "".join(bodies)
    script = ""
    if "Plotly.newPlot" in body and single:
        script = f"<script>{get_plotlyjs()}</script>"
    elif "Plotly.newPlot" in body:
        write_text(out_html.parent / "assets" / "plotly.min.js", get_plotlyjs())
        script = '<script src="assets/plotly.min.js"></script>'
    title = title_and_question(notebooks[0])[0]
    style = HtmlFormatter(style="default").get_style_defs(".highlight")
    write_text(out_html, page(title, body, CODE_TOGGLE if single else INDEX_LINK + CODE_TOGGLE, style, script))
    return out_html


def run_name(notebook: Path) -> str:
    """What tells runs of one notebook apart: `scenes-glscl` of 03_train-scenes-glscl.ipynb."""
    return notebook.stem.partition("-")[2] or notebook.stem


def build_report(notebooks: list[Path], out: str | Path, title: str, lead: str, sections: dict, facts: dict) -> Path:
    """Write `out`/index.html and one page per notebook, its runs one after the other; return the index.

    notebooks: executed runs, NN_name.ipynb or NN_name-run.ipynb, in the order in which a page shows them. lead: a
    paragraph under the title. sections: heading -> HTML; links in them name the pages of the notebooks. facts: what the
    numbers rest on, by name, folded away at the end. Title, lead, headings and facts are escaped. Raises
    FileNotFoundError in one sentence that names what is absent.
    """
    out, items = Path(out), []
    if absent := [str(notebook) for notebook in notebooks if not notebook.is_file()]:
        raise FileNotFoundError(f"the report shows {', '.join(absent)}, which {_are(absent)} absent; run the pipeline.")
    by_page: dict[str, list[Path]] = {}
    for notebook in notebooks:
        by_page.setdefault(page_name(notebook), []).append(notebook)
    for name, runs in sorted(by_page.items()):
        export_page(runs, out / f"{name}.html")
        heading, question = map(html.escape, title_and_question(runs[0]))
        items.append(f'<li><a href="{name}.html">{heading}</a><br>{question}</li>')
    parts = {**sections, "All pages": f'<ul class="reports">{"".join(items)}</ul>'}
    body = "".join(f"<h2>{html.escape(heading)}</h2>\n{part}\n" for heading, part in parts.items())
    head = f'<h1>{html.escape(title)}</h1>\n<p class="lead">{html.escape(lead)}</p>\n'
    write_text(out / "index.html", page(title, head + body + facts_table(facts)))
    for old in {*out.glob("*.html")} - {out / f"{name}.html" for name in ("index", *by_page)}:
        old.unlink()  # of an earlier report
    return out / "index.html"


def _are(things: list) -> str:
    return "is" if len(things) == 1 else "are"


def page_name(notebook: Path) -> str:
    """The page that shows a run: `03_train` of 03_train-scenes-glscl.ipynb."""
    return notebook.stem.partition("-")[0]


def main(argv: list[str] | None = None) -> int:
    """Export the notebook named on the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m glscl.report.export")
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

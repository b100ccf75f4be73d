"""Executed notebooks as web pages that open offline: a folder of pages, one page alone, or all pages in one file.

python -m glscl.report.export single work/notebooks/quick/04_evaluate-scenes.ipynb evaluate.html
python -m glscl.report.export one reports/quick quick.html
"""

import argparse
import html
import re
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from plotly.offline import get_plotlyjs
from pygments.formatters import HtmlFormatter

from glscl.files import FullDiskError, write_text
from glscl.report.figures.common import PLOTLY_MIME, figure_html
from glscl.report.page import TEMPLATE, Link, facts_table, page

INDEX = Link("index.html", "All results on one page", "Overview")
LIBRARY = "assets/plotly.min.js"  # beside the pages, which share it
EMBEDS = r"<(?:script|link|img|video|audio|source|iframe)\b[^>]*?"
CAPTION = re.compile(r"<p><em>(?=(?:Figure|Table|Clip)s? \d)")
CAPTIONS = re.compile(r"^\*((?:Figure|Table|Clip)s? \d.*?)\*$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"(#{1,6}) +\S.*")
EXTERNAL = re.compile(EMBEDS + r"\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)")
IN_BAR = re.compile(r'<li><a href="([^"]+)" title="([^"]*)"[^>]*>([^<]*)</a></li>')  # of template/page.html.j2
LOCAL_LINK = re.compile(r'<a href="(?!#|https?:)[^"]*"[^>]*>(.*?)</a>', re.DOTALL)
BAR = re.compile(r"\d+%\||\d+it \[|\d\w+ \[\d\d:\d\d")  # what tqdm writes
LOG = re.compile(r"\bepoch \d+ of \d+\b.*\bloss\b")  # what training prints once per epoch


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
    title, question = map(_words, found.groups())
    return title, question.removeprefix("Question. ")


def _words(markdown: str) -> str:
    """Markdown as plain text in one line."""
    return " ".join(re.sub(r"[*`]|\[([^\]]*)\]\([^)]*\)", r"\1", markdown).split())


def headline(notebook: Path) -> str:
    """What the cell tagged `headline` of an executed notebook printed: its result in a sentence; empty without one."""
    printed = [output for cell in _read(notebook).cells if _is_headline(cell) for output in cell.outputs]
    return " ".join("".join(output.get("text", "") for output in printed).split())


def _is_headline(cell) -> bool:
    return "headline" in cell.metadata.get("tags", [])


def _asides_last(cells: list) -> list:
    """The cells with what a reader of results may skip, folded tables of facts and the lines of a log, at the end.

    Progress bars are dropped; warnings stay.
    """
    from nbformat.v4 import new_code_cell, new_output

    facts, log = [], []
    for cell in cells:
        kept = []
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                lines = [line for line in re.split(r"[\r\n]+", output.text) if line.strip() and not BAR.search(line)]
                log += [line for line in lines if LOG.search(line)]
                output.text = "\n".join(line for line in lines if not LOG.search(line))
            if 'class="provenance"' in output.get("data", {}).get("text/html", ""):
                facts.append(output)
            elif output.get("text") != "":
                kept.append(output)
        if cell.cell_type == "code":
            cell.outputs = kept
    lines = [new_output("stream", name="log", text="\n".join(log))] if log else []
    return [*cells, new_code_cell(outputs=facts + lines)]


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


def _figures_as_html(cells: list, key: str) -> None:
    """Replace figures by elements that plotly draws, each with its caption as the words for who cannot see it."""
    figures, words = 0, ""
    for cell in cells:
        if cell.cell_type == "markdown":
            words = next(map(_words, reversed(CAPTIONS.findall(cell.source))), words)
        for output in cell.get("outputs", []):
            if figure := output.get("data", {}).get(PLOTLY_MIME):
                figures += 1
                kind = "panels" if "xaxis2" in figure.get("layout", {}) else "panel"
                shown = figure_html(figure, f"{key}-{figures}", words=words)
                output["data"] = {"text/html": f'<div class="{kind}">{shown}</div>'}


@cache
def _exporter():
    from nbconvert import HTMLExporter

    return HTMLExporter(
        template_name=TEMPLATE.name,
        extra_template_basedirs=[str(TEMPLATE.parent)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )


def _render(notebook: Path, key: str) -> tuple[str, str]:
    """HTML of what a notebook says of itself below its question, and of its other cells, code in `.input` elements.

    The cell tagged `headline` is left out: the page shows what it printed above all.
    """
    from nbformat.v4 import new_markdown_cell, new_notebook

    first, *others = _read(notebook).cells
    about = new_markdown_cell(first.source.strip().partition("\n\n")[2].partition("\n\n")[2])
    cells = _asides_last([cell for cell in others if not _is_headline(cell)])
    _figures_as_html(cells, key)
    parts = [new_notebook(cells=cells) for cells in ([about], without_empty_headings(cells))]
    return tuple(CAPTION.sub('<p class="caption"><em>', _exporter().from_notebook_node(part)[0]) for part in parts)


def _runs_html(notebooks: list[Path], key: str) -> str:
    """Executed runs of one notebook: title, question and results above all, then run after run."""
    results, bodies, about = [], [], ""
    for number, notebook in enumerate(notebooks, start=1):
        about, body = _render(notebook, f"{key}-{number}")
        if external := EXTERNAL.search(re.sub(r"<script>.*?</script>", "", about + body, flags=re.DOTALL)):
            raise ValueError(f"{notebook} shows {external[1]}, out of reach offline; keep a copy in the project")
        name, result = html.escape(run_name(notebook)), html.escape(headline(notebook))
        if len(notebooks) > 1:
            place = html.escape(notebook.stem)
            results.append(f'<li><a href="#{place}">{name}</a>{": " * bool(result)}{result}</li>')
            body = f'<h2 class="run" id="{place}">{name}</h2>' + body
        elif result:
            results.append(f'<p class="headline">{result}</p>')
        bodies.append(body)
    title, question = map(html.escape, title_and_question(notebooks[0]))
    top = f'<ul class="runs">{"".join(results)}</ul>' if len(notebooks) > 1 else "".join(results)
    folded = f'<details class="about"><summary>How, from what, and where to</summary>{about}</details>'
    return f'<h1>{title}</h1><p class="lead">{question}</p>{top}{folded if about.strip() else ""}{"".join(bodies)}'


def export_page(notebooks: list[str | Path], out_html: str | Path, pages: Sequence[Link] = ()) -> Path:
    """Write executed runs of one notebook, such as one per dataset, as a page that needs no network, code folded away.

    pages: all pages of the report, for the bar above each; plotly.js lies beside them, which they share. Without them
    the page stands alone: plotly.js is inside, and of links to other pages the text stays. Raises ValueError where a
    notebook was not executed, or embeds something from the network.
    """
    out_html, notebooks = Path(out_html), [*map(Path, notebooks)]
    for notebook in notebooks:
        if not any(cell.get("execution_count") for cell in _read(notebook).cells):
            raise ValueError(f"{notebook} was not executed and has no results to show; name one in work/notebooks/.")
    body, library = _runs_html(notebooks, f"figure-{page_name(notebooks[0])}"), ""
    if not pages:
        body = LOCAL_LINK.sub(r"\1", body)
    if "Plotly.newPlot" in body and pages:
        write_text(out_html.parent / LIBRARY, get_plotlyjs())
        library = f'<script src="{LIBRARY}"></script>'
    elif "Plotly.newPlot" in body:
        library = f"<script>{get_plotlyjs()}</script>"
    title = title_and_question(notebooks[0])[0]
    write_text(out_html, page(title, body, pages, out_html.name, _code_style(), library))
    return out_html


def _code_style() -> str:
    return HtmlFormatter(style="default").get_style_defs(".highlight")


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
    out = Path(out)
    if absent := [str(notebook) for notebook in notebooks if not notebook.is_file()]:
        raise FileNotFoundError(f"the report shows {', '.join(absent)}, which {_are(absent)} absent; run the pipeline.")
    by_page: dict[str, list[Path]] = {}
    for notebook in sorted(notebooks, key=page_name):
        by_page.setdefault(page_name(notebook), []).append(notebook)
    about = {name: title_and_question(runs[0]) for name, runs in by_page.items()}
    pages = [INDEX, *(Link(f"{name}.html", said[1], said[0].partition(":")[0]) for name, said in about.items())]
    for name, runs in by_page.items():
        export_page(runs, out / f"{name}.html", pages)
    listed = "".join(f'<li><a href="{name}.html">{html.escape(said[0])}</a></li>' for name, said in about.items())
    parts = {**sections, "All pages": f'<ul class="reports">{listed}</ul>'}
    body = "".join(f"<h2>{html.escape(heading)}</h2>\n{part}\n" for heading, part in parts.items())
    head = f'<h1>{html.escape(title)}</h1>\n<p class="lead">{html.escape(lead)}</p>\n'
    write_text(out / INDEX.href, page(title, head + body + facts_table(facts), pages, INDEX.href))
    for old in {*out.glob("*.html")} - {out / link.href for link in pages}:
        old.unlink()  # of an earlier report
    return out / INDEX.href


def join_report(folder: str | Path, out_html: str | Path) -> Path:
    """Write all pages of a report as one file that needs nothing beside it, its links inside it; return the file.

    folder: as `build_report` wrote it. Raises FileNotFoundError where it holds no index.
    """
    folder = Path(folder)
    if not (folder / INDEX.href).is_file():
        raise FileNotFoundError(f"{folder} holds no {INDEX.href}; build the report first, with `make report`.")
    index = (folder / INDEX.href).read_text(encoding="utf-8")
    links = [Link(*map(html.unescape, found)) for found in IN_BAR.findall(index)]
    bodies = {link.href: (folder / link.href).read_text(encoding="utf-8") for link in links}
    bodies = {href: re.search(r"<main>(.*)</main>", text, re.DOTALL)[1] for href, text in bodies.items()}
    body = "".join(f'<section id="{Path(href).stem}">{text}</section>' for href, text in bodies.items())
    body = re.sub(r'<a href="(\w+)\.html(?:#([^"]*))?"', lambda to: f'<a href="#{to[2] or to[1]}"', body)
    bar = [link._replace(href=f"#{Path(link.href).stem}") for link in links]
    title = html.unescape(re.search(r"<title>(.*?)</title>", index, re.DOTALL)[1])
    library = f"<script>{get_plotlyjs()}</script>" if "Plotly.newPlot" in body else ""
    write_text(out_html, page(title, body, bar, code_style=_code_style(), library=library))
    return Path(out_html)


def _are(things: list) -> str:
    return "is" if len(things) == 1 else "are"


def page_name(notebook: Path) -> str:
    """The page that shows a run: `03_train` of 03_train-scenes-glscl.ipynb."""
    return notebook.stem.partition("-")[0]


def main(argv: list[str] | None = None) -> int:
    """Export what the command line names; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m glscl.report.export")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, source, about in (
        ("single", "notebook", "write one executed notebook as one self-contained page"),
        ("one", "folder", "write all pages of a report as one self-contained page"),
    ):
        command = commands.add_parser(name, help=about)
        command.add_argument("source", type=Path, metavar=source)
        command.add_argument("out_html", type=Path)
    given = parser.parse_args(argv)
    try:
        if given.command == "single":
            written = export_page([given.source], given.out_html)
        else:
            written = join_report(given.source, given.out_html)
    except (ValueError, FileNotFoundError, FullDiskError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {written} ({written.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Pages: what a reader sees offline, on a phone, in the dark, on paper and by ear; hostile captions can do nothing."""

import io
import os
import re
from html.parser import HTMLParser

import nbformat
import pytest
from nbformat import v4

from glscl.report import export
from tests.browser import Browser
from tests.report.conftest import COLUMNS, EPOCH, HOSTILE, METHODS, build, cell, printed, strip

WHERE = """(() => {
  const plot = document.querySelector('.plotly-graph-div'), box = plot.getBoundingClientRect();
  const {_size: size, xaxis, yaxis} = plot._fullLayout, {x, y} = plot._fullData[0];
  return [box.x + size.l + xaxis.d2p(x[POINT]), box.y + size.t + yaxis.d2p(y[POINT])];
})()"""
CAPTION = "document.querySelector('.hover-panel figcaption').textContent"
PICTURE = "(() => { const i = document.querySelector('.hover-panel img'); return [i.src, i.naturalWidth]; })()"
SHOWS = {"text/plain": "something"}


KINDS = ["index", "page", "single", "one"]


class Elements(HTMLParser):
    """All elements of a page, `found`: their names and attributes, in order."""

    def __init__(self, file):
        super().__init__()
        self.found = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def named(self, *names: str) -> list[dict]:
        return [attributes for name, attributes in self.found if name in names]


def test_folder_holds_the_pages_and_the_library_alone(two_runs, tmp_path):
    folder = build(two_runs, tmp_path / "out").parent
    (folder / "03_old.html").write_text("a page of an earlier report")
    build(two_runs, tmp_path / "out")
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert names == ["07_concepts.html", "assets/plotly.min.js", "index.html"]


def test_a_page_shows_all_runs_of_its_notebook(pages):
    page = pages["page"].read_text()
    assert page.count("Plotly.newPlot") == 4  # two figures of each of two runs
    assert page.count('src="data:video/mp4;base64,') == 2
    assert len(page) < 150_000


def test_index_says_title_and_what_the_numbers_rest_on(pages):
    page = pages["index"].read_text()
    assert "7 · Concepts: do they differ?" in page
    assert 'title="Do the K concepts of a clip differ?"' in page
    assert "nothing." not in page
    assert page.count('href="07_concepts.html"') == 3  # the bar, the card and the list of pages
    assert '<details class="provenance"><summary>What the numbers rest on</summary>' in page


@pytest.mark.parametrize(("kind", "current"), [("index", "Overview"), ("page", "7 · Concepts"), ("one", None)])
def test_the_bar_names_all_pages_in_order_and_marks_this_one(pages, kind, current):
    bar = re.search(r"<nav.*?</nav>", pages[kind].read_text(), re.DOTALL)[0]
    assert re.findall(r">([^<\n]+)</a>", bar) == ["Overview", "7 · Concepts"]
    assert re.findall(r'aria-current="page">(.*?)</a>', bar) == [current] * bool(current)


@pytest.mark.parametrize("kind", KINDS)
def test_no_link_leads_nowhere(pages, kind):
    elements = Elements(pages[kind])
    links = [one["href"] for one in elements.named("a")]
    assert bool(links) == (kind != "single")
    for link in links:
        file, _, place = link.partition("#")
        target = pages[kind].with_name(file) if file else pages[kind]
        assert target.is_file(), link
        assert not place or place in {one.get("id") for _, one in Elements(target).found}, link


@pytest.mark.parametrize("kind", KINDS)
def test_ids_occur_once(pages, kind):
    ids = [one["id"] for _, one in Elements(pages[kind]).found if "id" in one]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("kind", KINDS)
def test_figures_have_words_and_headers_a_scope(pages, kind):
    elements = Elements(pages[kind])
    assert {one.get("scope") for one in elements.named("th")} <= {"col", "row"}
    assert all(one["aria-label"] for one in elements.named("video"))
    drawn = [one["aria-label"] for one in elements.named("div") if one.get("role") == "img"]
    assert set(drawn) <= {"Figure 1. Where they look."}
    assert len(drawn) == {"index": 0, "page": 4, "single": 2, "one": 4}[kind]
    assert len(drawn) == sum(one.get("class") == "plotly-graph-div" for one in elements.named("div"))


def test_results_come_first_and_facts_and_logs_last(notebook, tmp_path):
    page = export.export_page([notebook], tmp_path / "a.html").read_text()
    main = page[page.index("<main>") :]
    parts = ["<h1>", "They differ", "<strong>Reads", "Kept: 0.003.", "Plotly.newPlot", "<table", "commit", EPOCH]
    assert [main.index(part) for part in parts] == sorted(main.index(part) for part in parts)
    assert '<details class="log"><summary>Log of training, 1 line</summary>' in main


def test_a_notebook_that_was_not_executed_is_refused(notebook, tmp_path, capsys):
    content = nbformat.read(notebook, as_version=4)
    for one in content.cells:
        if one.cell_type == "code":
            one.execution_count, one.outputs = None, []
    nbformat.write(content, notebook)
    assert export.main(["single", str(notebook), str(tmp_path / "a.html")]) == 1
    assert "07_concepts.ipynb was not executed" in capsys.readouterr().err
    assert not (tmp_path / "a.html").exists()


def test_missing_notebooks_are_named_in_one_sentence(two_runs, tmp_path):
    absent = [tmp_path / name for name in ("03_train-a.ipynb", "05_concepts-a.ipynb")]
    with pytest.raises(FileNotFoundError, match=r"shows .*03_train-a\.ipynb, .*05_concepts-a\.ipynb, which are absent"):
        export.build_report([*two_runs, *absent], tmp_path / "out", "T", "", {}, {})
    assert not (tmp_path / "out").exists()


def test_the_result_stands_first_and_once(pages):
    page = pages["single"].read_text()
    assert page.count("They differ") == 1
    assert page.index("They differ") < page.index("What they attend to")
    page = pages["page"].read_text()
    assert page.count("They differ") == 2
    links = [f'<a href="#07_concepts-{run}">{run}</a>: They differ' for run in ("scenes", "other")]
    assert page.index(links[0]) < page.index(links[1])
    assert page.index('id="07_concepts-scenes"') < page.index('id="07_concepts-other"')


def test_captions_look_like_captions(pages):
    assert pages["single"].read_text().count('<p class="caption"><em>Figure 1. Where\nthey ') == 1


def test_no_heading_stands_above_nothing(pages):
    page = pages["single"].read_text()
    assert all(heading in page for heading in ("What they attend to", "The clip"))
    assert not any(heading in page for heading in ("The answer", "Computed in silence", "In parts"))


@pytest.mark.parametrize(
    ("cells", "kept"),
    [
        (["# A", "## B", SHOWS], ["# A", "## B"]),
        (["# A", "## B", None, "## C", SHOWS], ["# A", "## C"]),
        (["# A\n\nText.", "# B"], ["# A\n\nText."]),
        (["## A\n\n## B\n\nText."], ["## B\n\nText."]),
        (["## A", "### B", None, "## C\n\n```\n# no heading\n```"], ["## C\n\n```\n# no heading\n```"]),
        (["Text.\n\n## A", None], ["Text.\n"]),
    ],
)
def test_which_headings_stand_above_something(cells, kept):
    made = [
        v4.new_markdown_cell(c) if isinstance(c, str) else cell("code", *([c] if c else []), tags=()) for c in cells
    ]
    left = export.without_empty_headings(made)
    assert [part.source for part in left if part.cell_type == "markdown" and part.source.strip()] == kept
    assert sum(part.cell_type == "code" for part in left) == sum(not isinstance(c, str) for c in cells)


def test_a_film_strip_is_stored_once_however_many_points_show_it(notebook):
    text = notebook.read_text()
    assert text.count(strip(255)) == 1


def test_warnings_stay_and_progress_bars_go(pages):
    page = pages["single"].read_text()
    assert "UserWarning: look" in page
    assert "###" not in page


@pytest.mark.parametrize("kind", KINDS)
def test_what_enters_is_escaped(pages, kind):
    assert HOSTILE not in pages[kind].read_text()
    assert "<img src=x" not in pages[kind].read_text()


@pytest.mark.parametrize("tag", ['<img src="https://example.org/a.png">', "<script src=//example.org/a.js></script>"])
def test_what_needs_the_network_is_refused(notebook, tmp_path, tag):
    content = nbformat.read(notebook, as_version=4)
    content.cells[10].outputs[0].data["text/html"] = tag
    nbformat.write(content, notebook)
    with pytest.raises(ValueError, match=r"07_concepts\.ipynb shows .*//example\.org/a\.(png|js),.*offline"):
        export.export_page([notebook], tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()


def test_a_missing_title_is_an_error(notebook, tmp_path):
    nbformat.write(v4.new_notebook(cells=[cell("1")]), notebook)
    with pytest.raises(ValueError, match="# Title"):
        export.export_page([notebook], tmp_path / "a.html")


def test_a_notebook_without_a_headline_has_none(tmp_path):
    nbformat.write(v4.new_notebook(cells=[v4.new_markdown_cell("# A\n\nB?"), printed("p", "C")]), tmp_path / "a.ipynb")
    assert export.headline(tmp_path / "a.ipynb") == ""
    assert 'class="headline"' not in export.export_page([tmp_path / "a.ipynb"], tmp_path / "a.html").read_text()


def test_command_line_writes_one_file(notebook, tmp_path, capsys):
    target = tmp_path / "alone" / "a.html"
    assert export.main(["single", str(notebook), str(target)]) == 0
    assert os.listdir(target.parent) == ["a.html"]
    assert export.main(["single", str(notebook.with_name("none.ipynb")), str(target)]) == 1
    assert "none.ipynb" in capsys.readouterr().err


def test_one_file_needs_a_report(tmp_path, capsys):
    assert export.main(["one", str(tmp_path), str(tmp_path / "one.html")]) == 1
    assert "holds no index.html" in capsys.readouterr().err


@pytest.fixture(scope="module")
def browser():
    with Browser() as started:
        yield started


@pytest.fixture
def desktop(browser):
    """The browser in a window of 1280 pixels, with a light scheme."""
    browser.resize(1280, 900)
    browser.prefer("light")
    return browser


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_reader_sees_the_page_offline(pages, desktop, kind):
    desktop.open(pages[kind])
    assert desktop.screenshot(whole=False).std() > 5, "the page is blank"
    assert desktop.external_requests() == []
    assert desktop.errors == []
    assert desktop.run("window.hacked") is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_phone_shows_methods_with_their_numbers_and_never_scrolls_sideways(pages, desktop, kind):
    desktop.resize(390, 844, phone=True)
    desktop.open(pages[kind])
    assert desktop.run("document.documentElement.scrollWidth") == 390
    desktop.run("document.querySelector('.results').closest('.scroll').scrollLeft = 200")
    places = """(() => {
      const row = document.querySelector(".results tr.own"), scrolled = row.closest(".scroll").scrollLeft;
      const [method, number] = [...row.cells].map(cell => cell.getBoundingClientRect());
      return [method.left, number.right + scrolled, scrolled];
    })()"""
    method, first_number, scrolled = desktop.run(places)
    assert scrolled == 200
    assert method >= 0, "the names of the methods scroll away"
    assert first_number <= 390, "the first number is out of sight"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["index", "page"])
def test_a_dark_scheme_makes_page_and_figures_dark(pages, desktop, kind):
    desktop.open(pages[kind])
    light = desktop.screenshot()
    desktop.prefer("dark")
    dark = desktop.screenshot()
    assert light.mean() > 220
    assert dark.mean() < 60
    assert (dark.min(axis=2) > 200).mean() < 0.02, "a figure stays white"


@pytest.mark.slow
def test_paper_holds_every_method_column_figure_and_clip(pages, desktop):
    pypdf = pytest.importorskip("pypdf", reason="pypdf is not installed: no test of what is printed")
    desktop.open(pages["single"])
    document = pypdf.PdfReader(io.BytesIO(desktop.print()))
    text = " ".join("".join(page.extract_text() for page in document.pages).split())
    assert all(method in text for method in METHODS)
    assert all(column in text for column in COLUMNS)
    assert text.count("11.9]") == len(COLUMNS)  # of the first row
    assert "right edge" in text, "a figure is cut"
    assert "commit" in text, "what is folded is not printed"
    assert "loss 2.508" not in text
    assert sum(len(page.images) for page in document.pages) == 1, "no still stands for the clip"
    assert not desktop.run("document.querySelector('details').open"), "what was opened for paper stays open"


@pytest.mark.slow
def test_a_table_is_sorted_and_searched(pages, desktop):
    desktop.open(pages["index"])
    methods = (
        "[...document.querySelectorAll('.results tbody tr')].filter(r => !r.hidden).map(r => r.cells[0].innerText)"
    )
    assert desktop.run(methods) == METHODS
    desktop.run("document.querySelectorAll('.results th button')[1].click()")
    assert desktop.run(methods) == METHODS[::-1]
    assert desktop.run("document.querySelectorAll('.results th')[1].ariaSort") == "descending"
    desktop.run("document.querySelectorAll('.results th button')[1].click()")
    assert desktop.run(methods) == METHODS
    field = "const f = document.querySelector('.search'); f.value = 'GLscl'; f.dispatchEvent(new Event('input'));"
    desktop.run(f"(() => {{ {field} }})()")
    assert desktop.run(methods) == ["GLSCL"]


@pytest.mark.slow
def test_hover_and_tap_show_the_clip_and_its_caption(pages, desktop):
    desktop.open(pages["page"])
    desktop.run("document.querySelector('.plotly-graph-div').scrollIntoView()")
    desktop.hover(*desktop.run(WHERE.replace("POINT", "0")))
    assert desktop.run(CAPTION) == HOSTILE
    assert desktop.run(PICTURE) == [strip(0), 280]
    x, y = desktop.run(WHERE.replace("POINT", "1"))
    desktop.hover(x, y)
    desktop.tap(x, y)
    assert desktop.run(CAPTION) == "a & b"
    assert desktop.run(PICTURE)[0] == strip(255)
    assert desktop.run("window.hacked") is None


@pytest.mark.slow
def test_code_is_folded_until_asked_for(pages, desktop):
    desktop.open(pages["page"])
    assert "shown_code" not in desktop.run("document.body.innerText")
    desktop.run("document.getElementById('show-code').click()")
    assert "shown_code" in desktop.run("document.body.innerText")


@pytest.mark.slow
def test_browser_helper_notices_errors_and_requests(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text("<script>console.error('seen'); missing()</script><img src='http://127.0.0.1:9/a.png'>")
    with Browser() as browser:
        browser.open(page)
        assert browser.screenshot().std() < 5
        assert "http://127.0.0.1:9/a.png" in browser.external_requests()
        assert any("seen" in error for error in browser.errors)
        assert any("missing" in error for error in browser.errors)


def test_a_page_shows_the_text_of_the_source_as_it_stands_now(tmp_path):
    cells = [v4.new_markdown_cell("# Title\n\n**Question.** Why?"), v4.new_markdown_cell("Old words.")]
    executed, source = v4.new_notebook(cells=[*cells, cell("1")]), tmp_path / "source.ipynb"
    executed.metadata["papermill"] = {"input_path": str(source)}
    nbformat.write(executed, tmp_path / "04_a-scenes.ipynb")
    assert "Old words." in export.export_page([tmp_path / "04_a-scenes.ipynb"], tmp_path / "a.html").read_text()
    cells[1].source = "New words."
    nbformat.write(v4.new_notebook(cells=cells), source)
    page = export.export_page([tmp_path / "04_a-scenes.ipynb"], tmp_path / "a.html").read_text()
    assert "New words." in page
    assert "Old words." not in page

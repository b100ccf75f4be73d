"""Pages: what a reader sees in a browser without a network, and what a hostile caption can do (nothing)."""

import os

import nbformat
import pytest
from nbformat import v4

from glscl.report import export, tables
from tests.browser import Browser
from tests.report.conftest import HOSTILE, cell, printed, strip

WHERE = """(() => {
  const plot = document.querySelector('.plotly-graph-div'), box = plot.getBoundingClientRect();
  const {_size: size, xaxis, yaxis} = plot._fullLayout, {x, y} = plot._fullData[0];
  return [box.x + size.l + xaxis.d2p(x[POINT]), box.y + size.t + yaxis.d2p(y[POINT])];
})()"""
CAPTION = "document.querySelector('#figure-1-1-panel figcaption').textContent"
PICTURE = "(() => { const i = document.querySelector('#figure-1-1-panel img'); return [i.src, i.naturalWidth]; })()"
SHOWS = {"text/plain": "something"}


@pytest.fixture
def build(two_runs, tmp_path):
    """build() -> index of a report of two runs of a notebook."""
    card = tables.Card(HOSTILE, HOSTILE, "07_concepts.html", [(HOSTILE, HOSTILE), ("other", HOSTILE)])
    sections = {HOSTILE: tables.cards_html([card])}
    return lambda: export.build_report(two_runs, tmp_path / "out", HOSTILE, HOSTILE, sections, {"hardware": HOSTILE})


def test_folder_holds_the_pages_and_the_library_alone(build):
    folder = build().parent
    (folder / "03_old.html").write_text("a page of an earlier report")
    build()
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert names == ["07_concepts.html", "assets/plotly.min.js", "index.html"]
    page = (folder / "07_concepts.html").read_text()
    assert page.count("Plotly.newPlot") == 4  # two figures of each of two runs
    assert page.count('src="data:video/mp4;base64,') == 2
    assert len(page) < 100_000


def test_index_says_title_question_and_what_the_numbers_rest_on(build):
    page = build().read_text()
    assert "Concepts: do they differ?" in page
    assert "Do the K concepts of a clip differ?" in page
    assert "Reads: nothing" not in page
    assert page.count('href="07_concepts.html"') == 2  # the card and the list of pages
    assert '<details class="provenance"><summary>What the numbers rest on</summary>' in page


def test_missing_notebooks_are_named_in_one_sentence(two_runs, tmp_path):
    absent = [tmp_path / name for name in ("03_train-a.ipynb", "05_concepts-a.ipynb")]
    with pytest.raises(FileNotFoundError, match=r"shows .*03_train-a\.ipynb, .*05_concepts-a\.ipynb, which are absent"):
        export.build_report([*two_runs, *absent], tmp_path / "out", "T", "", {}, {})
    assert not (tmp_path / "out").exists()


def test_the_result_stands_first_and_once(notebook, two_runs, tmp_path):
    page = export.export_page([notebook], tmp_path / "a.html").read_text()
    assert page.count("They differ") == 1
    assert page.index("They differ") < page.index("What they attend to")
    page = export.export_page(two_runs, tmp_path / "b.html").read_text()
    assert page.count("They differ") == 2
    assert page.index('<a href="#scenes">scenes</a>: They differ') < page.index('<a href="#other">other</a>: They')
    assert page.index('id="scenes"') < page.index('id="other"')


def test_captions_look_like_captions(notebook, tmp_path):
    page = export.export_page([notebook], tmp_path / "a.html").read_text()
    assert page.count('<p class="caption"><em>Figure 1. Where they look.') == 1


def test_no_heading_stands_above_nothing(notebook, tmp_path):
    page = export.export_page([notebook], tmp_path / "a.html").read_text()
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


def test_warnings_stay_and_progress_bars_go(notebook, tmp_path):
    page = export.export_page([notebook], tmp_path / "a.html").read_text()
    assert "UserWarning: look" in page
    assert "###" not in page


def test_what_enters_is_escaped(build):
    folder = build().parent
    for page in folder.glob("*.html"):
        assert HOSTILE not in page.read_text(), page
        assert "<img src=x" not in page.read_text(), page


@pytest.mark.parametrize("tag", ['<img src="https://example.org/a.png">', "<script src=//example.org/a.js></script>"])
def test_what_needs_the_network_is_refused(notebook, tmp_path, tag):
    content = nbformat.read(notebook, as_version=4)
    content.cells[8].outputs[0].data["text/html"] = tag
    nbformat.write(content, notebook)
    with pytest.raises(ValueError, match=r"07_concepts\.ipynb shows .*//example\.org/a\.(png|js),.*offline"):
        export.export_page([notebook], tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()


def test_a_missing_title_is_an_error(notebook, tmp_path):
    nbformat.write(v4.new_notebook(cells=[v4.new_code_cell("1")]), notebook)
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


@pytest.mark.slow
@pytest.mark.parametrize("single", [False, True], ids=["folder", "single"])
def test_reader_sees_the_page_offline(build, notebook, tmp_path, single):
    index = build()
    page = index.with_name("07_concepts.html")
    if single:
        page = export.export_page([notebook], tmp_path / "alone.html", single=True)
    with Browser() as browser:
        for target, least in ((page, 20), (index, 5)):
            browser.open(target)
            assert browser.screenshot().std() > least, "the page is blank"
            assert browser.external_requests() == []
            assert browser.errors == []
            assert browser.run("window.hacked") is None
        browser.resize(390, 844, phone=True)
        for target in (page, index):
            browser.open(target)
            assert browser.run("document.documentElement.scrollWidth") == 390, "the page scrolls sideways on a phone"


@pytest.mark.slow
def test_hover_and_tap_show_the_clip_and_its_caption(notebook, tmp_path):
    page = export.export_page([notebook], tmp_path / "a.html")
    with Browser() as browser:
        browser.open(page)
        browser.hover(*browser.run(WHERE.replace("POINT", "0")))
        assert browser.run(CAPTION) == HOSTILE
        assert browser.run(PICTURE) == [strip(0), 280]
        x, y = browser.run(WHERE.replace("POINT", "1"))
        browser.hover(x, y)
        browser.tap(x, y)
        assert browser.run(CAPTION) == "a & b"
        assert browser.run(PICTURE)[0] == strip(255)
        assert browser.run("window.hacked") is None


@pytest.mark.slow
def test_code_is_folded_until_asked_for(notebook, tmp_path):
    page = export.export_page([notebook], tmp_path / "a.html")
    with Browser() as browser:
        browser.open(page)
        assert "shown_code" not in browser.run("document.body.innerText")
        browser.run("document.getElementById('show-code').click()")
        assert "shown_code" in browser.run("document.body.innerText")


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
    executed, source = v4.new_notebook(cells=cells), tmp_path / "source.ipynb"
    executed.metadata["papermill"] = {"input_path": str(source)}
    nbformat.write(executed, tmp_path / "04_a-scenes.ipynb")
    assert "Old words." in export.export_page([tmp_path / "04_a-scenes.ipynb"], tmp_path / "a.html").read_text()
    cells[1].source = "New words."
    nbformat.write(v4.new_notebook(cells=cells), source)
    page = export.export_page([tmp_path / "04_a-scenes.ipynb"], tmp_path / "a.html").read_text()
    assert "New words." in page
    assert "Old words." not in page

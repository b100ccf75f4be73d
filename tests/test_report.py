"""Reports: what a reader sees in a browser without a network, and what a hostile caption can do (nothing)."""

import json
import os
from unittest import mock

import nbformat
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from nbformat import v4

from glscl import figures, report
from glscl.findings import Question
from tests.browser import Browser
from tests.clips import grey, write_clip

HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
WHERE = """(() => {
  const plot = document.querySelector('.plotly-graph-div'), box = plot.getBoundingClientRect();
  const {_size: size, xaxis, yaxis} = plot._fullLayout, {x, y} = plot._fullData[0];
  return [box.x + size.l + xaxis.d2p(x[POINT]), box.y + size.t + yaxis.d2p(y[POINT])];
})()"""
CAPTION = "document.querySelector('#figure-1-1-panel figcaption').textContent"
PICTURE = "(() => { const i = document.querySelector('#figure-1-1-panel img'); return [i.src, i.naturalWidth]; })()"


def strip(colour: int) -> str:
    return figures.film_strip(np.full((3, 30, 40, 3), colour, dtype=np.uint8))


def scatter() -> go.Figure:
    pairs = [("black", 0), ("white", 1), ("white", 1)]
    trace = go.Scatter(x=[0, 1, 2], y=[0, 2, 1], mode="markers", marker_size=14, customdata=pairs)
    return go.Figure(trace).update_layout(template=figures.TEMPLATE, title="Figure 1. Concepts")


def mime(figure) -> dict:
    with mock.patch.dict(os.environ, PLOTLY_RENDERER="plotly_mimetype"):
        return figure._repr_mimebundle_()


@pytest.fixture
def notebook(tmp_path):
    """Path of an executed notebook with a hostile caption, a figure with clips, a plain figure, and a clip."""
    film = write_clip(tmp_path / "a&b.mp4", grey(10))
    shown = figures.with_media(scatter(), {"black": strip(0), "white": strip(255)}, [HOSTILE, "a & b"])
    plain = {figures.PLOTLY_MIME: json.loads(go.Figure(go.Bar(y=[1, 2])).to_json())}
    bar = "UserWarning: look\n\r 0%|   | 0/3\r100%|###| 3/3 [00:01]\n"

    def cell(source, **data):
        outputs = [v4.new_output("display_data", data=value) for value in data.values()]
        return v4.new_code_cell(source, outputs=outputs)

    cells = [
        v4.new_markdown_cell(
            "# Concepts: do they *differ*?\n\nDo the `K` concepts of\na clip differ?\n\nReads: nothing."
        ),
        cell("shown_code = 1", media=mime(shown), plain=plain),
        cell("clip()", clip={"text/html": report.clips_html({HOSTILE: [(film, HOSTILE)]}, 4)}),
        v4.new_code_cell("noise()", outputs=[v4.new_output("stream", name="stderr", text=bar)]),
    ]
    path = tmp_path / "reports" / "notebooks" / "07_concepts.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(v4.new_notebook(cells=cells), path)
    return path


@pytest.fixture
def build(notebook, tmp_path):
    """build() -> index of a report of two notebooks with one title."""
    other = notebook.with_name("07_concepts-other.ipynb")
    other.write_bytes(notebook.read_bytes())
    results = pd.DataFrame(
        {"method": ["GLSCL", HOSTILE], "R@1": ["44.1 [41.0, 47.2]", "41.0 [38.1, 43.9]"], "MdR": [2.04, None]}
    )
    bold = pd.DataFrame({"method": [False, False], "R@1": [True, False], "MdR": [False, False]})
    finding = {"text": HOSTILE, "value": 7.195, "holds": False, "page": "07_concepts", "figure": "Table 8"}
    claims = [
        {"claim": HOSTILE, "test": HOSTILE, "scope": HOSTILE, "verdict": "contradicted"}
        | {"evidence": [finding | {"low": 7.037, "high": 7.2}, finding | {"holds": None, "low": None, "high": None}]}
    ]
    question = Question(HOSTILE, "concepts", "07_concepts.html")
    sections = {
        HOSTILE: report.questions_html([(question, [HOSTILE])]),
        "Results": report.results_html(results, f"Table 1. {HOSTILE}", bold),
        "Claims": report.ledger_html(claims),
    }
    return lambda: report.build_report([notebook, other], tmp_path / "out", HOSTILE, sections, {"hardware": HOSTILE})


def test_folder_holds_the_pages_and_the_library_alone(build):
    folder = build().parent
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert names == ["07_concepts.html", "assets/plotly.min.js", "index.html"]
    page = (folder / "07_concepts.html").read_text()
    assert page.count("Plotly.newPlot") == 4  # two figures of each of two runs
    assert page.count('src="data:video/mp4;base64,') == 2
    assert len(page) < 100_000


def test_a_thorough_run_stands_below_the_default_one(notebook, tmp_path):
    runs = [notebook.with_name(f"07_concepts-{run}.ipynb") for run in ("scenes-thorough", "scenes")]
    for run in runs:
        run.write_bytes(notebook.read_bytes())
    report.build_report(runs, tmp_path / "out", "Study", {}, {})
    page = (tmp_path / "out/07_concepts.html").read_text()
    assert page.index('id="scenes"') < page.index('id="scenes-thorough"')


def test_a_film_strip_is_stored_once_however_many_points_show_it(notebook):
    text = notebook.read_text()
    assert text.count(strip(255)) == 1


def test_warnings_stay_and_progress_bars_go(notebook, tmp_path):
    page = report.export_page([notebook], tmp_path / "a.html").read_text()
    assert "UserWarning: look" in page
    assert "###" not in page


def test_index_says_title_question_and_numbers_with_intervals(build):
    page = build().read_text()
    assert "Concepts: do they differ?" in page
    assert "Do the K concepts of a clip differ?" in page
    assert "Reads: nothing" not in page
    assert '<td class="number"><b>44.1</b> <small>[41.0, 47.2]</small></td><td class="number">2.0</td>' in page
    assert '<td class="number">41.0 <small>' in page
    assert '<td class="number">\N{EN DASH}</td>' in page
    assert page.count('href="07_concepts.html"') == 4  # question, two findings, list of pages
    assert '<h2 class="run" id="other">' in (build().parent / "07_concepts.html").read_text()


def test_index_says_verdict_evidence_and_what_it_speaks_for(build):
    page = build().read_text()
    assert '<b class="verdict" data-verdict="contradicted">contradicted</b>' in page
    assert "Test and evidence: 1 against, 1 beside" in page
    assert "<b>7.2 [7.04, 7.2]</b>" in page
    assert "<details open" not in page
    assert "<details open" in report.ledger_html(
        [{"claim": "a", "test": "b", "scope": "c", "verdict": "supported", "evidence": []}], unfolded=True
    )


def test_what_enters_is_escaped(build):
    folder = build().parent
    for page in folder.glob("*.html"):
        assert HOSTILE not in page.read_text(), page
        assert "<img src=x" not in page.read_text(), page


@pytest.mark.parametrize("tag", ['<img src="https://example.org/a.png">', "<script src=//example.org/a.js></script>"])
def test_what_needs_the_network_is_refused(notebook, tmp_path, tag):
    content = nbformat.read(notebook, as_version=4)
    content.cells[2].outputs[0].data["text/html"] = tag
    nbformat.write(content, notebook)
    with pytest.raises(ValueError, match=r"07_concepts\.ipynb shows .*//example\.org/a\.(png|js),.*offline"):
        report.export_page([notebook], tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()


def test_a_missing_title_is_an_error(notebook, tmp_path):
    nbformat.write(v4.new_notebook(cells=[v4.new_code_cell("1")]), notebook)
    with pytest.raises(ValueError, match="# Title"):
        report.export_page([notebook], tmp_path / "a.html")


def test_command_line_writes_one_file(notebook, tmp_path, capsys):
    target = tmp_path / "alone" / "a.html"
    assert report.main(["single", str(notebook), str(target)]) == 0
    assert os.listdir(target.parent) == ["a.html"]
    assert report.main(["single", str(notebook.with_name("none.ipynb")), str(target)]) == 1
    assert "none.ipynb" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("media", "captions", "message"),
    [
        ({"black": strip(0)}, ["a", "b"], "'white'"),
        ({"black": strip(0), "white": strip(1)}, ["a"], "captions 1"),
        ({"black": "https://example.org/a.jpg", "white": strip(1)}, ["a", "b"], "data URI"),
    ],
)
def test_media_must_be_complete(media, captions, message):
    with pytest.raises(ValueError, match=message):
        figures.with_media(scatter(), media, captions)


def test_jupyter_gets_panel_and_library_in_one_piece():
    shown = figures.with_media(scatter(), {"black": strip(0), "white": strip(255)}, [HOSTILE, "b"])
    with mock.patch.dict(os.environ):
        os.environ.pop("PLOTLY_RENDERER", None)
        bundle = shown._repr_mimebundle_()
    assert list(bundle) == ["text/html"]
    assert len(bundle["text/html"]) > 1_000_000
    assert HOSTILE not in bundle["text/html"]


@pytest.mark.slow
@pytest.mark.parametrize("single", [False, True], ids=["folder", "single"])
def test_reader_sees_the_page_offline(build, notebook, tmp_path, single):
    index = build()
    page = index.with_name("07_concepts.html")
    if single:
        page = report.export_page([notebook], tmp_path / "alone.html", single=True)
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
    page = report.export_page([notebook], tmp_path / "a.html")
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
    page = report.export_page([notebook], tmp_path / "a.html")
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

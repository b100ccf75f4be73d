"""An executed notebook whose captions are hostile, and the report of two runs of it."""

import json
import os
from unittest import mock

import nbformat
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from nbformat import v4

from glscl.report import clips, export, tables
from glscl.report.figures import common
from glscl.report.page import facts_table
from tests.clips import grey, write_clip

HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
METHODS = [f"method_{number}" for number in range(11)] + ["GLSCL"]
COLUMNS = ["R@1", "R@5", "R@10", "R@50", "MdR", "MnR", "mAP@10", "the last column"]
EPOCH = "x_clip, seed 0, epoch 1 of 2: loss 2.508, validation R@1 33.6, 158 texts/s, 0% of the time waiting for data"
BAR = "UserWarning: look\n\r 0%|   | 0/3\r100%|###| 3/3 [00:01]\n"


def strip(colour: int) -> str:
    """A film strip of one grey."""
    return common.film_strip(np.full((3, 30, 40, 3), colour, dtype=np.uint8))


def scatter() -> go.Figure:
    """Three points; the last two show the same clip."""
    pairs = [("black", 0), ("white", 1), ("white", 1)]
    trace = go.Scatter(x=[0, 1, 2], y=[0, 2, 1], mode="markers", marker_size=14, customdata=pairs)
    return go.Figure(trace).update_layout(template=common.TEMPLATE, title="Figure 1. Concepts")


def wide() -> go.Figure:
    """A figure that ends in words at its right edge."""
    figure = go.Figure(go.Bar(y=[1, 2])).update_layout(template=common.TEMPLATE)
    return figure.add_annotation(text="right edge", xref="paper", x=1, xanchor="right", y=2, showarrow=False)


def main_table() -> str:
    """Twelve methods with eight columns of numbers and intervals."""
    cells = {"method": [*METHODS[:-1], "glscl"]}
    for column in COLUMNS:
        cells[column] = [f"{10 + row}.5 [{9 + row}.1, {11 + row}.9]" for row in range(len(METHODS))]
    return tables.results_html(pd.DataFrame(cells), "Twelve methods.")


def mime(figure) -> dict:
    """The figure as a stage keeps it."""
    with mock.patch.dict(os.environ, PLOTLY_RENDERER="plotly_mimetype"):
        return figure._repr_mimebundle_()


def cell(source: str, *outputs: dict, tags: tuple[str, ...] = ()):
    """A code cell that displayed some data."""
    shown = [v4.new_output("display_data", data=data) for data in outputs]
    return v4.new_code_cell(source, execution_count=1, outputs=shown, metadata={"tags": [*tags]} if tags else {})


def printed(source: str, text: str, name: str = "stdout", tags: tuple[str, ...] = ()):
    """A code cell that printed a text."""
    made = cell(source, tags=tags)
    made.outputs = [v4.new_output("stream", name=name, text=text)]
    return made


def write_notebook(path):
    """Write an executed notebook, return its path: a headline, figures with and without clips, a clip, empty parts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    film = write_clip(path.parent / "a&b.mp4", grey(10))
    shown = common.with_media(scatter(), {"black": strip(0), "white": strip(255)}, [HOSTILE, "a & b"])
    plain = {common.PLOTLY_MIME: json.loads(wide().to_json())}
    cells = [
        v4.new_markdown_cell(
            "# 7 · Concepts: do they *differ*?\n\nDo the `K` concepts of\na clip differ?\n\n**Reads** nothing."
        ),
        cell("provenance()", {"text/html": facts_table({"commit": HOSTILE})}),
        v4.new_markdown_cell("## The answer"),
        printed("print(answer)", f"They differ {HOSTILE}.\n", tags=("headline",)),
        v4.new_markdown_cell("## What they attend to\n\n*Figure 1. Where\nthey `look`.*"),
        printed("train()", f"{EPOCH}\nKept: 0.003.\n"),
        cell("shown_code = 1", mime(shown), plain),
        v4.new_markdown_cell("## Computed in silence\n\n### In parts"),
        cell("silent()"),
        v4.new_markdown_cell("## The clip"),
        cell("clip()", {"text/html": clips.clips_html({HOSTILE: [(film, HOSTILE)]}, 4)}),
        printed("noise()", BAR, name="stderr"),
        v4.new_markdown_cell("## The table\n\n*Table 1. Twelve methods.*"),
        cell("table()", {"text/html": main_table()}),
    ]
    nbformat.write(v4.new_notebook(cells=cells), path)
    return path


@pytest.fixture
def notebook(tmp_path):
    """Path of an executed notebook."""
    return write_notebook(tmp_path / "notebooks" / "07_concepts.ipynb")


@pytest.fixture
def two_runs(notebook):
    """Paths of two runs of that notebook."""
    return copies(notebook)


def copies(notebook):
    """Two runs of a notebook beside it."""
    runs = [notebook.with_name(f"07_concepts-{run}.ipynb") for run in ("scenes", "other")]
    for run in runs:
        run.write_bytes(notebook.read_bytes())
    return runs


def build(runs, out):
    """A report of two runs of a notebook; its index."""
    card = tables.Card(HOSTILE, HOSTILE, "07_concepts.html", [(HOSTILE, HOSTILE), ("other", HOSTILE)])
    sections = {HOSTILE: tables.cards_html([card]), "Results": main_table()}
    return export.build_report(runs, out, HOSTILE, HOSTILE, sections, {"hardware": HOSTILE})


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """What a reader may get, made once and not to be changed: index and page of a report, a page alone, one file."""
    folder = tmp_path_factory.mktemp("pages")
    notebook = write_notebook(folder / "notebooks" / "07_concepts.ipynb")
    index = build(copies(notebook), folder / "report")
    return {
        "index": index,
        "page": index.with_name("07_concepts.html"),
        "single": export.export_page([notebook], folder / "single.html"),
        "one": export.join_report(index.parent, folder / "one.html"),
    }

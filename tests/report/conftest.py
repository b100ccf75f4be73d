"""An executed notebook whose captions are hostile."""

import json
import os
from unittest import mock

import nbformat
import numpy as np
import plotly.graph_objects as go
import pytest
from nbformat import v4

from glscl.report import clips
from glscl.report.figures import common
from tests.clips import grey, write_clip

HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
BAR = "UserWarning: look\n\r 0%|   | 0/3\r100%|###| 3/3 [00:01]\n"


def strip(colour: int) -> str:
    """A film strip of one grey."""
    return common.film_strip(np.full((3, 30, 40, 3), colour, dtype=np.uint8))


def scatter() -> go.Figure:
    """Three points; the last two show the same clip."""
    pairs = [("black", 0), ("white", 1), ("white", 1)]
    trace = go.Scatter(x=[0, 1, 2], y=[0, 2, 1], mode="markers", marker_size=14, customdata=pairs)
    return go.Figure(trace).update_layout(template=common.TEMPLATE, title="Figure 1. Concepts")


def mime(figure) -> dict:
    """The figure as a stage keeps it."""
    with mock.patch.dict(os.environ, PLOTLY_RENDERER="plotly_mimetype"):
        return figure._repr_mimebundle_()


def cell(source: str, *outputs: dict, tags: tuple[str, ...] = ()):
    """A code cell that displayed some data."""
    shown = [v4.new_output("display_data", data=data) for data in outputs]
    return v4.new_code_cell(source, outputs=shown, metadata={"tags": [*tags]} if tags else {})


def printed(source: str, text: str, name: str = "stdout", tags: tuple[str, ...] = ()):
    """A code cell that printed a text."""
    outputs = [v4.new_output("stream", name=name, text=text)]
    return v4.new_code_cell(source, outputs=outputs, metadata={"tags": [*tags]} if tags else {})


@pytest.fixture
def notebook(tmp_path):
    """Path of an executed notebook: a headline, a figure with clips, a plain figure, a clip, and empty sections."""
    film = write_clip(tmp_path / "a&b.mp4", grey(10))
    shown = common.with_media(scatter(), {"black": strip(0), "white": strip(255)}, [HOSTILE, "a & b"])
    plain = {common.PLOTLY_MIME: json.loads(go.Figure(go.Bar(y=[1, 2])).to_json())}
    cells = [
        v4.new_markdown_cell(
            "# Concepts: do they *differ*?\n\nDo the `K` concepts of\na clip differ?\n\nReads: nothing."
        ),
        v4.new_markdown_cell("## The answer"),
        printed("print(answer)", f"They differ {HOSTILE}.\n", tags=("headline",)),
        v4.new_markdown_cell("## What they attend to\n\n*Figure 1. Where they look.*"),
        cell("shown_code = 1", mime(shown), plain),
        v4.new_markdown_cell("## Computed in silence\n\n### In parts"),
        cell("silent()"),
        v4.new_markdown_cell("## The clip"),
        cell("clip()", {"text/html": clips.clips_html({HOSTILE: [(film, HOSTILE)]}, 4)}),
        printed("noise()", BAR, name="stderr"),
    ]
    path = tmp_path / "notebooks" / "07_concepts.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(v4.new_notebook(cells=cells), path)
    return path


@pytest.fixture
def two_runs(notebook):
    """Paths of two runs of that notebook."""
    runs = [notebook.with_name(f"07_concepts-{run}.ipynb") for run in ("scenes", "other")]
    for run in runs:
        run.write_bytes(notebook.read_bytes())
    return runs

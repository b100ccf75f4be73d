"""The figure of the worlds page: R@1 of every head in every world, between untrained CLIP and the ceilings."""

from textwrap import fill

import plotly.graph_objects as go

from glscl.report.figures.common import MUTED, PALETTE, TEMPLATE
from glscl.report.names import name_of

LINES = {"bag": "bag of facts", "ordered": "every fact, in order"}


def worlds(found: dict[str, dict]) -> go.Figure:
    """A group of bars per world, one per head, with intervals; marks for untrained CLIP and two ceilings.

    found: {world: {"heads": {head: {"mean", "low", "high"}}, "untrained", "ceilings": {kind: R@1}}}, percent.
    """
    figure, names = go.Figure(), list(found)
    heads = list(dict.fromkeys(head for world in found.values() for head in world["heads"]))
    for number, head in enumerate(heads):
        rows = [world["heads"][head] for world in found.values()]
        figure.add_bar(
            x=names,
            y=[row["mean"] for row in rows],
            name=name_of(head),
            marker_color=PALETTE[number % len(PALETTE)],
            error_y={
                "type": "data",
                "array": [None if row["high"] is None else row["high"] - row["mean"] for row in rows],
                "arrayminus": [None if row["low"] is None else row["mean"] - row["low"] for row in rows],
                "thickness": 1.5,
            },
        )
    marks = {"untrained CLIP": [world["untrained"] for world in found.values()]}
    marks |= {name: [world["ceilings"][kind] for world in found.values()] for kind, name in LINES.items()}
    for symbol, (name, values) in zip(("line-ew", "triangle-down", "triangle-up"), marks.items(), strict=True):
        style = {"symbol": symbol, "size": 12, "color": MUTED, "line": {"width": 3, "color": MUTED}}
        figure.add_scatter(x=names, y=values, mode="markers", name=name, marker=style)
    figure.update_yaxes(title_text="text-to-video R@1, %", range=[0, 102])
    figure.update_xaxes(
        automargin=True, tickvals=names, ticktext=[fill(name, 16).replace("\n", "<br>") for name in names]
    )
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}
    return figure.update_layout(template=TEMPLATE, height=460, margin_t=70, barmode="group", legend=legend)

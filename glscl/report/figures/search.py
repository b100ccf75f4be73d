"""Figure of search: what a faster search misses."""

import pandas as pd
import plotly.graph_objects as go

from glscl.report.figures.common import PALETTE, TEMPLATE

NAMES = {"float32": "all videos, float32", "codes": "all videos, by codes"}


def recall_over_time(rows: pd.DataFrame) -> go.Figure:
    """Recall of the ten best videos against the milliseconds that a search takes of all processors.

    rows: columns way (a number of candidates, or a name in `NAMES`), seconds and recall (0 to 1).
    """
    named = rows["way"].isin(NAMES.keys())
    line, figure = rows[~named], go.Figure()
    figure.add_scatter(
        x=1000 * line["seconds"],
        y=100 * line["recall"],
        name="candidates",
        text=line["way"],
        mode="lines+markers+text",
        textposition="bottom right",
        marker_color=PALETTE[0],
        hovertemplate="%{text} candidates: %{y:.1f} %, %{x:.3g} ms<extra></extra>",
    )
    for row, colour in zip(rows[named].itertuples(), PALETTE[1:], strict=False):
        figure.add_scatter(
            x=[1000 * row.seconds],
            y=[100 * row.recall],
            name=NAMES[row.way],
            mode="markers",
            marker={"size": 14, "symbol": "star", "color": colour},
            hovertemplate=f"{NAMES[row.way]}: %{{x:.3g}} ms<extra></extra>",
        )
    figure.update_xaxes(type="log", title_text="milliseconds of processors, per search")
    figure.update_yaxes(title_text="ten best videos found, %")
    return figure.update_layout(template=TEMPLATE, height=420, margin_t=56)

"""The figure of a transfer: what share of the in-domain recall each start reaches."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from glscl.figures import PALETTE, TEMPLATE

LOOKS = [("circle", "#888"), ("diamond-open", "#888"), ("circle", PALETTE[0]), ("diamond", PALETTE[1])]


def retained(rows: pd.DataFrame) -> go.Figure:
    """Points and 95 % intervals of shares, a panel per way, a line per head, a colour and symbol per start.

    rows: columns way, head, start, share, low, high, in percent of the in-domain recall of the same head.
    """
    ways, heads, starts = (list(dict.fromkeys(rows[name])) for name in ("way", "head", "start"))
    figure = make_subplots(1, len(ways), subplot_titles=ways, shared_yaxes=True, horizontal_spacing=0.04)
    for column, way in enumerate(ways, 1):
        for number, (start, (symbol, colour)) in enumerate(zip(starts, LOOKS, strict=False)):
            part = rows[(rows["way"] == way) & (rows["start"] == start)]
            figure.add_scatter(
                x=part["share"],
                y=[-heads.index(head) + 0.16 * ((len(starts) - 1) / 2 - number) for head in part["head"]],
                error_x={"array": part["high"] - part["share"], "arrayminus": part["share"] - part["low"]},
                customdata=part[["head", "low", "high"]],
                hovertemplate="%{customdata[0]}, " + start + ": %{x:.0f} % "
                "[%{customdata[1]:.0f}, %{customdata[2]:.0f}]<extra></extra>",
                name=start,
                legendgroup=start,
                showlegend=column == 1,
                mode="markers",
                marker={"symbol": symbol, "color": colour, "size": 10},
                row=1,
                col=column,
            )
        figure.add_vline(100, line={"color": "#222", "dash": "dot", "width": 1.5}, row=1, col=column)
    figure.update_xaxes(title_text="% of the in-domain R@1", rangemode="tozero")
    figure.update_yaxes(
        tickvals=[-place for place in range(len(heads))], ticktext=heads, showgrid=False, zeroline=False
    )
    legend = {"y": -0.3, "yanchor": "top"}
    return figure.update_layout(template=TEMPLATE, height=200 + 70 * len(heads), margin_t=40, legend=legend)

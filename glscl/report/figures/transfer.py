"""The figure of a transfer: how far each start is above or below zero-shot CLIP."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from glscl.report.figures.common import PALETTE, TEMPLATE

LOOKS = [("diamond-open", "#888"), ("circle", PALETTE[0]), ("diamond", PALETTE[1]), ("square-open", "#222")]


def over_clip(rows: pd.DataFrame) -> go.Figure:
    """Points and 95 % intervals, a panel per transfer, a line per head, a colour and symbol per start; 0 is CLIP.

    rows: columns transfer, head, start, mean, low, high, in points over zero-shot CLIP.
    """
    transfers, heads, starts = (list(dict.fromkeys(rows[name])) for name in ("transfer", "head", "start"))
    columns = max(1, len(transfers))
    figure = make_subplots(1, columns, subplot_titles=transfers, shared_yaxes=True, horizontal_spacing=0.04)
    for column, transfer in enumerate(transfers, 1):
        for number, (start, (symbol, colour)) in enumerate(zip(starts, LOOKS, strict=False)):
            part = rows[(rows["transfer"] == transfer) & (rows["start"] == start)]
            figure.add_scatter(
                x=part["mean"],
                y=[-heads.index(head) + 0.16 * ((len(starts) - 1) / 2 - number) for head in part["head"]],
                error_x={"array": part["high"] - part["mean"], "arrayminus": part["mean"] - part["low"]},
                customdata=part[["head", "low", "high"]],
                hovertemplate="%{customdata[0]}, " + start + ": %{x:+.1f} points "
                "[%{customdata[1]:.1f}, %{customdata[2]:.1f}]<extra></extra>",
                name=start,
                legendgroup=start,
                showlegend=column == 1,
                mode="markers",
                marker={"symbol": symbol, "color": colour, "size": 10},
                row=1,
                col=column,
            )
        figure.add_vline(0, line={"color": "#222", "dash": "dot", "width": 1.5}, row=1, col=column)
    figure.update_xaxes(title_text="points of R@1 over zero-shot CLIP", zeroline=False)
    figure.update_yaxes(
        tickvals=[-position for position in range(len(heads))], ticktext=heads, showgrid=False, zeroline=False
    )
    legend = {"yref": "container", "y": 0, "yanchor": "bottom"}
    return figure.update_layout(
        template=TEMPLATE, height=180 + 58 * len(heads), margin={"t": 40, "b": 100}, legend=legend
    )

"""Figures of a transfer: recall on every target beside its controls, and the difference to untrained CLIP."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from glscl.report.figures.common import PALETTE, TEMPLATE
from glscl.report.names import name_of

MAIN, UNTRAINED = "zero-shot", "untrained"
CONTROLS = [("diamond-open", PALETTE[1]), ("diamond", PALETTE[1]), ("square-open", "#222")]  # of the starts in order


def recalls(rows: pd.DataFrame) -> go.Figure:
    """R@1 on the target, percent: a panel per target, a line per head, a symbol per start; zero-shot has intervals.

    rows: columns target, head, start, mean, low, high. The dotted line is untrained CLIP, the same for all heads.
    """
    figure, targets, heads = _panels(rows)
    starts = [start for start in dict.fromkeys(rows["start"]) if start not in (MAIN, UNTRAINED)]
    looks = {MAIN: ("circle", PALETTE[0])} | dict(zip(starts, CONTROLS, strict=False))
    for column, target in enumerate(targets, 1):
        of_target, position = rows[rows["target"] == target], {"row": 1, "col": column}
        untrained = of_target.loc[of_target["start"] == UNTRAINED, "mean"].iloc[0]
        for start in [*starts, MAIN]:  # the last one lies on top
            part, (symbol, colour) = of_target[of_target["start"] == start], looks[start]
            figure.add_scatter(
                x=part["mean"],
                y=[heads[head] for head in part["head"]],
                error_x=_error(part, "mean") if start == MAIN else None,
                customdata=part.assign(head=part["head"].map(name_of))[["head", "low", "high"]],
                hovertemplate="%{customdata[0]}, " + start + ": %{x:.1f} % "
                "[%{customdata[1]:.1f}, %{customdata[2]:.1f}]<extra></extra>",
                name=start,
                legendgroup=start,
                legendrank=1 if start == MAIN else 2,
                showlegend=column == 1,
                mode="markers",
                marker={"symbol": symbol, "color": colour, "size": 12 if start == MAIN else 9},
                **position,
            )
        figure.add_vline(untrained, line={"color": "#222", "dash": "dot", "width": 1.5}, **position)
    return figure.update_xaxes(title_text="R@1, %", rangemode="tozero")


def gains(rows: pd.DataFrame) -> go.Figure:
    """Zero-shot R@1 minus untrained CLIP, points, with 95 % intervals: a panel per target, full where significant.

    rows: columns target, head, difference, low, high, significant. Left of the dotted line transfer is negative.
    """
    figure, targets, heads = _panels(rows)
    for column, target in enumerate(targets, 1):
        position = {"row": 1, "col": column}
        for significant, symbol in {True: "circle", False: "circle-open"}.items():
            part = rows[(rows["target"] == target) & (rows["significant"] == significant)]
            figure.add_scatter(
                x=part["difference"],
                y=[heads[head] for head in part["head"]],
                error_x=_error(part, "difference"),
                customdata=part.assign(head=part["head"].map(name_of))[["head", "low", "high"]],
                hovertemplate="%{customdata[0]}: %{x:+.1f} points "
                "[%{customdata[1]:.1f}, %{customdata[2]:.1f}]<extra></extra>",
                name="significant" if significant else "not significant",
                legendgroup=symbol,
                showlegend=column == 1,
                mode="markers",
                marker={"symbol": symbol, "color": PALETTE[0], "size": 11},
                **position,
            )
        figure.add_vline(0, line={"color": "#222", "dash": "dot", "width": 1.5}, **position)
    return figure.update_xaxes(title_text="points of R@1 over untrained CLIP", zeroline=False)


def _panels(rows: pd.DataFrame) -> tuple[go.Figure, list[str], dict[str, int]]:
    """A panel per target beside each other, the targets, and the height of each head, the first one on top."""
    targets, names = (list(dict.fromkeys(rows[column])) for column in ("target", "head"))
    heads = {head: -number for number, head in enumerate(names)}
    columns = max(1, len(targets))
    figure = make_subplots(1, columns, subplot_titles=targets, shared_yaxes=True, horizontal_spacing=0.03)
    figure.update_yaxes(tickvals=list(heads.values()), ticktext=[name_of(name) for name in names], zeroline=False)
    figure.update_yaxes(range=[0.4 - max(1, len(heads)), 0.6])
    legend = {"yref": "container", "y": 0, "yanchor": "bottom"}
    height = 180 + 34 * len(heads)
    return (
        figure.update_layout(template=TEMPLATE, height=height, margin={"t": 40, "b": 110}, legend=legend),
        targets,
        heads,
    )


def _error(part: pd.DataFrame, value: str) -> dict:
    return {"array": part["high"] - part[value], "arrayminus": part[value] - part["low"], "thickness": 2}

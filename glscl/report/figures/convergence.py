"""Figures of convergence: R@1 against steps, the share of the own gap that is closed, and the cost of a fixed R@1."""

import pandas as pd
import plotly.graph_objects as go
from PIL import ImageColor
from plotly.subplots import make_subplots

from glscl.report.figures.common import TEMPLATE
from glscl.report.figures.costs import COLOURS, SUBJECT, styles
from glscl.report.names import name_of

COSTS = {"steps": "steps", "gmacs": "GMACs of training", "seconds": "seconds of training"}


def learning_curves(curve: pd.DataFrame, asymptotes: dict[str, float], goal: float | None) -> go.Figure:
    """R@1 against steps on a logarithmic axis, the untrained start at its left end and the asymptotes beyond the right.

    curve: columns method, seed, step (from 0), r1 (percent). A line is the mean over seeds, its band reaches from the
    lowest to the highest seed. asymptotes: percent, of the heads that have one. The dotted line is the goal.
    """
    figure = go.Figure()
    _lines(figure, curve, "r1")
    looks, last = styles(list(dict.fromkeys(curve["method"]))), _last(curve)
    for method, asymptote in asymptotes.items():
        figure.add_scatter(
            x=[last * 1.5],
            y=[asymptote],
            mode="markers",
            marker={"symbol": "line-ew", "size": 22, "line": {"color": looks[method]["color"], "width": 3}},
            legendgroup=method,
            showlegend=False,
            hovertemplate=f"{name_of(method)}, asymptote: %{{y:.1f}} %<extra></extra>",
        )
    if goal is not None:
        figure.add_hline(y=goal, line={"color": "#555", "width": 1.5, "dash": "dot"})
    _step_axis(figure, curve, "asymptote" if asymptotes else None)
    figure.update_yaxes(title_text="text-to-video R@1 on the test split, %", rangemode="tozero")
    return figure.update_layout(template=TEMPLATE, height=520, margin_t=24, legend={"y": -0.2, "yanchor": "top"})


def shares_closed(curve: pd.DataFrame) -> go.Figure:
    """Percent of its own gap, from start to asymptote, that each head has closed; dotted at one half.

    curve: columns method, seed, step (from 0), share (NaN in the rows of a seed without a fit; a head with such a seed
    is left out).
    """
    whole = curve.groupby("method")["share"].transform(lambda share: share.notna().all())
    shown = curve[whole.astype(bool)].assign(percent=lambda rows: 100 * rows["share"])
    figure = go.Figure()
    _lines(figure, shown, "percent", list(dict.fromkeys(curve["method"])))
    if len(shown):
        figure.add_hline(y=50, line={"color": "#555", "width": 1.5, "dash": "dot"})
    _step_axis(figure, shown)
    figure.update_yaxes(title_text="share of the own gap closed, %")
    return figure.update_layout(template=TEMPLATE, height=460, margin_t=24, legend={"y": -0.22, "yanchor": "top"})


def cost_of_goal(rows: pd.DataFrame) -> go.Figure:
    """What each head needs to the fixed R@1, a panel per unit of `COSTS`, logarithmic; no dot where a seed never gets
    there, or where all start there.

    rows: columns method, unit (a key of `COSTS`), mean, low, high.
    """
    figure = make_subplots(1, len(COSTS), shared_yaxes=True, horizontal_spacing=0.03)
    methods = list(dict.fromkeys(rows["method"]))
    for column, (unit, title) in enumerate(COSTS.items(), 1):
        of_unit = rows[rows["unit"] == unit].set_index("method").reindex(methods[::-1])
        for look, part in ((styles(methods)[m], of_unit.loc[[m]]) for m in of_unit.index):
            mean = part["mean"].where(part["mean"] > 0)
            low = part["low"].clip(lower=mean / 10)  # an interval that reaches down to 0 leaves the logarithmic axis
            figure.add_scatter(
                x=mean,
                y=part.index.map(name_of),
                mode="markers",
                marker={"size": 11, "color": look["color"], "symbol": look["symbol"]},
                error_x={"type": "data", "array": part["high"] - mean, "arrayminus": mean - low, "thickness": 2},
                customdata=part[["low", "high"]],
                hovertemplate="%{y}: %{x:,.3g} [%{customdata[0]:,.3g}, %{customdata[1]:,.3g}] "
                f"{title}<extra></extra>",
                row=1,
                col=column,
            )
        figure.update_xaxes(type="log", title_text=title, dtick="D2", exponentformat="SI", row=1, col=column)
    figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=[name_of(method) for method in methods[::-1]]
    )
    return figure.update_layout(template=TEMPLATE, showlegend=False, height=130 + 36 * len(methods), margin_t=24)


def _last(curve: pd.DataFrame) -> float:
    return float(curve["step"].max()) if len(curve) else 1.0


def _lines(figure: go.Figure, curve: pd.DataFrame, value: str, methods: list[str] | None = None) -> None:
    """A line per head with its band and its start; methods: all heads, so that a head looks alike in every figure."""
    methods = methods or list(dict.fromkeys(curve["method"]))
    look = styles(methods)
    again = [method for method in methods if method != SUBJECT][len(COLOURS) :]  # whose colour another head has too
    for method, of_method in curve.groupby("method", sort=False):
        style = look[method]
        points = of_method.groupby("step")[value].agg(["mean", "min", "max"])
        x = points.index.to_numpy().clip(1)  # the start, 0, stands where step 1 would
        group = {"legendgroup": method, "name": name_of(method)}
        edges = {"mode": "lines", "line_width": 0, "showlegend": False, "hoverinfo": "skip"}
        figure.add_scatter(x=x, y=points["min"], **group, **edges)
        band = {"fill": "tonexty", "fillcolor": "rgba({}, {}, {}, 0.15)".format(*ImageColor.getrgb(style["color"]))}
        figure.add_scatter(x=x, y=points["max"], **group, **edges, **band)
        symbols = [style["symbol"] + ("-open" if step == 0 else "") for step in points.index]
        sizes = [12 if step == 0 else 7 for step in points.index]
        figure.add_scatter(
            x=x,
            y=points["mean"],
            **group,
            mode="lines+markers",
            line={"color": style["color"], "width": style["width"], "dash": "dash" if method in again else "solid"},
            marker={"symbol": symbols, "size": sizes, "color": style["color"], "line": {"width": 2}},
            customdata=points[["min", "max"]].assign(step=points.index),
            hovertemplate=f"{name_of(method)}, %{{customdata[2]:,}} steps: %{{y:.1f}} % "
            "[%{customdata[0]:.1f}, %{customdata[1]:.1f}]<extra></extra>",
        )


def _step_axis(figure: go.Figure, curve: pd.DataFrame, beyond: str | None = None) -> None:
    """A logarithmic axis of steps, with `start` for 0 and a last tick for what lies beyond the training."""
    last = _last(curve)
    doubling = [2**power for power in range(1, 40) if 2**power <= last / 1.3]
    ticks = {1: "start"} | {step: f"{step:,}" for step in [*doubling, int(last)]}
    ticks |= {1.5 * last: beyond} if beyond else {}
    figure.update_xaxes(type="log", tickvals=list(ticks), ticktext=list(ticks.values()), title_text="steps of training")

"""Figures of convergence: learning curves against steps, time and work, and differences of their areas."""

import pandas as pd
import plotly.graph_objects as go
from PIL import ImageColor
from plotly.subplots import make_subplots

from glscl.report.figures.common import TEMPLATE, forest
from glscl.report.figures.costs import COLOURS, SUBJECT, styles

AXES = {"step": "steps", "seconds": "seconds of training", "macs": "multiply-accumulates of training"}


def learning_curves(curve: pd.DataFrame, goal: float | None) -> go.Figure:
    """Validation recall of several heads, a panel per axis of `AXES`; the dotted line is the goal.

    curve: columns method, seed, step, seconds, macs, val_mean_recall (percent). A line is the mean over seeds, its band
    reaches from the lowest to the highest seed. Without rows there is no goal, and the panels are empty.
    """
    figure = make_subplots(1, len(AXES), shared_yaxes=True, horizontal_spacing=0.03)
    methods = list(dict.fromkeys(curve["method"]))
    look = styles(methods)
    again = [method for method in methods if method != SUBJECT][len(COLOURS) :]  # whose colour another head has too
    for column, (axis, title) in enumerate(AXES.items(), 1):
        position = {"row": 1, "col": column}
        for method in methods:
            of_method, style = curve[curve["method"] == method], look[method]
            points = of_method.groupby("step").agg(
                x=(axis, "mean"),
                mean=("val_mean_recall", "mean"),
                low=("val_mean_recall", "min"),
                high=("val_mean_recall", "max"),
            )
            group = {"legendgroup": method, "name": method}
            edges = {"mode": "lines", "line_width": 0, "showlegend": False, "hoverinfo": "skip"}
            figure.add_scatter(x=points["x"], y=points["low"], **group, **edges, **position)
            band = {"fill": "tonexty", "fillcolor": "rgba({}, {}, {}, 0.15)".format(*ImageColor.getrgb(style["color"]))}
            figure.add_scatter(x=points["x"], y=points["high"], **group, **edges, **band, **position)
            figure.add_scatter(
                x=points["x"],
                y=points["mean"],
                **group,
                showlegend=column == 1,
                mode="lines+markers",
                line={"color": style["color"], "width": style["width"], "dash": "dash" if method in again else "solid"},
                marker={"symbol": style["symbol"], "size": 7},
                customdata=points[["low", "high"]],
                hovertemplate=f"{method}, %{{x:,.3s}} {title}: %{{y:.1f}} % "
                "[%{customdata[0]:.1f}, %{customdata[1]:.1f}]<extra></extra>",
                **position,
            )
        if goal is not None:
            figure.add_hline(y=goal, line={"color": "#555", "width": 1.5, "dash": "dot"}, **position)
        figure.update_xaxes(title_text=title, rangemode="tozero", exponentformat="SI", **position)
    figure.update_yaxes(title_text="mean recall on validation, %", col=1)
    return figure.update_layout(template=TEMPLATE, height=460, margin_t=24, legend={"y": -0.2, "yanchor": "top"})


def area_differences(differences: dict[str, dict[str, dict]]) -> go.Figure:
    """GLSCL minus each head in area under the validation curve, points, with 95 % intervals.

    differences: {head: {"area": {"difference", "low", "high"}}}, as `glscl.study.convergence.against_subject` gives.
    """
    rows = [
        {"name": rival, "value": found["area"]["difference"]} | {edge: found["area"][edge] for edge in ("low", "high")}
        for rival, found in differences.items()
    ]
    title = "GLSCL minus the head, area under the validation curve, points"
    return forest(pd.DataFrame(rows, columns=["name", "value", "low", "high"]), title)

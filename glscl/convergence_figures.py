"""Figure of learning curves of several heads, against steps, time and work."""

import pandas as pd
import plotly.graph_objects as go
from PIL import ImageColor
from plotly.subplots import make_subplots

from glscl.cost_figures import styles
from glscl.figures import TEMPLATE

AXES = {"step": "steps", "seconds": "seconds of training", "macs": "multiply-accumulates of training"}


def learning_curves(curve: pd.DataFrame, goal: float) -> go.Figure:
    """Validation recall of several heads, a panel per axis of `AXES`; the dotted line is the goal.

    curve: columns method, seed, step, seconds, macs, val_mean_recall (percent). A line is the mean over seeds, its band
    reaches from the lowest to the highest seed.
    """
    figure = make_subplots(1, len(AXES), shared_yaxes=True, horizontal_spacing=0.03)
    methods = list(dict.fromkeys(curve["method"]))
    look = styles(methods)
    for column, (axis, title) in enumerate(AXES.items(), 1):
        place = {"row": 1, "col": column}
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
            figure.add_scatter(x=points["x"], y=points["low"], **group, **edges, **place)
            band = {"fill": "tonexty", "fillcolor": "rgba({}, {}, {}, 0.15)".format(*ImageColor.getrgb(style["color"]))}
            figure.add_scatter(x=points["x"], y=points["high"], **group, **edges, **band, **place)
            figure.add_scatter(
                x=points["x"],
                y=points["mean"],
                **group,
                showlegend=column == 1,
                mode="lines+markers",
                line={"color": style["color"], "width": style["width"]},
                marker={"symbol": style["symbol"], "size": 7},
                customdata=points[["low", "high"]],
                hovertemplate=f"{method}, %{{x:,.3s}} {title}: %{{y:.1f}} % "
                "[%{customdata[0]:.1f}, %{customdata[1]:.1f}]<extra></extra>",
                **place,
            )
        figure.add_hline(y=goal, line={"color": "#555", "width": 1.5, "dash": "dot"}, **place)
        figure.update_xaxes(title_text=title, rangemode="tozero", exponentformat="SI", **place)
    figure.update_yaxes(title_text="mean recall on validation, %", col=1)
    return figure.update_layout(template=TEMPLATE, height=460, margin_t=24, legend={"y": -0.2, "yanchor": "top"})

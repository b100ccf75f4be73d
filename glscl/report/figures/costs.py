"""Figures of what a query costs: time against the gallery's size, where the time goes, and counts on a log scale."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from glscl.report.figures.common import PALETTE, TEMPLATE
from glscl.report.page import significant

SUBJECT = "glscl"
COLOURS = [*PALETTE[:-1], "#888"]  # the pale yellow makes no line
SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon"]


def styles(methods: list[str]) -> dict[str, dict]:
    """Colour, symbol and width of a method's line: the study's subject in black, the others in the order given."""
    rivals = [method for method in methods if method != SUBJECT]
    looks = {
        method: {"color": COLOURS[i % len(COLOURS)], "symbol": SYMBOLS[i % len(SYMBOLS)], "width": 1.8}
        for i, method in enumerate(rivals)
    }
    return {SUBJECT: {"color": "#222", "symbol": "circle", "width": 3.5}} | looks


def latency(rows: pd.DataFrame, text_encoder: dict[str, float]) -> go.Figure:
    """Milliseconds of one query against the gallery's size, a panel per size of item; dashed where extrapolated.

    rows: columns method, size, gallery, seconds, low, high, repeats (0 where extrapolated), in rising order of gallery.
    text_encoder: seconds of CLIP's text encoder on one query, by size; drawn as a line.
    """
    sizes = list(dict.fromkeys(rows["size"]))
    figure = make_subplots(1, len(sizes), shared_yaxes=True, subplot_titles=sizes, horizontal_spacing=0.03)
    look = styles(list(dict.fromkeys(rows["method"])))
    for column, size in enumerate(sizes, 1):
        for method, style in look.items():
            line = rows[(rows["method"] == method) & (rows["size"] == size)]
            measured = line[line["repeats"] > 0]
            beyond = pd.concat([measured.tail(1), line[line["repeats"] == 0]])
            for part, dash in ((measured, "solid"), (beyond, "dash")):
                figure.add_scatter(
                    x=part["gallery"],
                    y=1000 * part["seconds"],
                    name=method,
                    legendgroup=method,
                    showlegend=column == 1 and dash == "solid",
                    mode="lines+markers",
                    line={"color": style["color"], "width": style["width"], "dash": dash},
                    marker={"symbol": style["symbol"] + ("-open" if dash == "dash" else ""), "size": 8},
                    customdata=1000 * part[["low", "high"]],
                    hovertemplate=f"{method}, %{{x:,}} videos: %{{y:.3g}} ms"
                    + (" (extrapolated)" if dash == "dash" else " [%{customdata[0]:.3g}, %{customdata[1]:.3g}]")
                    + "<extra></extra>",
                    row=1,
                    col=column,
                )
        galleries = rows["gallery"]
        figure.add_scatter(
            x=[galleries.min(), galleries.max()],
            y=[1000 * text_encoder[size]] * 2,
            name="CLIP's text encoder",
            legendgroup="clip",
            showlegend=column == 1,
            mode="lines",
            line={"color": "#555", "width": 1.5, "dash": "dot"},
            hovertemplate="CLIP's text encoder: %{y:.3g} ms<extra></extra>",
            row=1,
            col=column,
        )
    figure.update_xaxes(type="log", title_text="videos in the gallery", dtick=1, exponentformat="power")
    figure.update_yaxes(type="log", dtick=1, exponentformat="power")
    figure.update_yaxes(title_text="milliseconds per query", col=1)
    return figure.update_layout(template=TEMPLATE, height=560, margin_t=56, legend={"y": -0.18, "yanchor": "top"})


def shares(rows: pd.DataFrame, parts: list[str]) -> go.Figure:
    """Where the time of a query goes, in percent of it, a panel per size of gallery; the sum is written beside the bar.

    rows: columns method, gallery, the seconds of each of `parts`, and repeats, 0 where the search is extrapolated; then
    the sum has a star.
    """
    galleries = list(dict.fromkeys(rows["gallery"]))
    titles = [f"{gallery:,} videos" for gallery in galleries]
    figure = make_subplots(1, len(galleries), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.02)
    for column, gallery in enumerate(galleries, 1):
        bars = rows[rows["gallery"] == gallery].iloc[::-1]
        total = bars[parts].sum(axis=1)
        for part, colour in zip(parts, PALETTE, strict=False):
            figure.add_bar(
                y=bars["method"],
                x=100 * bars[part] / total,
                orientation="h",
                name=part,
                legendgroup=part,
                showlegend=column == 1,
                marker_color=colour,
                customdata=1000 * bars[part],
                hovertemplate=f"%{{y}}, {part}: %{{customdata:.3g}} ms, %{{x:.0f}} %<extra></extra>",
                row=1,
                col=column,
            )
        figure.add_scatter(
            y=bars["method"],
            x=[102] * len(bars),
            text=[_duration(t) + " *" * (not often) for t, often in zip(total, bars["repeats"], strict=True)],
            mode="text",
            textposition="middle right",
            textfont_size=12,
            showlegend=False,
            hoverinfo="skip",
            row=1,
            col=column,
        )
    figure.update_xaxes(range=[0, 140], tickvals=[0, 50, 100], showgrid=False)
    figure.update_xaxes(title_text="share, %", title_standoff=4)
    figure.update_yaxes(ticks="", showgrid=False)
    figure.update_layout(template=TEMPLATE, barmode="stack", bargap=0.3, height=150 + 32 * rows["method"].nunique())
    return figure.update_layout(margin_t=56, legend={"y": -0.22, "yanchor": "top", "traceorder": "normal"})


def _duration(seconds: float) -> str:
    return f"{significant(1000 * seconds)} ms" if seconds < 1 else f"{significant(seconds)} s"


def on_a_log_scale(table: pd.DataFrame, unit: str) -> go.Figure:
    """A row of dots per row of the table, a symbol per column, on a logarithmic axis; missing values have no dot."""
    figure = go.Figure()
    flipped = table.iloc[::-1]
    for name in flipped.index:
        values = flipped.loc[name].dropna()
        figure.add_scatter(
            x=[values.min(), values.max()],
            y=[name] * 2,
            mode="lines",
            line_color="#ccc",
            showlegend=False,
            hoverinfo="skip",
        )
    for (column, values), symbol, colour in zip(flipped.items(), SYMBOLS, PALETTE, strict=False):
        figure.add_scatter(
            x=values,
            y=flipped.index,
            name=column,
            mode="markers",
            marker={"symbol": symbol, "size": 11, "color": colour},
            hovertemplate=f"%{{y}}, {column}: %{{x:,.4g}} {unit}<extra></extra>",
        )
    figure.update_xaxes(type="log", dtick=1, exponentformat="power", title_text=unit)
    return figure.update_layout(
        template=TEMPLATE,
        showlegend=len(table.columns) > 1,
        height=150 + 34 * len(table),
        margin_t=24,
        legend={"y": -70 / (34 * len(table)), "yanchor": "top"},
    )

"""Figures of what a query costs: ratios to GLSCL, time against the gallery's size, where the time goes, two stages."""

import math

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from glscl.report.figures.common import PALETTE, TEMPLATE
from glscl.report.figures.svg import Axis, Drawing, text_width
from glscl.report.names import head_name, name_of
from glscl.report.page import significant

SUBJECT = "glscl"
COLOURS = [*PALETTE[:-1], "#888"]  # the pale yellow makes no line
SOURCES = {"published": "#999", "counted": PALETTE[0], "timed": PALETTE[1]}  # of a ratio, and its colour
SAID = {"published": "as published", "counted": "counted, on every machine", "timed": "timed, on this machine"}
DRAWN = "blue: counted, the same on every machine; grey: published, or timed on one machine"
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
                    name=head_name(method),
                    legendgroup=method,
                    showlegend=column == 1 and dash == "solid",
                    mode="lines+markers",
                    line={"color": style["color"], "width": style["width"], "dash": dash},
                    marker={"symbol": style["symbol"] + ("-open" if dash == "dash" else ""), "size": 8},
                    customdata=1000 * part[["low", "high"]],
                    hovertemplate=f"{head_name(method)}, %{{x:,}} videos: %{{y:.3g}} ms"
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
                y=bars["method"].map(head_name),
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
            y=bars["method"].map(head_name),
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
    flipped = table.rename(index=head_name).iloc[::-1]
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


def ratios(bars: pd.DataFrame, title: str) -> go.Figure:
    """A bar per row from 1, where both cost the same, on a logarithmic axis, with its interval where it has one.

    bars: as `glscl.study.measured_costs.ratio_bars` gives them, drawn from top to bottom. title: of the axis.
    """
    figure = go.Figure()
    for source, colour in SOURCES.items():
        part = bars[bars["source"] == source]
        figure.add_bar(
            y=part["name"],
            x=part["ratio"] - 1,  # bars on a logarithmic axis begin at `base`
            base=1,
            orientation="h",
            name=SAID[source],
            marker_color=colour,
            error_x={"type": "data", "array": part["high"] - part["ratio"], "arrayminus": part["ratio"] - part["low"]},
            customdata=part["ratio"].map(significant),
            hovertemplate="%{y}: %{customdata} times<extra></extra>",
        )
    edges = pd.concat([bars["ratio"], bars["low"], bars["high"]]).dropna()
    low, high = min(edges.min(), 1), max(edges.max(), 1)
    for row in bars.itertuples():
        figure.add_annotation(
            x=1.005, xref="paper", xanchor="left", y=row.name, text=significant(row.ratio), showarrow=False
        )
    figure.add_vline(x=1, line={"color": "#222", "width": 1.5, "dash": "dash"})
    figure.update_xaxes(type="log", title_text=title, range=[math.log10(low / 1.3), math.log10(high * 1.3)])
    figure.update_xaxes(tickvals=[10.0**n for n in range(-4, 7)], ticktext=[f"{10.0**n:,.10g}" for n in range(-4, 7)])
    figure.update_yaxes(categoryorder="array", categoryarray=bars["name"][::-1].tolist(), ticks="", showgrid=False)
    figure.update_layout(template=TEMPLATE, height=150 + 38 * len(bars), bargap=0.35, margin={"t": 48, "r": 64})
    return figure.update_layout(barmode="overlay")


def drawn_ratios(bars: pd.DataFrame, title: str, width: int = 720) -> Drawing:
    """`ratios` as an SVG: a line from 1 to the ratio with a dot at its end, its interval, and the number at the right.

    What is counted stands out; a line below the title says so.
    """
    row, top = 30, 66
    names = 1.06 * max(map(text_width, bars["name"])) + 16  # bold is wider
    told = [significant(ratio) for ratio in bars["ratio"]]
    edges = pd.concat([bars["ratio"], bars["low"], bars["high"]]).dropna()
    bottom = top + row * len(bars)
    x = Axis(min(edges.min(), 1) / 1.2, max(edges.max(), 1) * 1.2, 12 + names, width - 70, log=True)
    drawing = Drawing(width, bottom + 34, title, "; ".join(map(" ".join, zip(bars["name"], told, strict=True))))
    drawing.text(12, 26, title)
    drawing.text(12, 46, DRAWN, "small muted")
    for tick in x.ticks():
        drawing.line(x(tick), top - 6, x(tick), bottom, "grid")
        drawing.text(x(tick), bottom + 20, f"{tick:,.10g}", "small muted", "middle")
    drawing.line(x(1), top - 6, x(1), bottom, "rule")
    for number, (one, said) in enumerate(zip(bars.itertuples(), told, strict=True)):
        middle, kind = top + row * (number + 0.5), "hero-" if one.source == "counted" else ""
        drawing.text(4 + names, middle + 4, one.name, "hero-text" if kind else "", "end")
        drawing.line(x(1), middle, x(one.ratio), middle, f"{kind}bar")
        if pd.notna(one.low):
            for edge in (one.low, one.high):
                drawing.line(x(edge), middle - 5, x(edge), middle + 5, "bar")
            drawing.line(x(one.low), middle, x(one.high), middle, "bar")
        drawing.dot(x(one.ratio), middle, f"{kind}dot", f"{one.name}: {said} times, {SAID[one.source]}")
        drawing.text(width - 12, middle + 4, said, "hero-text" if kind else "muted", "end")
    return drawing


def two_stages(rows: dict[int, pd.DataFrame]) -> go.Figure:
    """Share of a head's own best videos that two stages keep against milliseconds, a panel per size of gallery.

    rows: by gallery, as `glscl.study.two_stage.two_stage_rows` gives them. The exact scan is a star; open symbols are
    extrapolated.
    """
    titles = [f"{gallery:,} videos" for gallery in rows]
    figure = make_subplots(1, len(rows), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.03)
    for column, table in enumerate(rows.values(), 1):
        look = styles(list(dict.fromkeys(table["method"])))
        for method, line in table.groupby("method", sort=False):
            exact = line["depth"].eq(line["depth"].iloc[-1])
            shape = exact.map({True: "star", False: "circle"})
            shape += line["repeats"].eq(0).map({True: "-open", False: ""})
            figure.add_scatter(
                x=1000 * line["seconds"],
                y=line["kept"],
                name=name_of(method),
                legendgroup=method,
                showlegend=column == 1,
                mode="lines+markers",
                line={"color": look[method]["color"], "width": look[method]["width"]},
                marker={"size": exact.map({True: 14, False: 8}), "symbol": shape},
                customdata=line[["depth", "r1"]],
                hovertemplate=f"{name_of(method)}, %{{customdata[0]}}: %{{y:.1f}} % kept, R@1 %{{customdata[1]:.1f}}, "
                "%{x:.3g} ms<extra></extra>",
                row=1,
                col=column,
            )
    figure.update_xaxes(type="log", title_text="milliseconds of a search", dtick=1, exponentformat="power")
    figure.update_yaxes(title_text="own best videos kept, %", col=1)
    return figure.update_layout(template=TEMPLATE, height=460, margin_t=56, legend={"y": -0.22, "yanchor": "top"})

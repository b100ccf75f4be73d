"""Figures of the ablations: a forest of effects, concepts over training, and the target that follows the batch size."""

from itertools import cycle

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from glscl.report.figures.common import PALETTE, TEMPLATE

PANELS = {
    "matched": "cosine of a concept of a text and of its video",
    "within_video": "cosine of two concepts of a video",
    "rank_video": "effective rank of a video, 1 to {concepts}",
    "across_video": "cosine between videos, same concept",
}
DASHES = ["solid", "dash", "dot", "dashdot"]
SYMBOLS = ["circle", "square", "diamond", "cross"]


def effects(rows: pd.DataFrame) -> go.Figure:
    """Effects in points with two intervals each, grouped by ablation, a colour per variant; small dots are seeds.

    rows: columns variant, ablation, difference, low, high (thick: new queries), crossed_low, crossed_high (thin: new
    queries and seeds), detectable (grey: a true effect beyond it is found with 80 % power), and seeds, a list.
    """
    variants, ablations = list(dict.fromkeys(rows["variant"])), list(dict.fromkeys(rows["ablation"]))[::-1]
    figure = go.Figure()
    for number, (variant, colour) in enumerate(zip(variants, PALETTE, strict=False)):
        own = rows[rows["variant"] == variant]
        height = [ablations.index(name) + 0.32 * ((len(variants) - 1) / 2 - number) for name in own["ablation"]]
        bars = (
            (-own["detectable"], own["detectable"], "#ddd", 15),
            (own["crossed_low"], own["crossed_high"], colour, 1.5),
            (own["low"], own["high"], colour, 5),
        )
        for low, high, shade, width in bars:
            xs = [x for ends in zip(low, high, strict=True) for x in (*ends, None)]
            ys = [y for position in height for y in (position, position, None)]
            line = {"color": shade, "width": width}
            figure.add_scatter(x=xs, y=ys, mode="lines", line=line, hoverinfo="skip", showlegend=False)
        figure.add_scatter(
            x=own["difference"],
            y=height,
            mode="markers",
            name=variant,
            marker={"size": 11, "color": colour, "line": {"width": 1.5, "color": "white"}},
            customdata=own[["ablation", "low", "high", "crossed_low", "crossed_high"]],
            hovertemplate=f"{variant}, %{{customdata[0]}}: %{{x:.1f}} points<br>new queries "
            "[%{customdata[1]:.1f}, %{customdata[2]:.1f}]<br>new queries and seeds "
            "[%{customdata[3]:.1f}, %{customdata[4]:.1f}]<extra></extra>",
        )
        for position, seeds in zip(height, own["seeds"], strict=True):
            figure.add_scatter(
                x=seeds,
                y=[position - 0.1] * len(seeds),
                mode="markers",
                marker={"size": 5, "color": colour, "opacity": 0.6},
                hovertemplate="one seed: %{x:.1f} points<extra></extra>",
                showlegend=False,
            )
    figure.add_vline(x=0, line_color="#555", line_width=1)
    figure.update_yaxes(tickvals=list(range(len(ablations))), ticktext=ablations, showgrid=False, zeroline=False)
    figure.update_xaxes(title_text="full minus ablated, text-to-video R@1, points")
    return figure.update_layout(template=TEMPLATE, height=130 + 62 * len(ablations), margin_t=56)


def concept_curves(curve: pd.DataFrame, concepts: int) -> go.Figure:
    """Concept statistics over training: a panel per statistic, a colour per ablation, a dash per variant.

    curve: columns variant, ablation, step, and those of `PANELS`, one row per epoch. concepts: of an item.
    """
    wide = 2
    tall = -(-len(PANELS) // wide)
    titles = [title.format(concepts=concepts) for title in PANELS.values()]
    figure = make_subplots(tall, wide, subplot_titles=titles, vertical_spacing=0.16)
    variants = list(dict.fromkeys(curve["variant"]))
    colours = dict(zip(dict.fromkeys(curve["ablation"]), cycle(PALETTE), strict=False))
    for number, column in enumerate(PANELS):
        for (variant, ablation), line in curve.groupby(["variant", "ablation"], sort=False):
            figure.add_scatter(
                x=line["step"],
                y=line[column],
                name=f"{ablation}, {variant}",
                legendgroup=f"{ablation}, {variant}",
                showlegend=number == 0,
                mode="lines+markers",
                line={"color": colours[ablation], "dash": DASHES[variants.index(variant) % len(DASHES)]},
                hovertemplate=f"{variant}, {ablation}, step %{{x}}: %{{y:.3f}}<extra></extra>",
                row=number // wide + 1,
                col=number % wide + 1,
            )
    figure.update_xaxes(title_text="steps", row=tall)
    legend = {"y": -0.17, "yanchor": "top"}
    return figure.update_layout(template=TEMPLATE, height=170 + 260 * tall, margin_t=56, legend=legend)


def batch_targets(term: pd.DataFrame, found: pd.DataFrame) -> go.Figure:
    """Left the consistency term against the cosine of matching concepts, right its target and what training reached.

    term: columns name, cosine, value, one row per point. found: columns name, batch_size, target (missing without the
    loss), found, one row per run.
    """
    titles = "the term in closed form", "target, and found after training"
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.12)
    for (name, line), colour in zip(term.groupby("name", sort=False), cycle(PALETTE), strict=False):
        figure.add_scatter(
            x=line["cosine"],
            y=line["value"],
            name=name,
            mode="lines",
            line_color=colour,
            hovertemplate=f"{name}, cosine %{{x:.2f}}: %{{y:.3g}}<extra></extra>",
            row=1,
            col=1,
        )
    for (name, line), colour, symbol in zip(
        found.groupby("name", sort=False), cycle(PALETTE[3:]), cycle(SYMBOLS), strict=False
    ):
        hover = f"{name}, batches of %{{x}}: %{{y:.3f}}<extra></extra>"
        style = {"x": line["batch_size"], "row": 1, "col": 2, "line_color": colour, "hovertemplate": hover}
        if line["target"].notna().all():
            figure.add_scatter(y=line["target"], name=f"target, {name}", mode="lines", line_dash="dot", **style)
        marker = {"size": 10, "symbol": symbol}
        figure.add_scatter(y=line["found"], name=f"found, {name}", mode="markers+lines", marker=marker, **style)
    figure.update_xaxes(title_text="cosine of matching concepts", col=1)
    figure.update_yaxes(title_text="weighted term", type="log", exponentformat="power", dtick=1, col=1)
    sizes = sorted(set(found["batch_size"]))
    figure.update_xaxes(title_text="pairs in a batch", type="log", tickvals=sizes, col=2)
    figure.update_yaxes(title_text="cosine of matching concepts", col=2)
    return figure.update_layout(template=TEMPLATE, height=540, margin_t=56, legend={"y": -0.24, "yanchor": "top"})

"""Figures of the losses: rank over training, training against evaluation, doses, effects, and the paper's sweeps."""

from itertools import cycle

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from glscl.report.figures.cards import Line, curves
from glscl.report.figures.common import PALETTE, TEMPLATE
from glscl.report.figures.svg import Drawing

SIDES = {"rank_text": "texts", "rank_video": "videos"}
DASHES = {"rank_text": "dot", "rank_video": "solid"}
SYMBOLS = ["circle", "square", "diamond", "cross"]
OUTCOMES = {
    "r1": "R@1, %",
    "rank_text": "rank, texts",
    "rank_video": "rank, videos",
    "matched_minus_wrong": "own minus wrong cosine",
}
LEAST = {"rank_text": 0.5, "rank_video": 0.5, "matched_minus_wrong": 0.05}  # height of an axis: what is less is noise
SHADE = "rgba(0, 114, 178, 0.10)"


def rank_over_steps(rows: pd.DataFrame, concepts: int, asked: float) -> go.Figure:
    """Effective rank of the concepts of an item over training: a colour per model, dotted for texts.

    rows: columns name, step, rank_text, rank_video. concepts: of an item, the highest rank that there is. asked: the
    rank where the diversity loss begins to act, as a dashed line.
    """
    figure = go.Figure()
    for (name, own), colour in zip(rows.groupby("name", sort=False), cycle(PALETTE), strict=False):
        for column, side in SIDES.items():
            figure.add_scatter(
                x=own["step"],
                y=own[column],
                name=f"{name}: {side}",
                mode="lines+markers",
                line={"color": colour, "dash": DASHES[column]},
                hovertemplate=f"{name}, {side}, step %{{x}}: %{{y:.2f}}<extra></extra>",
            )
    note = f"rank {asked:.2f}: the diversity loss asks for no more"
    figure.add_hline(y=asked, line_color="#999", line_dash="dash", annotation_text=note)
    figure.update_xaxes(title_text="steps of training", rangemode="tozero")
    figure.update_yaxes(title_text=f"effective rank, 1 (all alike) to {concepts}", rangemode="tozero")
    return figure.update_layout(template=TEMPLATE, height=460, margin_t=24, legend={"y": -0.2, "yanchor": "top"})


def rank_card(rows: pd.DataFrame, concepts: int, hero: str) -> Drawing:
    """`rank_over_steps` as a small drawing: the rank of videos, a line per name; `hero` stands out."""
    lines = [
        Line(_short(name), list(zip(own["step"], own["rank_video"], strict=True)), named=True, hero=name == hero)
        for name, own in rows.groupby("name", sort=False)
    ]
    return curves(f"effective rank of a video's {concepts} concepts", lines, "steps of training")


def _short(name: str) -> str:
    return name if "," not in name else "freed"


def training_against_evaluation(rows: pd.DataFrame, hinge: float) -> go.Figure:
    """Mean cosine of two concepts of a video with dropout against that without it, a point per condition.

    rows: columns variant, name, dropout, within_train, within_eval. hinge: the cosine above which the diversity loss
    acts; the shaded region is where it does. On the dotted line both cosines are the same.
    """
    low = min(0.0, rows[["within_train", "within_eval"]].min(axis=None)) - 0.05
    figure = go.Figure()
    figure.add_scatter(x=[low, 1], y=[low, 1], mode="lines", line={"color": "#999", "dash": "dot"}, showlegend=False)
    figure.add_hrect(y0=hinge, y1=1.02, fillcolor=SHADE, line_width=0)
    figure.add_hline(
        y=hinge,
        line_color=PALETTE[0],
        annotation_text=f"the diversity loss acts above {hinge:g}",
        annotation_position="top left",
    )
    colours = dict(zip(sorted(rows["dropout"].unique(), reverse=True), PALETTE[1:], strict=False))
    for number, (variant, own) in enumerate(rows.groupby("variant", sort=False)):
        for dropout, points in own.groupby("dropout", sort=False):
            figure.add_scatter(
                x=points["within_eval"],
                y=points["within_train"],
                name=f"{variant}, dropout {dropout:g}",
                mode="markers",
                marker={"size": 11, "color": colours[dropout], "symbol": SYMBOLS[number], "opacity": 0.8},
                customdata=points[["name"]],
                hovertemplate=f"{variant}, %{{customdata[0]}}<br>evaluation %{{x:.3f}}, training %{{y:.3f}}"
                "<extra></extra>",
            )
    figure.update_xaxes(title_text="cosine in evaluation", range=[low, 1.02])
    figure.update_yaxes(title_text="cosine in training, with dropout", range=[low, 1.02])
    return figure.update_layout(template=TEMPLATE, height=520, margin_t=24, legend={"y": -0.16, "yanchor": "top"})


def dose_response(rows: pd.DataFrame) -> go.Figure:
    """A row of panels per outcome, a column per knob; doses rise at equal distances, a colour per variant.

    rows: columns variant, knob, dose, low and high of r1, and `OUTCOMES`.
    """
    knobs = list(dict.fromkeys(rows["knob"]))
    titles = knobs or ["no knob has two doses"]
    shape = {"column_titles": titles, "shared_yaxes": True, "horizontal_spacing": 0.03, "vertical_spacing": 0.05}
    figure = make_subplots(len(OUTCOMES), len(titles), **shape)
    for (variant, own), colour in zip(rows.groupby("variant", sort=False), PALETTE, strict=False):
        for column, knob in enumerate(knobs, 1):
            points = own[own["knob"] == knob]
            for row, outcome in enumerate(OUTCOMES, 1):
                bars = {"array": points["high"] - points["r1"], "arrayminus": points["r1"] - points["low"]}
                figure.add_scatter(
                    x=[f"{dose:g}" for dose in points["dose"]],
                    y=points[outcome],
                    error_y=bars if outcome == "r1" else None,
                    name=variant,
                    legendgroup=variant,
                    showlegend=(row, column) == (1, 1),
                    mode="lines+markers",
                    line_color=colour,
                    hovertemplate=f"{variant}, {knob} %{{x}}: %{{y:.3g}}<extra></extra>",
                    row=row,
                    col=column,
                )
    for row, (outcome, title) in enumerate(OUTCOMES.items(), 1):
        middle, height = (rows[outcome].max() + rows[outcome].min()) / 2, rows[outcome].max() - rows[outcome].min()
        span = 0.6 * LEAST.get(outcome, 0)
        narrow = {"range": [middle - span, middle + span]} if height < LEAST.get(outcome, 0) else {}
        figure.update_yaxes(title_text=title, row=row, col=1, **narrow)
    for column, knob in enumerate(knobs, 1):
        order = [f"{dose:g}" for dose in sorted(rows.loc[rows["knob"] == knob, "dose"].unique())]
        figure.update_xaxes(type="category", categoryorder="array", categoryarray=order, col=column)
    legend = {"y": -0.06, "yanchor": "top"}
    return figure.update_layout(template=TEMPLATE, height=110 + 190 * len(OUTCOMES), margin_t=40, legend=legend)


def effects(rows: pd.DataFrame) -> go.Figure:
    """Effects in points with their intervals, grouped by part, a colour per variant; small dots are seeds.

    rows: columns part, variant, difference, low, high, detectable (grey: what is beyond is found with 80 % power), and
    seeds, a list.
    """
    variants, parts = list(dict.fromkeys(rows["variant"])), list(dict.fromkeys(rows["part"]))[::-1]
    figure = go.Figure()
    for number, (variant, colour) in enumerate(zip(variants, PALETTE, strict=False)):
        own = rows[rows["variant"] == variant]
        height = [parts.index(name) + 0.32 * ((len(variants) - 1) / 2 - number) for name in own["part"]]
        for low, high, shade, width in (
            (-own["detectable"], own["detectable"], "#ddd", 15),
            (own["low"], own["high"], colour, 4),
        ):
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
            customdata=own[["part", "low", "high"]],
            hovertemplate=f"{variant}, %{{customdata[0]}}: %{{x:.1f}} points<br>"
            "[%{customdata[1]:.1f}, %{customdata[2]:.1f}]<extra></extra>",
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
    figure.update_yaxes(tickvals=list(range(len(parts))), ticktext=parts, showgrid=False, zeroline=False)
    figure.update_xaxes(title_text="with minus without, text-to-video R@1, points")
    return figure.update_layout(template=TEMPLATE, height=130 + 62 * len(parts), margin_t=56)


def published_sweeps(swept: pd.DataFrame) -> go.Figure:
    """The paper's sweeps as printed: R@1 against each parameter, a panel each; a star is the headline's setting.

    swept: of `glscl.study.published.sweeps`; values stand at equal distances.
    """
    parameters = list(dict.fromkeys(swept["parameter"]))
    figure = make_subplots(1, len(parameters), subplot_titles=parameters, shared_yaxes=True, horizontal_spacing=0.02)
    for (direction, own), colour in zip(swept.groupby("direction", sort=False), PALETTE, strict=False):
        for column, parameter in enumerate(parameters, 1):
            points = own[own["parameter"] == parameter].sort_values("value")
            figure.add_scatter(
                x=[f"{value:g}" for value in points["value"]],
                y=points["r1"],
                name={"t2v": "text to video", "v2t": "video to text"}[direction],
                legendgroup=direction,
                showlegend=column == 1,
                mode="lines+markers",
                line_color=colour,
                marker={
                    "symbol": np.where(points["headline"], "star", "circle"),
                    "size": np.where(points["headline"], 14, 7),
                },
                hovertemplate=f"{parameter} %{{x}}: %{{y:.1f}}<extra></extra>",
                row=1,
                col=column,
            )
    figure.update_xaxes(type="category", tickangle=-60).update_yaxes(title_text="R@1, %", col=1)
    return figure.update_layout(template=TEMPLATE, height=420, margin_t=40, legend={"y": -0.28, "yanchor": "top"})

"""Figures of the learned concepts: heat maps, attention on the words of captions, and the t-SNE map with clips."""

import html

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from glscl.figures import PALETTE, TEMPLATE, MediaFigure, with_media

SYMBOLS = {"text": "circle", "video": "diamond-open"}


def concept_names(count: int) -> list[str]:
    """`concept 1` to `concept count`."""
    return [f"concept {number + 1}" for number in range(count)]


def heat_maps(panels: dict[str, pd.DataFrame], label: str, low: float, high: float, digits: int = 2) -> go.Figure:
    """Tables beside each other with one colour scale; each cell shows its value.

    panels: {title: table}, rows from top to bottom. label: what a cell is. A scale from below 0 is diverging.
    """
    figure = make_subplots(1, len(panels), subplot_titles=list(panels), horizontal_spacing=0.03, shared_yaxes=True)
    for column, table in enumerate(panels.values(), 1):
        cells = go.Heatmap(
            z=table.to_numpy(),
            x=[html.escape(str(name)) for name in table.columns],
            y=[html.escape(str(name)) for name in table.index],
            texttemplate=f"%{{z:.{digits}f}}",
            coloraxis="coloraxis",
            hovertemplate=f"%{{y}}, %{{x}}: %{{z:.{digits + 1}f}}<extra></extra>",
            xgap=1,
            ygap=1,
        )
        figure.add_trace(cells, 1, column)
    rows = max(len(table) for table in panels.values())
    scale = "RdBu" if low < 0 else "Blues"
    figure.update_layout(
        template=TEMPLATE,
        height=120 + 34 * rows,
        margin={"t": 40, "b": 60},
        coloraxis={
            "colorscale": scale,
            "cmin": low,
            "cmax": high,
            "colorbar": {"title": {"text": label, "side": "right"}},
        },
    )
    return figure.update_xaxes(showgrid=False, ticks="").update_yaxes(autorange="reversed", showgrid=False, ticks="")


def attention_on_captions(words: pd.DataFrame, texts: list[int]) -> go.Figure:
    """Attention of each concept on the words of some captions, one caption below the other.

    words: a table of `glscl.concepts.by_word`. texts: the captions' indices in it.
    """
    concepts = [column for column in words if column not in ("text", "word")]
    figure = make_subplots(len(texts), 1, vertical_spacing=0.3 / len(texts))
    highest = 0.0
    for row, text in enumerate(texts, 1):
        part = words[words["text"] == text]
        weights, labels = part[concepts].to_numpy().T, [html.escape(word) for word in part["word"]]
        highest = max(highest, weights.max())
        cells = go.Heatmap(
            z=weights,
            y=concept_names(len(concepts)),
            customdata=np.tile(labels, (len(concepts), 1)),
            coloraxis="coloraxis",
            hovertemplate="%{y}, %{customdata}: %{z:.3f}<extra></extra>",
            xgap=1,
            ygap=1,
        )
        figure.add_trace(cells, row, 1)
        # a word may occur twice, so positions are numbers and words their labels
        figure.update_xaxes(tickvals=list(range(len(labels))), ticktext=labels, tickangle=-40, row=row)
    bar = {"title": {"text": "attention", "side": "right"}}
    figure.update_layout(
        template=TEMPLATE,
        height=len(texts) * (110 + 20 * len(concepts)),
        margin={"t": 16, "b": 80},
        coloraxis={"colorscale": "Blues", "cmin": 0, "cmax": highest, "colorbar": bar},
    )
    return figure.update_xaxes(showgrid=False, ticks="").update_yaxes(autorange="reversed", showgrid=False, ticks="")


def concept_map(
    places: dict[str, np.ndarray], videos: list[str], media: dict[str, str], captions: list[str]
) -> MediaFigure:
    """The concepts of pairs in the plane: colour is the concept, the symbol is the modality, a point shows its clip.

    places: {"text": (pairs, concepts, 2), "video": the same}. videos, captions: per pair. media: see `with_media`.
    """
    figure = go.Figure()
    points = [[video, number] for number, video in enumerate(videos)]
    for modality, place in places.items():
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            name=modality,
            hoverinfo="skip",
            marker={"symbol": SYMBOLS[modality], "color": "#555", "size": 8},
        )
        for concept, name in enumerate(concept_names(place.shape[1])):
            figure.add_scatter(
                x=place[:, concept, 0],
                y=place[:, concept, 1],
                mode="markers",
                name=name,
                legendgroup=name,
                showlegend=modality == "text",
                customdata=points,
                hovertemplate=f"{name} of a {modality}<extra></extra>",
                marker={
                    "symbol": SYMBOLS[modality],
                    "color": PALETTE[concept % len(PALETTE)],
                    "size": 7,
                    "opacity": 0.75,
                    "line": {"width": 0 if modality == "text" else 1.5},
                },
            )
    figure.update_layout(template=TEMPLATE, height=600, margin={"l": 16, "b": 16})
    hidden = {
        "showticklabels": False,
        "ticks": "",
        "zeroline": False,
        "showgrid": False,
        "mirror": True,
        "showline": True,
    }
    figure.update_xaxes(**hidden).update_yaxes(**hidden, scaleanchor="x")
    return with_media(figure, media, captions)

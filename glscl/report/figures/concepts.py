"""Figures of the learned concepts: heat maps, attention on the words of captions, and t-SNE maps with clips."""

import html

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from glscl.evaluation.concepts import PADDING
from glscl.report.figures.common import PALETTE, TEMPLATE, MediaFigure, with_media

ROW, GAP = 24, 40  # pixels of a word, and between two captions
SYMBOLS = {"text": "circle", "video": "diamond-open"}


def heat_maps(
    panels: dict[str, pd.DataFrame], rows: str, columns: str, low: float, high: float, digits: int = 2
) -> go.Figure:
    """Tables beside each other in one scale of colours, each cell with its value; red is below 0 where `low` is.

    panels: {title: table}, shown in the tables' order. rows, columns: titles of the axes.
    """
    figure = make_subplots(1, len(panels), subplot_titles=list(panels), horizontal_spacing=0.03, shared_yaxes=True)
    for column, table in enumerate(panels.values(), 1):
        cells = _cells(table.to_numpy(), digits, f"{rows} %{{y}}, {columns} %{{x}}".strip())
        cells.update(x=[html.escape(str(name)) for name in table.columns])
        cells.update(y=[html.escape(str(name)) for name in table.index])
        figure.add_trace(cells, 1, column)
    figure.update_layout(height=130 + 32 * max(map(len, panels.values())))
    figure.update_xaxes(type="category", title=columns).update_yaxes(type="category").update_yaxes(title=rows, col=1)
    return _finish(figure, low, high)


def attention_on_captions(words: pd.DataFrame, texts: list[int]) -> go.Figure:
    """Attention of each concept on the words of some captions, read from top to bottom, one caption below the other.

    words: a table of `glscl.evaluation.concepts.by_word`. texts: the captions' indices in it. The scale of colours ends
    at the highest weight of a word; padding, a sum over many positions, may lie above it.
    """
    parts = [words[words["text"] == text] for text in texts]
    lengths = [len(part) for part in parts]
    inside = ROW * sum(lengths) + GAP * (len(parts) - 1)
    figure = make_subplots(len(parts), 1, row_heights=lengths, vertical_spacing=GAP / inside)
    high = 0.0
    for row, part in enumerate(parts, 1):
        weights = part.drop(columns=["text", "word"])
        labels = [html.escape(word) for word in part["word"]]
        high = max(high, weights[part["word"] != PADDING].max(axis=None))
        cells = _cells(weights.to_numpy(), 2, "concept %{x}, %{customdata}")
        cells.update(x=weights.columns + 1, customdata=np.tile(labels, (weights.shape[1], 1)).T)
        figure.add_trace(cells, row, 1)
        # a word may occur twice, so rows are numbers and words their labels
        figure.update_yaxes(tickvals=list(range(len(labels))), ticktext=labels, row=row)
    figure.update_layout(height=inside + 120)
    figure.update_xaxes(type="category").update_xaxes(title="concept", row=len(parts))
    return _finish(figure, 0, high)


def _cells(values: np.ndarray, digits: int, position: str) -> go.Heatmap:
    hover = f"{position}: %{{z:.{digits + 1}f}}<extra></extra>"
    text = f"%{{z:.{digits}f}}"
    return go.Heatmap(z=values, texttemplate=text, hovertemplate=hover, coloraxis="coloraxis", xgap=1, ygap=1)


def _finish(figure: go.Figure, low: float, high: float) -> go.Figure:
    scale = {"colorscale": "RdBu" if low < 0 else "Blues", "cmin": low, "cmax": high, "showscale": False}
    figure.update_layout(template=TEMPLATE, margin={"t": 56, "b": 16}, coloraxis=scale)
    return figure.update_xaxes(showgrid=False, ticks="").update_yaxes(autorange="reversed", showgrid=False, ticks="")


def concept_map(
    panels: dict[str, dict[str, np.ndarray]], videos: list[str], media: dict[str, str], captions: list[str]
) -> MediaFigure | go.Figure:
    """The concepts of the same pairs in planes beside each other: colour is the concept, the symbol is the modality.

    panels: {title: {"text": (pairs, concepts, 2), "video": the same}}. videos, captions: per pair. media: see
    `with_media`; a point shows its clip, or without any media its caption.
    """
    figure = make_subplots(1, len(panels), subplot_titles=list(panels), horizontal_spacing=0.02)
    points = [[v, number] for number, v in enumerate(videos)] if media else [[html.escape(c)] for c in captions]
    said = "" if media else "<br>%{customdata[0]}"
    for modality, symbol in SYMBOLS.items():
        style = {"mode": "markers", "hoverinfo": "skip", "marker": {"symbol": symbol, "color": "#555", "size": 8}}
        rank = 1  # before the concepts, whose rank is 1000
        figure.add_scatter(x=[None], y=[None], name=modality, legendrank=rank, **style, row=1, col=1)
    for column, positions in enumerate(panels.values(), 1):
        for modality, position in positions.items():
            for concept in range(position.shape[1]):
                name = f"concept {concept + 1}"
                figure.add_scatter(
                    x=position[:, concept, 0],
                    y=position[:, concept, 1],
                    mode="markers",
                    name=name,
                    legendgroup=name,
                    showlegend=(column, modality) == (1, "text"),
                    customdata=points,
                    hovertemplate=f"{name} of a {modality}{said}<extra></extra>",
                    marker={
                        "symbol": SYMBOLS[modality],
                        "color": PALETTE[concept % len(PALETTE)],
                        "size": 7,
                        "opacity": 0.75,
                        "line": {"width": 0 if modality == "text" else 1.5},
                    },
                    row=1,
                    col=column,
                )
        figure.update_yaxes(scaleanchor=f"x{column if column > 1 else ''}", col=column)
    figure.update_layout(template=TEMPLATE, height=560, margin={"l": 16, "t": 40, "b": 16})
    figure.update_layout(legend={"y": -0.02, "yanchor": "top"})
    hidden = {"showticklabels": False, "ticks": "", "zeroline": False, "showgrid": False}
    hidden |= {"mirror": True, "showline": True}
    figure.update_xaxes(**hidden).update_yaxes(**hidden)
    return with_media(figure, media, captions) if media else figure

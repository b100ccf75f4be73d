"""Every plotly figure: the shared look, and figures whose points show their clip."""

import base64
import html
import io
import json
import os
from itertools import cycle

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
from PIL import Image
from plotly.subplots import make_subplots

from glscl.report.names import name_of

PLOTLY_MIME = "application/vnd.plotly.v1+json"

# Okabe and Ito, "Color universal design" (2008), without black and with the pale yellow last
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#F0E442"]
MUTED = "#9a9a9a"  # what stands back: a reference, or a row that enters no claim
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_AXIS = {"gridcolor": "#e8e8e8", "linecolor": "#999", "zerolinecolor": "#ccc", "ticks": "outside", "automargin": True}

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 14, "color": "#222"},
        "title": {"x": 0, "xref": "paper", "y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 30}},
        "title_font_size": 16,
        "colorway": PALETTE,
        "colorscale": {"sequential": "Viridis", "diverging": "RdBu"},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hoverlabel": {"align": "left", "bgcolor": "white", "font": {"family": FONT, "size": 13}},
        "margin": {"l": 56, "r": 16, "t": 88, "b": 48},
    }
)

# without the button that uploads the figure's data to the maker of plotly
CONFIG = {
    "responsive": True,
    "displaylogo": False,
    "showSendToCloud": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
}

# the panel comes first because the plot's script looks for it at once
PANEL = """<div style="display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start">
<figure id="{key}-panel" class="hover-panel" style="order:1;flex:0 1 280px;margin:0;min-height:120px">
<img alt="" style="display:none;width:100%;border-radius:4px">
<figcaption style="font:14px/1.4 {font};opacity:.8;padding-top:6px;overflow-wrap:anywhere">
Point at a dot, or tap it, to see its clip.</figcaption>
</figure>
<div style="flex:1 1 420px;min-width:0">{plot}</div></div>"""

LET_FINGERS_SCROLL = """
if (matchMedia("(hover: none)").matches) Plotly.relayout("{plot_id}", {dragmode: false});
"""

SHOW_MEDIA = """
const plot = document.getElementById("{plot_id}"), {media, captions} = plot.layout.meta;
const panel = document.getElementById("{plot_id}-panel");
const image = panel.querySelector("img"), text = panel.querySelector("figcaption");
const show = event => {
  const [video, caption] = event.points[0].customdata || [];
  if (video === undefined) return;
  image.src = media[video];
  image.alt = captions[caption];
  image.style.display = "block";
  text.textContent = captions[caption];
};
plot.on("plotly_hover", show);
plot.on("plotly_click", show);
"""


def film_strip(frames: np.ndarray, columns: int = 2, width: int = 140, quality: int = 70) -> str:
    """Frames of one clip in reading order, as one JPEG.

    frames: (frames, height, width, 3), uint8. Each is drawn `width` pixels wide, `columns` beside each other.
    Returns a data URI.
    """
    pictures = [Image.fromarray(frame) for frame in frames]
    height = max(1, round(width * pictures[0].height / pictures[0].width))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (width * min(columns, len(pictures)), height * rows), "white")
    for index, picture in enumerate(pictures):
        sheet.paste(picture.resize((width, height)), (width * (index % columns), height * (index // columns)))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def figure_html(figure: dict, key: str, plotlyjs: bool = False, words: str = "") -> str:
    """HTML of a figure given as plotly's JSON, with its side panel where `with_media` made it.

    `key` is the element's id, unique in the page. `plotlyjs` puts the library (5 MB) in; else the page must load it.
    words: what the figure shows, for who cannot see it.
    """
    layout = figure.get("layout", {})
    has_media = "media" in (layout.get("meta") or {})
    config = CONFIG | figure.get("config", {})
    plot = pio.to_html(
        {"data": figure.get("data", []), "layout": layout},
        config=config,
        include_plotlyjs=plotlyjs,
        include_mathjax=False,
        full_html=False,
        post_script=[LET_FINGERS_SCROLL, SHOW_MEDIA] if has_media else LET_FINGERS_SCROLL,
        default_height=f"{layout.get('height', 450)}px",
        div_id=key,
        validate=False,
    )
    plot = f'<div role="img" aria-label="{html.escape(words)}">{plot}</div>' if words else plot
    return PANEL.format(plot=plot, key=key, font=FONT) if has_media else plot


class MediaFigure:
    """A plotly figure with a side panel; a notebook shows it, and so does the report made of the notebook."""

    def __init__(self, figure: go.Figure):
        self.figure = figure

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        # A stage keeps the figure as data, and the export adds panel and library; Jupyter needs both at once.
        figure = json.loads(self.figure.to_json())
        if os.environ.get("PLOTLY_RENDERER") == "plotly_mimetype":
            return {PLOTLY_MIME: figure}
        return {"text/html": figure_html(figure, f"figure-{id(self):x}", plotlyjs=True)}


def with_media(figure: go.Figure, media: dict[str, str], captions: list[str]) -> MediaFigure:
    """Put a panel beside `figure` that shows the clip and the caption of the point under the mouse or finger.

    media: {video: film strip as a data URI}, each stored once however many points show it. captions: any text; it is
    shown as text, never as HTML. The `customdata` of a point begins with its video and the index of its caption; a
    trace without customdata shows nothing. Raises ValueError where a point names a video or caption that is not given.
    """
    for video, source in media.items():
        if not source.startswith("data:image/"):
            raise ValueError(f"media[{video!r}] must be a data URI such as film_strip makes, got {source[:20]!r}")
    for trace in figure.data:
        for video, caption, *_ in trace.customdata if trace.customdata is not None else []:
            if video not in media or not 0 <= int(caption) < len(captions):
                raise ValueError(
                    f"a point of trace {trace.name!r} names video {video!r} and caption {caption!r}, "
                    f"but media has {len(media)} videos, and captions {len(captions)} entries; give both in full"
                )
    shown = go.Figure(figure).update_layout(meta={"media": media, "captions": list(captions)})
    return MediaFigure(shown)


def curves(curve: pd.DataFrame) -> go.Figure:
    """Validation R@1 and training loss against steps, one line per seed; a star marks the selected epoch.

    curve: columns seed, step, val_r1 (percent) and loss_total, one row per seed and epoch.
    """
    figure = make_subplots(1, 2, subplot_titles=("R@1 on validation, %", "loss in training"))
    for colour, (seed, run) in zip(cycle(PALETTE), curve.groupby("seed"), strict=False):
        style = {"legendgroup": seed, "line_color": colour, "mode": "lines+markers"}
        figure.add_scatter(x=run["step"], y=run["val_r1"], name=f"seed {seed}", **style, row=1, col=1)
        figure.add_scatter(x=run["step"], y=run["loss_total"], showlegend=False, **style, row=1, col=2)
        best = run.loc[[run["val_r1"].idxmax()]]
        star = {"symbol": "star", "size": 15, "color": colour}
        figure.add_scatter(
            x=best["step"],
            y=best["val_r1"],
            mode="markers",
            marker=star,
            legendgroup=seed,
            showlegend=False,
            row=1,
            col=1,
        )
    figure.update_xaxes(title_text="steps")
    return figure.update_layout(template=TEMPLATE, height=400, margin_t=40, legend={"y": -0.22, "yanchor": "top"})


def forest(rows: pd.DataFrame, metric: str) -> go.Figure:
    """One point and its 95 % interval, where there is one, per row: columns `name`, `value`, `low`, `high`, percent."""
    rows = rows.iloc[::-1].astype({"low": float, "high": float})
    above, below = rows["high"] - rows["value"], rows["value"] - rows["low"]
    figure = go.Figure(
        go.Scatter(
            x=rows["value"],
            y=rows["name"].map(name_of),
            mode="markers",
            marker={"size": 11, "color": PALETTE[0]},
            error_x={"type": "data", "array": above, "arrayminus": below, "thickness": 2},
        )
    )
    figure.update_xaxes(title_text=metric, rangemode="tozero")
    return figure.update_layout(template=TEMPLATE, height=120 + 42 * len(rows), margin_t=24)

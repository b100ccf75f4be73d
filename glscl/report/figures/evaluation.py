"""Figures of the evaluate page: R@1 between control and ceilings, and what each head binds."""

import pandas as pd
import plotly.graph_objects as go

from glscl.report.figures.common import MUTED, PALETTE, TEMPLATE
from glscl.report.names import name_of

TWIN_NAMES = {"colour": "colours exchanged", "order": "order exchanged", "shape": "shape changed",
              "motion": "motion changed"}  # fmt: skip


def recalls(rows: pd.DataFrame, lines: dict[str, float]) -> go.Figure:
    """A dot and its interval per row, best at the top, and a vertical line per entry of `lines`.

    rows: columns name, value, low, high (percent; low and high may be missing) and trained, False for grey. lines:
    {name: percent}.
    """
    rows = rows.sort_values("value")
    figure = go.Figure(
        go.Scatter(
            x=rows["value"],
            y=rows["name"].map(name_of),
            mode="markers",
            marker={"size": 11, "color": [PALETTE[0] if trained else MUTED for trained in rows["trained"]]},
            error_x={
                "type": "data",
                "array": rows["high"] - rows["value"],
                "arrayminus": rows["value"] - rows["low"],
                "thickness": 2,
            },
            showlegend=False,
        )
    )
    for colour, (name, value) in zip([MUTED, *PALETTE[1:]], lines.items(), strict=False):
        ends = [name_of(rows["name"].iloc[0]), name_of(rows["name"].iloc[-1])]
        style = {"color": colour, "dash": "dash", "width": 2}
        figure.add_scatter(x=[value, value], y=ends, mode="lines", line=style, name=f"{name} {value:.1f}")
    figure.update_xaxes(title_text="text-to-video R@1, %", range=[-1, 102])
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}
    return figure.update_layout(template=TEMPLATE, height=160 + 34 * len(rows), margin_t=50, legend=legend)


def twins(found: dict[str, dict[str, dict]]) -> go.Figure:
    """Accuracy by kind of twin, a colour per method, with intervals; a line at 50 %, a coin.

    found: {method: {kind: {"accuracy", "low", "high"}}}, percent.
    """
    figure = go.Figure()
    for number, (method, kinds) in enumerate(found.items()):
        names = [TWIN_NAMES[kind] for kind in kinds]
        parts = ("accuracy", "low", "high")
        value, low, high = (pd.Series([one[part] for one in kinds.values()], dtype=float) for part in parts)
        figure.add_bar(
            x=names,
            y=value,
            name=name_of(method),
            marker_color=PALETTE[number % len(PALETTE)],
            error_y={"type": "data", "array": high - value, "arrayminus": value - low, "thickness": 1.5},
        )
    figure.add_hline(50, line={"color": MUTED, "dash": "dash"})
    figure.update_yaxes(title_text="true text above its twin, %", range=[0, 102])
    legend = {"orientation": "h", "y": -0.15, "yanchor": "top"}
    return figure.update_layout(template=TEMPLATE, height=420, margin_t=20, barmode="group", legend=legend)

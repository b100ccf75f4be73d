"""Figures of the losses: axes of doses show what matters and leave noise small."""

import pandas as pd
import pytest

from glscl.report.figures.losses import LEAST, OUTCOMES, dose_response


def axes(change: float) -> dict:
    """The axis of every outcome, where each goes up by `change` from one dose to the next."""
    rows = pd.DataFrame({"variant": "released", "knob": "beta", "dose": [0.1, 1.0], "low": 40.0, "high": 42.0})
    rows = rows.assign(**{outcome: [1.0, 1.0 + change] for outcome in OUTCOMES})
    figure = dose_response(rows)
    # of one knob, every outcome has one panel; plotly calls the first axis `yaxis`
    return {name: figure.layout[f"yaxis{number if number > 1 else ''}"] for number, name in enumerate(OUTCOMES, 1)}


def test_what_is_less_than_matters_looks_small():
    for outcome, axis in axes(0.01).items():
        if outcome in LEAST:
            low, high = axis.range
            assert high - low >= LEAST[outcome]
            assert (low + high) / 2 == pytest.approx(1.005)
        else:
            assert axis.range is None
    assert LEAST.keys() <= OUTCOMES.keys()


def test_what_matters_fills_its_axis():
    assert all(axis.range is None for axis in axes(0.6).values())

"""What learning curves say: start, rate and asymptote apart, shares of the own gap, and the way to a fixed R@1."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import OptimizeWarning, curve_fit

from glscl.evaluation.statistics import correct_family, seed_interval
from glscl.study.convergence import Study, Trained
from glscl.study.project import commit, hardware

SUBJECT = "glscl"
GOAL_UNIT = 5  # percent; the goal is a multiple of it
POWERS = (0.25, 8.0)  # of the fitted curve
COMPARED = ("rate", "steps_to_goal", "macs_to_goal")  # as log-ratios to GLSCL


class Fit(NamedTuple):
    """A saturating power law: R@1 after s steps is start + (asymptote - start) s^power / (s^power + half^power).

    start, asymptote: percent; the start is measured. half: steps after which half of the gap between them is closed.
    residual: root of the mean squared distance of the evaluations after the start, points.
    """

    start: float
    asymptote: float
    half: float
    power: float
    residual: float

    def at(self, steps) -> np.ndarray:
        """R@1 of the fitted curve after these steps, percent."""
        return _saturating(np.asarray(steps, dtype=float), self.start, self.asymptote, self.half, self.power)


def _saturating(steps, start, asymptote, half, power):
    closed = steps**power
    return start + (asymptote - start) * closed / (closed + half**power)


def fit(steps: Sequence[float], r1: Sequence[float]) -> Fit | None:
    """The curve of `Fit` through one run by least squares; None where the run does not determine one.

    steps: (evaluations,), rising from 0. r1: (evaluations,), percent. A run determines a curve where the fit converges,
    the gap is above twice its standard error, and half of it is closed within the training: what would lie beyond is
    not known. The curve may begin flat, as runs do while the learning rate rises; an exponential approach may not.
    """
    steps, r1 = np.asarray(steps, dtype=float), np.asarray(r1, dtype=float)
    start, later, found = r1[0], steps[1:], r1[1:]
    if len(later) < 4:  # three numbers are fitted
        return None
    guess = (np.clip(found[-1], 1, 99), np.sqrt(later[0] * later[-1]), 1.0)
    bounds = (0, later[0] / 4, POWERS[0]), (100, 4 * later[-1], POWERS[1])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", OptimizeWarning)  # no standard errors
            chosen, covariance = curve_fit(
                lambda s, asymptote, half, power: _saturating(s, start, asymptote, half, power),
                later,
                found,
                guess,
                bounds=bounds,
                x_scale=(10.0, guess[1], 1.0),
            )
    except (RuntimeError, OptimizeWarning):
        return None
    asymptote, half, power = map(float, chosen)
    if asymptote - start <= 2 * np.sqrt(covariance[0, 0]) or half > later[-1]:
        return None
    residual = np.sqrt(np.mean((_saturating(later, start, *chosen) - found) ** 2))
    return Fit(float(start), asymptote, half, power, float(residual))


def step_of(goal: float, steps: Sequence[float], r1: Sequence[float]) -> float | None:
    """The first step at which a run reaches `goal`; None where it never does, 0 where it starts there.

    Between two evaluations R@1 is taken as linear in log(1 + step). steps: (evaluations,), rising from 0. r1:
    (evaluations,), in the unit of the goal.
    """
    reached = np.asarray(r1, dtype=float) >= goal
    if not reached.any():
        return None
    after = int(reached.argmax())
    if after == 0:
        return float(steps[0])
    (x, x_after), (y, y_after) = np.log1p(steps[after - 1 : after + 1]), r1[after - 1 : after + 1]
    return float(np.expm1(x + (x_after - x) * (goal - y) / (y_after - y)))


def over_seeds(each: Sequence[float | None], floor: float = -np.inf) -> dict | None:
    """Mean and 95 % t interval for new seeds of one value per seed: {"mean", "low", "high", "seeds"}.

    None where a seed has no value. One seed has no interval. floor: the lowest value that there can be.
    """
    if not len(each) or any(value is None for value in each):
        return None
    low, high = seed_interval(each) if len(each) > 1 else (None, None)
    low = low if low is None else max(floor, low)
    return {"mean": float(np.mean(each)), "low": low, "high": high, "seeds": list(each)}


def log_ratio(one: Sequence[float | None], other: Sequence[float | None]) -> dict | None:
    """Mean of log(one / other) over seeds, one beside the same seed: {"difference", "low", "high", "p", "seeds"}.

    Interval and two-sided p-value of a paired t test, for new seeds. None below two seeds, and where a value is absent
    or 0.
    """
    if len(one) < 2 or not all([*one, *other]):
        return None
    ratios = np.log(np.asarray(one, dtype=float) / np.asarray(other, dtype=float))
    low, high = seed_interval(ratios)
    error, mean = ratios.std(ddof=1) / np.sqrt(len(ratios)), float(ratios.mean())
    certain = 0.0 if mean else 1.0  # where all seeds agree to the last digit
    p = float(2 * stats.t.sf(abs(mean) / error, len(ratios) - 1)) if error else certain
    return {"difference": mean, "low": low, "high": high, "p": p, "seeds": ratios.tolist()}


def common_goal(ends: dict[str, float]) -> float | None:
    """The highest multiple of `GOAL_UNIT` that every head's mean R@1 reaches at the end; None where that is 0.

    ends: by head, percent.
    """
    lowest = min(ends.values(), default=0.0)
    return float(GOAL_UNIT * (lowest // GOAL_UNIT)) or None


# --- results


class Curves(NamedTuple):
    """The runs of every head and what is read off them, by head; lists have one entry per seed.

    r1: (seeds, evaluations), percent. fits: `fit` of each. steps_to_goal, macs_to_goal: None where a run never gets
    there.
    """

    steps: list[int]
    r1: dict[str, np.ndarray]
    fits: dict[str, list[Fit | None]]
    goal: float | None
    steps_to_goal: dict[str, list[float | None]]
    macs_to_goal: dict[str, list[float | None]]


def curves_of(study: Study, trained: Trained) -> Curves:
    """Fits and ways to the goal of all runs."""
    r1 = trained.r1
    goal = common_goal({name: runs[:, -1].mean() for name, runs in r1.items()})
    there = {name: [None if goal is None else step_of(goal, study.steps, run) for run in r1[name]] for name in r1}
    work = {name: [None if step is None else step * trained.macs[name] for step in there[name]] for name in r1}
    return Curves(study.steps, r1, {n: [fit(study.steps, run) for run in r1[n]] for n in r1}, goal, there, work)


def results_of(study: Study, trained: Trained, curves: Curves) -> dict:
    """Every deterministic number of the study, as convergence.json keeps it without `answer` and `details`."""
    heads = {}
    for name, runs in curves.r1.items():
        steps, macs = curves.steps_to_goal[name], curves.macs_to_goal[name]
        heads[name] = {
            "lr": study.heads[name][2].lr_new,
            "start": over_seeds(runs[:, 0].tolist(), floor=0.0),
            "end": over_seeds(runs[:, -1].tolist(), floor=0.0),
            **_fitted(curves.fits[name]),
            "share_at": dict(zip(study.steps, shares(curves, name).mean(0).tolist(), strict=True))
            if all(curves.fits[name])
            else None,
            "steps_to_goal": over_seeds(steps, floor=0.0),
            "macs_to_goal": over_seeds(macs, floor=0.0),
            "reached": sum(step is not None for step in steps),
            "macs_per_step": trained.macs[name],
        }
    return {"scope": study.scope(), "goal": curves.goal, "heads": heads, "differences": against_subject(curves)}


def _fitted(fits: list[Fit | None]) -> dict:
    def each(value) -> list[float | None]:
        return [found and value(found) for found in fits]

    return {
        "asymptote": over_seeds(each(lambda found: found.asymptote), floor=0.0),
        "rate": over_seeds(each(lambda found: 1 / found.half), floor=0.0),
        "half": over_seeds(each(lambda found: found.half), floor=0.0),
        "power": over_seeds(each(lambda found: found.power), floor=0.0),
        "residual": max((found.residual for found in fits if found), default=None),
        "fitted": sum(found is not None for found in fits),
    }


def shares(curves: Curves, name: str) -> np.ndarray:
    """Share of its own gap, from its start to its asymptote, that each run of a head has closed, NaN without a fit.

    (seeds, evaluations): measured R@1 over the fitted gap.
    """
    asymptote = np.array([found.asymptote if found else np.nan for found in curves.fits[name]])[:, None]
    start = curves.r1[name][:, :1]
    return (curves.r1[name] - start) / (asymptote - start)


def against_subject(curves: Curves) -> dict[str, dict[str, dict | None]]:
    """Every other head over GLSCL: {head: {quantity: `log_ratio` with `p_holm`}}; Holm's correction is over heads.

    quantity: one of `COMPARED`. Empty without GLSCL.
    """
    if SUBJECT not in curves.r1:
        return {}
    values = {
        "rate": {name: [found and 1 / found.half for found in fits] for name, fits in curves.fits.items()},
        "steps_to_goal": curves.steps_to_goal,
        "macs_to_goal": curves.macs_to_goal,
    }
    found = {
        rival: {kind: log_ratio(values[kind][rival], values[kind][SUBJECT]) for kind in COMPARED}
        for rival in curves.r1
        if rival != SUBJECT
    }
    for kind in COMPARED:
        correct_family([each[kind] for each in found.values() if each[kind]])
    return found


def curve_table(study: Study, trained: Trained, curves: Curves) -> pd.DataFrame:
    """Learning curves as convergence.csv keeps them: method, seed, step, r1 (percent), share, macs so far.

    share: of the head's own gap, see `shares`.
    """
    rows = [
        {"method": name, "seed": seed, "step": step, "r1": r1, "share": share, "macs": step * trained.macs[name]}
        for name, runs in curves.r1.items()
        for seed, run, closed in zip(study.seeds, runs.tolist(), shares(curves, name).tolist(), strict=True)
        for step, r1, share in zip(study.steps, run, closed, strict=True)
    ]
    return pd.DataFrame(rows, columns=["method", "seed", "step", "r1", "share", "macs"])


def measured_of(trained: Trained, curves: Curves) -> dict:
    """What this machine measured, as measured/convergence.json keeps it: seconds of a step, and to the goal.

    Seconds to the goal are steps times the median of a step.
    """
    pace = trained.pace
    to_goal = {
        name: over_seeds([None if s is None else s * pace.loc[name, "median"] for s in steps], floor=0.0)
        for name, steps in curves.steps_to_goal.items()
    }
    return {
        "commit": commit(),
        "hardware": hardware(),
        "seconds_per_step": {name: pace.loc[name].to_dict() for name in curves.r1},
        "seconds_to_goal": to_goal,
    }

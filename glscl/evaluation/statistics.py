"""Paired comparisons of retrieval systems: differences with intervals, p-values, corrections, and power.

Values are of queries, in points: 100 where the correct item is found and 0 where it is not gives recall. Queries of
one video are not independent, so whole groups such as videos are resampled.
"""

import numpy as np
from scipy import stats

from glscl.metrics import times_drawn

DETECTABLE = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)  # 2.8 standard errors: 80 % power at 5 %, two-sided


def paired_difference(one, other, group, samples: int = 2000, seed: int = 0) -> dict:
    """Mean difference, one minus other, of two systems on the same queries, in the unit of the values.

    one, other: (runs, queries), run r of one beside run r of other. group: (queries,), labels of what is resampled.
    Returns {"difference", "low", "high", "p", "detectable", "seeds"}: the mean; its 95 % percentile interval; the
    two-sided bootstrap p-value of no difference, at least 2 / (samples + 1); the minimum detectable effect, a true
    difference found with 80 % power at 5 %; and the difference of every run. The runs are held fixed: interval and
    p-value speak of new queries, and `crossed_interval` of new queries and new runs.
    Raises ValueError where the shapes do not fit or a value is not finite.
    """
    one, group = _checked(one, group)
    other, _ = _checked(other, group)
    if one.shape != other.shape:
        raise ValueError(
            f"both systems need the same runs and queries, got shapes {one.shape} and {other.shape}; leave out what "
            "only one of them has."
        )
    points = one - other
    drawn, totals, counts = _resampled(points, group, samples, seed)
    estimates = (drawn @ totals.mean(0)) / (drawn @ counts)
    low, high = np.percentile(estimates, [2.5, 97.5])
    beyond = min((estimates <= 0).sum(), (estimates >= 0).sum())
    return {
        "difference": float(points.mean()),
        "low": float(low),
        "high": float(high),
        "p": min(1.0, float(2 * (beyond + 1) / (samples + 1))),
        "detectable": float(DETECTABLE * estimates.std(ddof=1)),
        "seeds": points.mean(1).tolist(),
    }


def crossed_interval(values, group, samples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean over runs and queries, both random: it holds for new runs and new queries.

    values: (runs, queries), at least two runs; of a difference, one minus other. group: as in `paired_difference`.
    The variance over queries, from the bootstrap, and that over runs are added; a t distribution whose degrees of
    freedom follow Satterthwaite (1946) widens the interval where few runs are most of the doubt. (To draw three runs
    with replacement could never leave their range, which misses the mean of all runs in a quarter of all cases.)
    """
    values, group = _checked(values, group)
    runs = _several(len(values))
    drawn, totals, counts = _resampled(values, group, samples, seed)
    over_queries = ((drawn @ totals.mean(0)) / (drawn @ counts)).var(ddof=1)
    over_runs = values.mean(1).var(ddof=1) / runs
    variance, mean = over_queries + over_runs, values.mean()
    freedom = (runs - 1) * (variance / over_runs) ** 2 if over_runs > 0 else np.inf
    half = stats.t.ppf(0.975, freedom) * np.sqrt(variance)
    return float(mean - half), float(mean + half)


def seed_interval(values) -> tuple[float, float]:
    """95 % t interval of the mean of one value per run, (runs,); it holds for new runs on the same queries.

    Raises ValueError for fewer than two runs.
    """
    values = np.asarray(values, dtype=float)
    half = stats.t.ppf(0.975, _several(len(values)) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def mcnemar(one, other) -> float:
    """Exact two-sided p-value of McNemar's test: does one system find the queries that the other misses more often?

    one, other: (queries,), booleans. Only queries on which they disagree count, and each is taken as independent of the
    others: with several captions per video prefer `paired_difference`.
    """
    one, other = np.asarray(one, dtype=bool), np.asarray(other, dtype=bool)
    if one.shape != other.shape or one.ndim != 1:
        raise ValueError(
            f"both systems need one boolean for each of the same queries, got shapes {one.shape} and {other.shape}; "
            "leave out what only one of them has."
        )
    gained, lost = int((one & ~other).sum()), int((other & ~one).sum())
    return min(1.0, 2 * float(stats.binom.cdf(min(gained, lost), gained + lost, 0.5)))


def holm(p_values) -> list[float]:
    """P-values of a family of tests after Holm's correction (1979), in the order given.

    Below 0.05, at most one family in twenty has a false finding, however the tests depend on each other.
    """
    p_values = np.asarray(p_values, dtype=float)
    order = p_values.argsort(kind="stable")
    raised = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(raised, 1.0)
    return corrected.tolist()


def _several(runs: int) -> int:
    if runs < 2:
        raise ValueError(f"an interval over seeds needs two runs or more, got {runs}; train more seeds.")
    return runs


def _checked(values, group) -> tuple[np.ndarray, np.ndarray]:
    values, group = np.asarray(values, dtype=float), np.asarray(group)
    if values.ndim != 2 or not values.size or group.shape != values.shape[1:]:
        raise ValueError(
            f"values must be (runs, queries) with one group per query, got shapes {values.shape} and {group.shape}; "
            "stack the runs and give the video of each query."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"values must be finite, got {int((~np.isfinite(values)).sum())} that are not; look for NaN.")
    return values, group


def _resampled(values: np.ndarray, group: np.ndarray, samples: int, seed: int) -> tuple[np.ndarray, ...]:
    """How often each group is drawn (samples, groups), the sums of the groups (runs, groups), and their sizes."""
    _, group = np.unique(group, return_inverse=True)
    counts = np.bincount(group)
    totals = np.stack([np.bincount(group, row) for row in values])
    return times_drawn(len(counts), samples, seed), totals, counts

"""Paired comparisons of retrieval systems: differences with intervals, p-values, corrections, and power.

Values are of queries, in points: 100 where the correct item is found and 0 where it is not gives recall. Queries of
one video are not independent, so whole groups such as videos are the unit. Queries and runs are both random: intervals
and p-values speak of new queries and new seeds. A single group says nothing of new ones: it has no interval, and
differs from nothing.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.05  # of two-sided tests
POWER = 0.8  # at which an effect counts as detectable


class Error(NamedTuple):
    """Standard error of a mean, in the unit of the values, and the degrees of freedom of its t distribution."""

    error: float
    freedom: float

    def half(self, level: float = LEVEL) -> float:
        """Half the width of the interval that covers the truth in a share of 1 - level."""
        return float(stats.t.ppf(1 - level / 2, self.freedom) * self.error)


def standard_error(values, group) -> Error:
    """Standard error of the mean over runs and queries, both random; over queries alone where there is one run.

    values: (runs, queries). group: (queries,), labels of what is drawn as a whole, such as the video of each query.
    The variance over groups, that of a ratio of sums, and the variance over runs are added, with the degrees of freedom
    of Satterthwaite (1946). What runs and queries do only together is in both, so the error is rather too large.
    (To draw three runs with replacement could never leave their range, which misses the mean of all runs in a quarter
    of all cases.)
    Raises ValueError where the shapes do not fit, a value is not finite, or there are fewer than two groups.
    """
    values, group = _checked(values, group)
    _, group = np.unique(group, return_inverse=True)
    groups, runs = group.max() + 1, len(values)
    if groups < 2:
        raise ValueError("an interval over queries needs two groups or more, got 1; give the video of each query.")
    apart = np.bincount(group, values.mean(0) - values.mean())  # (groups,), sums of deviations
    over_queries = groups / (groups - 1) * (apart**2).sum() / values.shape[1] ** 2
    over_runs = values.mean(1).var(ddof=1) / runs if runs > 1 else 0.0
    variance = over_queries + over_runs
    if variance == 0:
        return Error(0.0, float(groups - 1))
    doubt = over_queries**2 / (groups - 1) + over_runs**2 / max(1, runs - 1)
    return Error(float(variance**0.5), float(variance**2 / doubt))


def alone(group) -> bool:
    """Whether all queries are of one group, so that nothing can be said of others."""
    return len(np.unique(group)) == 1


def mean_interval(values, group) -> tuple[float, float] | tuple[None, None]:
    """95 % interval of the mean of values (runs, queries), None of a single group; errors as in `standard_error`."""
    if alone(group):
        return None, None
    mean, half = float(np.mean(values)), standard_error(values, group).half()
    return mean - half, mean + half


def median_interval(values, group, samples: int = 2000, seed: int = 0) -> tuple[float, float] | tuple[None, None]:
    """95 % bootstrap interval over queries of the mean over runs of the median; the runs are held fixed.

    values: (runs, queries). group: as in `standard_error`; a single one has no interval. A median has no variance in
    closed form.
    """
    values, group = _checked(values, group)
    if alone(group):
        return None, None
    _, group = np.unique(group, return_inverse=True)
    drawn = _times_drawn(group.max() + 1, samples, seed)
    estimates = np.mean([_medians(row, drawn[:, group]) for row in values], axis=0)
    low, high = np.percentile(estimates, [2.5, 97.5])
    return float(low), float(high)


@lru_cache(maxsize=4)
def _times_drawn(groups: int, samples: int, seed: int) -> np.ndarray:
    """How often each group is drawn in each bootstrap sample: (samples, groups), whole numbers as floats, read-only."""
    drawn = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=samples).astype(float)
    drawn.flags.writeable = False
    return drawn


def _medians(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Median of values (queries,) repeated so many times, times (samples, queries) -> (samples,)."""
    order = values.argsort()
    passed = times[:, order].cumsum(1)
    total = passed[:, -1:]
    middle = [(passed > position).argmax(1) for position in ((total - 1) // 2, total // 2)]
    return values[order][middle].mean(0)


def paired_difference(one, other, group, family: int = 1) -> dict:
    """Mean difference, one minus other, of two systems on the same queries, in the unit of the values.

    one, other: (runs, queries), run r of one beside run r of other. group: as in `standard_error`. family: tests that
    Holm's correction is over. Returns {"difference", "low", "high", "p", "detectable", "seeds", "runs", "error",
    "freedom"}: the mean; its 95 % interval and the two-sided p-value of no difference, both over queries and runs,
    or over queries alone where `runs` is 1; the minimum detectable effect, a true difference that the first step of
    Holm's correction at 5 % finds in 80 % of cases; the difference of every run; and what `standard_error` gives. Of a
    single group, p is 1, and interval, detectable effect, error and freedom are None.
    Raises ValueError as `standard_error` does, and where the systems have other shapes.
    """
    one, other = np.asarray(one, dtype=float), np.asarray(other, dtype=float)
    if one.shape != other.shape:
        raise ValueError(
            f"both systems need the same runs and queries, got shapes {one.shape} and {other.shape}; leave out what "
            "only one of them has."
        )
    points = one - other
    difference = float(points.mean())
    each = {"seeds": points.mean(1).tolist(), "runs": len(points)}
    if alone(group):
        unknown = dict.fromkeys(("low", "high", "detectable", "error", "freedom"))
        return {"difference": difference, "p": 1.0} | unknown | each
    found = standard_error(points, group)
    needed = stats.t.ppf([1 - LEVEL / family / 2, POWER], found.freedom).sum()
    return {
        "difference": difference,
        "low": difference - found.half(),
        "high": difference + found.half(),
        "p": _p_value(difference, found),
        "detectable": float(needed * found.error),
        **each,
        **found._asdict(),
    }


def _p_value(difference: float, found: Error) -> float:
    if found.error == 0:
        return float(difference == 0)
    return float(2 * stats.t.sf(abs(difference) / found.error, found.freedom))


def not_above(effect: dict) -> bool:
    """Whether an effect of `paired_difference` has an interval, and it reaches down to 0 or below."""
    return effect["low"] is not None and effect["low"] <= 0


def equivalent(effect: dict, margin: float) -> bool:
    """Whether two systems differ by less than `margin`, by two one-sided tests at 5 % (Schuirmann, 1987).

    effect: of `paired_difference`. True where the 90 % interval lies within the margin on either side of zero: few
    queries or seeds give a wide interval, and so no equivalence.
    """
    low, high = interval_at(effect, 2 * LEVEL)
    return low is not None and -margin < low and high < margin


def interval_at(effect: dict, level: float) -> tuple[float, float] | tuple[None, None]:
    """The interval of an effect of `paired_difference` that covers the truth in a share of 1 - level."""
    if effect["error"] is None:
        return None, None
    half = Error(effect["error"], effect["freedom"]).half(level)
    return effect["difference"] - half, effect["difference"] + half


def seed_interval(values) -> tuple[float, float]:
    """95 % t interval of the mean of one value per run, (runs,); it holds for new runs on the same queries.

    Raises ValueError for fewer than two runs.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        raise ValueError(f"an interval over seeds needs two runs or more, got {len(values)}; train more seeds.")
    half = Error(values.std(ddof=1) / len(values) ** 0.5, len(values) - 1).half()
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


def correct_family(effects: list[dict]) -> None:
    """Add `p_holm`, `holm` of their `p`, to effects that are one family of tests."""
    for effect, p in zip(effects, holm([effect["p"] for effect in effects]), strict=True):
        effect["p_holm"] = p


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

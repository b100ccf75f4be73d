"""Results: one row per run with what its numbers depend on, and the tables of means and intervals made of them."""

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd

from glscl.evaluation.statistics import correct_family, mean_interval, median_interval, paired_difference
from glscl.metrics import DEPTH, RECALLS, summarise

METRICS = [*(f"R@{k}" for k in RECALLS), "MdR", "MnR", f"mAP@{DEPTH}"]
DIRECTIONS = ("t2v", "v2t")
LEAK = "released evaluation (leaks)"
WITHOUT_BIAS = "without NCL's bias"
ON_TEST = "best R@1 on the test split, as published"
OTHER_EPOCHS = {"last": "last epoch", ON_TEST: "selected on test"}
SELECTION_RULE = "best R@1 on the validation split, once per epoch"
ROWS_AT_ONCE = 4  # of `summary`: a bootstrap of the medians of 28,000 queries holds a gigabyte


class Run(NamedTuple):
    """One evaluated row: its name, split, seed (None without one), selection rule, and `metrics.per_query`.

    processing: what was done to the scores afterwards; rows of different processing are never mixed.
    """

    name: str
    split: str
    seed: int | None
    selection: str
    queries: dict[str, dict[str, np.ndarray]]
    processing: str = "none"


def rows(runs: list[Run], splits: dict, **about) -> pd.DataFrame:
    """One row per run and direction: metrics, counts, and `about`, which holds for all of them.

    splits: each `glscl.data.dataset.Split` by name.
    """
    table = []
    for run in runs:
        size = {"texts": len(splits[run.split]), "videos": len(splits[run.split].videos)}
        for direction in DIRECTIONS:
            row = {"method": run.name, "split": run.split, "direction": direction, "seed": run.seed}
            row |= {"selection": run.selection, **size, **about, "ties": "mid", "post_processing": run.processing}
            table.append(row | summarise(run.queries[direction]))
    return pd.DataFrame(table).astype({"seed": "Int64"}).round(4)


def summary(runs: list[Run]) -> pd.DataFrame:
    """One row per method, split, selection, post-processing and direction: mean and sd over seeds, 95 % interval.

    Columns: method, split, selection, post_processing, direction, seeds, and for every metric its mean, `_sd`, `_low`
    and `_high`, see `intervals`.
    """
    same: dict[tuple, list] = {}
    for run in runs:
        same.setdefault((run.name, run.split, run.selection, run.processing), []).append(run.queries)

    def row(kind: tuple, direction: str) -> dict:
        queries = [found[direction] for found in same[kind]]
        metrics, edges = pd.DataFrame(map(summarise, queries)), intervals(queries)
        found = dict(zip(("method", "split", "selection", "post_processing"), kind, strict=True))
        found |= {"direction": direction, "seeds": len(queries)}
        for metric in METRICS:
            sd = metrics[metric].std(ddof=1) if len(queries) > 1 else None
            found |= {metric: metrics[metric].mean(), f"{metric}_sd": sd}
            found |= dict(zip((f"{metric}_low", f"{metric}_high"), edges[metric], strict=True))
        return found

    with ThreadPoolExecutor(min(ROWS_AT_ONCE, len(os.sched_getaffinity(0)))) as pool:
        return pd.DataFrame(pool.map(lambda of: row(*of), product(same, DIRECTIONS))).round(4)


def intervals(runs: list[dict[str, np.ndarray]], samples: int = 2000) -> dict[str, tuple[float, float]]:
    """95 % intervals of every metric of `summarise`, for one run or for the mean over several seeds.

    Means, all metrics but MdR, have intervals over queries and seeds, within the range of the metric. The median's is
    a bootstrap of the queries with the seeds held fixed. Queries of one video have none: NaN. runs: one direction of
    `per_query` for each seed, with the same queries in the same order.
    """
    group, rank = runs[0]["group"], np.stack([run["rank"] for run in runs])
    percent = {f"R@{k}": 100 * (rank <= k - 1) for k in RECALLS}
    percent[f"mAP@{DEPTH}"] = 100 * np.stack([run["ap"] for run in runs])
    found = {name: mean_interval(values, group) for name, values in percent.items()}
    found = {name: tuple(np.clip(np.array(edges, dtype=float), 0, 100)) for name, edges in found.items()}
    found["MnR"] = tuple(np.maximum(np.array(mean_interval(rank + 1, group), dtype=float), 1))
    return found | {"MdR": tuple(np.array(median_interval(rank + 1, group, samples), dtype=float))}


def rank_table(runs: list[Run], splits: dict) -> pd.DataFrame:
    """Every query of the runs that are results; docs/data.md describes the columns.

    splits: each `glscl.data.dataset.Split` by name. Queries of a run stand in the order of the captions or of the
    videos; `glscl.evaluation.comparisons` reads the ranks.
    """
    parts = []
    for run in runs:
        if run.selection not in OTHER_EPOCHS and run.processing == "none":
            videos, texts = np.array(splits[run.split].videos, object), splits[run.split].captions["caption_id"]
            for direction, found in run.queries.items():
                about = {"method": run.name, "split": run.split, "seed": run.seed, "direction": direction}
                about |= {"text": texts.to_numpy() if direction == "t2v" else None, "video": videos[found["group"]]}
                about |= {"rank": found["rank"], "best": list(videos[found["best"]])}
                parts.append(pd.DataFrame(about | {"scores": list(found["best_scores"].astype(np.float32))}))
    return pd.concat(parts).astype({"seed": "Int64", "text": "Int64"})


def differences(runs: list[Run], one: str, others: list[str], metrics: list[str]) -> dict[str, dict[str, dict]]:
    """A method minus each of the others in text-to-video recall on the test split, in points: {other: {metric: ...}}.

    Every entry is what `paired_difference` gives and `p_holm`, corrected over the others. A row without seeds, such as
    zero-shot CLIP, stands beside every seed of the method.
    """

    def ranks(method: str) -> np.ndarray:
        return np.stack([queries["rank"] for queries in _selected(runs, method)])

    found: dict[str, dict[str, dict]] = {other: {} for other in others}
    for metric in metrics if others else []:
        k, group = int(metric.removeprefix("R@")), _selected(runs, one)[0]["group"]
        hits = {method: 100.0 * (ranks(method) <= k - 1) for method in (one, *others)}
        pairs = [np.broadcast_arrays(hits[one], hits[other]) for other in others]
        each = [paired_difference(*pair, group, len(others)) for pair in pairs]
        correct_family(each)
        for other, effect in zip(others, each, strict=True):
            found[other][metric] = effect
    return found


def _selected(runs: list[Run], method: str) -> list[dict[str, np.ndarray]]:
    """Text-to-video queries of a method's runs on the test split that are results."""
    kind = method, "test", "none"
    chosen = [run for run in runs if (run.name, run.split, run.processing) == kind]
    return [run.queries["t2v"] for run in chosen if run.selection not in OTHER_EPOCHS]


def describe(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """`43.1 [41.0, 45.2]`, the value alone where there is no interval, or a dash where there is no value."""
    if value is None:
        return "\N{EN DASH}"
    return f"{value:.1f}" if low is None or pd.isna(low) else f"{value:.1f} [{low:.1f}, {high:.1f}]"


def edges(row: pd.Series, metric: str) -> tuple[float, float] | tuple[None, None]:
    """Low and high of a metric in a row of `summary`, None where there is no interval."""
    low, high = row[[f"{metric}_low", f"{metric}_high"]]
    return (None, None) if pd.isna(low) else (low, high)


def shown(table: pd.DataFrame, metrics: list[str] = METRICS) -> pd.DataFrame:
    """What a reader sees of `summary`: intervals beside means, arrows that say where better lies, spread over seeds."""
    cells = {
        "method": [
            f"{n}, {OTHER_EPOCHS[s]}" if s in OTHER_EPOCHS else n
            for n, s in zip(table["method"], table["selection"], strict=True)
        ]
    }
    if "temporal_layers" in table:
        cells["temporal encoder"] = [
            None if pd.isna(layers) else f"{layers:.0f} layers" if layers else "none"
            for layers in table["temporal_layers"]
        ]
    if "post_processing" in table and (table["post_processing"] != "none").any():
        cells["post-processing"] = table["post_processing"].tolist()
    for metric in metrics:
        arrow = "\N{DOWNWARDS ARROW}" if metric in ("MdR", "MnR") else "\N{UPWARDS ARROW}"
        edges = zip(table[metric], table[f"{metric}_low"], table[f"{metric}_high"], strict=True)
        cells[f"{metric} {arrow}"] = [describe(*values) for values in edges]
    spread = zip(table["R@1_sd"], table["seeds"], strict=True)
    cells["R@1 over seeds"] = [None if pd.isna(sd) else f"sd {sd:.1f}, n = {n}" for sd, n in spread]
    return pd.DataFrame(cells)


def reported(table: pd.DataFrame, direction: str, split: str = "test") -> pd.DataFrame:
    """The rows of `summary` that are the study's results: selected on validation, without post-processing."""
    kept = ~table["selection"].isin(OTHER_EPOCHS) & (table["post_processing"] == "none")
    return table[(table["split"] == split) & (table["direction"] == direction) & kept]

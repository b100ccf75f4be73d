"""Results: one row per run with what its numbers depend on, and the tables of means and intervals made of them."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from glscl.metrics import DEPTH, RECALLS, intervals, per_query, summarise
from glscl.postprocessing import dual_softmax, normalised, qb_norm
from glscl.scoring import similarity_matrix
from glscl.splits import Split
from glscl.statistics import paired_difference

METRICS = [*(f"R@{k}" for k in RECALLS), "MdR", "MnR", f"mAP@{DEPTH}"]
DIRECTIONS = ("t2v", "v2t")
LEAK = "released evaluation (leaks)"
POST_PROCESSING = {
    "QB-Norm (inductive)": lambda scores, bank, scale: qb_norm(scores, bank, beta=scale),
    "NCL bias (inductive)": normalised,
    "dual softmax (transductive)": lambda scores, bank, scale: dual_softmax(scores, beta=scale),
}
ON_TEST = "best R@1 on the test split, as published"
OTHER_EPOCHS = {"last": "last epoch", ON_TEST: "selected on test"}
SELECTION_RULE = "best mean recall on the validation split, once per epoch"


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


def evaluate(model, split: Split) -> dict[str, dict[str, np.ndarray]]:
    """Ranks of every query of a split, both directions; each text and video is encoded once."""
    return per_query(similarity_matrix(model, *split.encode(model)).numpy(), split.video_of_text.numpy())


def post_processed(model, data: Split, test: Split, scores, bank_size: int) -> dict[str, dict]:
    """What `per_query` gives for the scores (texts, videos) of the test split after each of `POST_PROCESSING`.

    The bank of training queries holds `bank_size` videos of the split `data` at most, with one caption each: their
    captions for text to video, the videos for video to text, scored by the same model with the test items. The inverse
    temperature is the model's own, exp(logit_scale).
    """
    bank_texts, bank_videos = data.sample(bank_size).encode(model)
    texts, videos = test.encode(model)
    sides = {
        "t2v": (np.asarray(scores), similarity_matrix(model, bank_texts, videos).numpy()),
        "v2t": (np.asarray(scores).T, similarity_matrix(model, texts, bank_videos).numpy().T),
    }
    scale, right = model.head.logit_scale.exp().clamp(max=100).item(), test.video_of_text.numpy()
    found = {}
    for name, process in POST_PROCESSING.items():
        t2v, v2t = (process(own, bank, scale) for own, bank in sides.values())
        found[name] = {"t2v": per_query(t2v, right)["t2v"], "v2t": per_query(v2t.T, right)["v2t"]}
    return found


def rows(runs: list[Run], splits: dict[str, Split], **about) -> pd.DataFrame:
    """One row per run and direction: metrics, counts, and `about`, which holds for all of them."""
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
    and `_high`; the interval is over queries.
    """
    table = []
    kinds = dict.fromkeys((run.name, run.split, run.selection, run.processing) for run in runs)
    for name, split, selection, processing in kinds:
        kind = name, split, selection, processing
        same = [r.queries for r in runs if (r.name, r.split, r.selection, r.processing) == kind]
        for direction in DIRECTIONS:
            queries = [found[direction] for found in same]
            metrics, edges = pd.DataFrame(map(summarise, queries)), intervals(queries)
            row = dict(zip(("method", "split", "selection", "post_processing"), kind, strict=True))
            row |= {"direction": direction, "seeds": len(same)}
            for metric in METRICS:
                sd = metrics[metric].std(ddof=1) if len(same) > 1 else None
                row |= {metric: metrics[metric].mean(), f"{metric}_sd": sd}
                row |= dict(zip((f"{metric}_low", f"{metric}_high"), edges[metric], strict=True))
            table.append(row)
    return pd.DataFrame(table).round(4)


def difference(runs: list[Run], one: str, other: str, metric: str = "R@1") -> dict:
    """`paired_difference` of two methods in text-to-video recall on the test split, in points."""
    k = int(metric.removeprefix("R@"))
    found = {
        name: [
            run.queries["t2v"]
            for run in runs
            if run[:2] == (name, "test") and (run.selection, run.processing) == ("selected", "none")
        ]
        for name in (one, other)
    }
    hits = ([100.0 * (queries["rank"] <= k - 1) for queries in found[name]] for name in (one, other))
    return paired_difference(*hits, found[one][0]["group"])


def describe(value: float, low: float | None = None, high: float | None = None) -> str:
    """`43.1 [41.0, 45.2]`, or the value alone where there is no interval."""
    return f"{value:.1f}" if low is None or pd.isna(low) else f"{value:.1f} [{low:.1f}, {high:.1f}]"


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

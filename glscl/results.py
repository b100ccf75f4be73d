"""Results: one row per run with what its numbers depend on, and the tables of means and intervals made of them."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import yaml

from glscl.metrics import DEPTH, RECALLS, bootstrap, intervals, per_query, summarise
from glscl.scoring import similarity_matrix
from glscl.splits import Split
from glscl.stage import write_text

METRICS = [*(f"R@{k}" for k in RECALLS), "MdR", "MnR", f"mAP@{DEPTH}"]
DIRECTIONS = ("t2v", "v2t")
SELECTION_RULE = "best mean recall on the validation split, once per epoch"


class Run(NamedTuple):
    """One evaluated row: its name, split, seed (None without one), selection rule, and `metrics.per_query`."""

    name: str
    split: str
    seed: int | None
    selection: str
    queries: dict[str, dict[str, np.ndarray]]


def evaluate(model, split: Split) -> dict[str, dict[str, np.ndarray]]:
    """Ranks of every query of a split, both directions; each text and video is encoded once."""
    texts, videos = split.encode(model)
    return per_query(similarity_matrix(model, texts, videos).numpy(), split.video_of_text.numpy())


def rows(runs: list[Run], splits: dict[str, Split], **about) -> pd.DataFrame:
    """One row per run and direction: metrics, counts, and `about`, which holds for all of them."""
    table = []
    for run in runs:
        size = {"texts": len(splits[run.split]), "videos": len(splits[run.split].videos)}
        for direction in DIRECTIONS:
            row = {"method": run.name, "split": run.split, "direction": direction, "seed": run.seed}
            row |= {"selection": run.selection, **size, **about, "ties": "mid", "post_processing": "none"}
            table.append(row | summarise(run.queries[direction]))
    return pd.DataFrame(table).astype({"seed": "Int64"}).round(4)


def summary(runs: list[Run]) -> pd.DataFrame:
    """One row per method, split, selection and direction: mean and sd over seeds, 95 % interval over queries.

    Columns: method, split, selection, direction, seeds, and for every metric its mean, `_sd`, `_low` and `_high`.
    """
    table = []
    for name, split, selection in dict.fromkeys((run.name, run.split, run.selection) for run in runs):
        same = [run.queries for run in runs if (run.name, run.split, run.selection) == (name, split, selection)]
        for direction in DIRECTIONS:
            queries = [found[direction] for found in same]
            metrics, edges = pd.DataFrame(map(summarise, queries)), intervals(queries)
            row = {"method": name, "split": split, "selection": selection, "direction": direction, "seeds": len(same)}
            for metric in METRICS:
                sd = metrics[metric].std(ddof=1) if len(same) > 1 else None
                row |= {metric: metrics[metric].mean(), f"{metric}_sd": sd}
                row |= dict(zip((f"{metric}_low", f"{metric}_high"), edges[metric], strict=True))
            table.append(row)
    return pd.DataFrame(table).round(4)


def difference(runs: list[Run], one: str, other: str, metric: str = "R@1") -> dict:
    """Paired difference of text-to-video recall on the test split, in points, and its 95 % interval.

    Every query is compared with itself under both methods, seed by seed; the interval resamples queries alone, so it
    holds for new queries and not for new training runs. `seeds` has the difference of each seed.
    """
    k = int(metric.removeprefix("R@"))
    queries = {
        name: [run.queries["t2v"] for run in runs if run[:2] == (name, "test") and run.selection == "selected"]
        for name in (one, other)
    }
    hits = {name: np.stack([found["rank"] <= k - 1 for found in runs]).astype(float) for name, runs in queries.items()}
    points = 100 * (hits[one] - hits[other])  # (seeds, queries)
    low, high = bootstrap(points, queries[one][0]["group"])
    return {"difference": float(points.mean()), "low": low, "high": high, "seeds": points.mean(1).tolist()}


def describe(value: float, low: float | None = None, high: float | None = None) -> str:
    """`43.1 [41.0, 45.2]`, or the value alone where there is no interval."""
    return f"{value:.1f}" if low is None or pd.isna(low) else f"{value:.1f} [{low:.1f}, {high:.1f}]"


def shown(table: pd.DataFrame, metrics: list[str] = METRICS) -> pd.DataFrame:
    """What a reader sees of `summary`: intervals beside means, arrows that say where better lies, spread over seeds."""
    cells = {
        "method": [
            n if s != "last" else f"{n}, last epoch" for n, s in zip(table["method"], table["selection"], strict=True)
        ]
    }
    for metric in metrics:
        arrow = "\N{DOWNWARDS ARROW}" if metric in ("MdR", "MnR") else "\N{UPWARDS ARROW}"
        edges = zip(table[metric], table[f"{metric}_low"], table[f"{metric}_high"], strict=True)
        cells[f"{metric} {arrow}"] = [describe(*values) for values in edges]
    spread = zip(table["R@1_sd"], table["seeds"], strict=True)
    cells["R@1 over seeds"] = [None if pd.isna(sd) else f"sd {sd:.1f}, n = {n}" for sd, n in spread]
    return pd.DataFrame(cells)


def main_table(folder: str | Path, datasets: list[str]) -> pd.DataFrame:
    """Text-to-video results of all datasets, from `results/<dataset>/table.csv`, as a reader sees them."""
    parts = []
    for dataset in datasets:
        table = pd.read_csv(Path(folder) / dataset / "table.csv")
        chosen = table[(table["split"] == "test") & (table["direction"] == "t2v") & (table["selection"] != "last")]
        counts = json.loads((Path(folder) / dataset / "data.json").read_text())["splits"]["test"]
        corpus = f"{dataset}, {counts['captions']:,} texts, {counts['videos']:,} videos"
        parts.append(shown(chosen, ["R@1", "R@5", "R@10", "MdR"]).assign(corpus=corpus))
    joined = pd.concat(parts)
    return joined[["corpus", *joined.columns.drop("corpus")]]


def findings(folder: str | Path, datasets: list[str]) -> list[str]:
    """One sentence per dataset and question that the committed results answer."""
    sentences = []
    for dataset in datasets:
        gains = json.loads((Path(folder) / dataset / "metrics.json").read_text())["glscl_minus_mean_pooling"]
        points = {m: describe(gain["difference"], gain["low"], gain["high"]) for m, gain in gains.items()}
        if points:
            sentences.append(
                f"On {dataset}, GLSCL minus mean pooling with the same temporal encoder is {points['R@1']} points of "
                f"text-to-video R@1 and {points['R@10']} of R@10, the same queries under both."
            )
        file = Path(folder) / dataset / "concepts.json"
        if file.exists():
            found = json.loads(file.read_text())
            mean = found["mean"]
            sentences.append(
                f"There the {found['concepts']} concepts of a video span {mean['rank_video']:.1f} directions and those "
                f"of a text {mean['rank_text']:.1f} (effective rank), and matching concepts have cosine "
                f"{mean['matched']:.2f}; the released loss asks for {found['asked']['matched_released']:.2f}."
            )
    return sentences


MARKS = "<!-- results: made by `make readme` -->", "<!-- end of results -->"


def with_results(readme: str, folder: str | Path, datasets: list[str]) -> str:
    """The README with the table and the findings between its two marks made anew from the results."""
    table = main_table(folder, datasets)
    lines = [table.columns, ["---"] * len(table.columns), *table.fillna("").itertuples(index=False)]
    body = "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
    body += "\n\n" + "\n".join(f"* {sentence}" for sentence in findings(folder, datasets))
    if not all(mark in readme for mark in MARKS):
        raise ValueError(f"README.md must hold the marks {MARKS[0]} and {MARKS[1]}, got none; put them back.")
    before, rest = readme.split(MARKS[0])
    return f"{before}{MARKS[0]}\n{body}\n{MARKS[1]}{rest.split(MARKS[1])[1]}"


if __name__ == "__main__":
    study = yaml.safe_load(Path("params.yaml").read_text())["study"]
    write_text(Path("README.md"), with_results(Path("README.md").read_text(), "results", study["datasets"]))

"""Question 1: T-MASS against CLIP and cross-encoders in mAP@10 and recall@K, from what the evaluate stage wrote."""

import json
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from glscl.evaluation.comparisons import (
    ZERO_SHOT,
    points,
    rank_matrix,
    rivals_of,
    text_to_video_differences,
    verdict_counts,
)
from glscl.evaluation.results import DIRECTIONS, LEAK, describe, edges, reported, shown
from glscl.report.figures.common import forest
from glscl.report.names import name_of
from glscl.report.page import p_value
from glscl.report.tables import best, results_html
from glscl.study.project import Folders
from glscl.study.published import BENCHMARKS, benchmark_of, published

METRICS = ["mAP@10", "R@1", "R@5", "R@10"]
ASKED = ("activitynet", "charades_sta", "charades")  # the question's two benchmarks, and what is published as Charades
LEVEL = 0.05  # of a p-value after Holm's correction


class Results(NamedTuple):
    """What the question is answered from.

    table, rows, ranks, metrics: see `glscl.study.evaluation`. captions: of the test split. papers: see
    `glscl.study.published.published`. backbone: how CLIP is used. methods: trained ones. seeds: of each.
    """

    dataset: str
    backbone: str
    methods: list[str]
    seeds: list[int]
    table: pd.DataFrame
    rows: pd.DataFrame
    ranks: pd.DataFrame
    metrics: dict
    captions: pd.DataFrame
    papers: pd.DataFrame

    @classmethod
    def read(
        cls, folders: Folders, dataset: str, backbone: str, methods: list[str], seeds: list[int], papers: str | Path
    ) -> "Results":
        """Read what the evaluate stage wrote for these methods and seeds, and the published rows in `papers`."""
        rows = pd.read_csv(folders.results / "rows.csv")
        captions = pd.read_parquet(folders.corpus / "captions.parquet")
        return cls(
            dataset,
            backbone,
            methods,
            seeds,
            pd.read_csv(folders.results / "table.csv"),
            rows[(rows["split"] == "test") & (rows["post_processing"] == "none")],
            pd.read_parquet(folders.work / "ranks.parquet"),
            json.loads((folders.results / "metrics.json").read_text(encoding="utf-8")),
            captions[captions["split"] == "test"],
            published(papers),
        )


def compare(results: Results) -> dict:
    """What benchmarks.json holds: every comparison of the question, the answer and its details."""
    table, captions, layers = results.table, results.captions, results.metrics["temporal_layers"]
    scope = {"dataset": results.dataset, "texts": len(captions), "videos": int(captions["video"].nunique())}
    scope |= {"missing": int(results.rows["missing"].max()), "seeds": results.seeds if results.methods else []}
    benchmark = benchmark_of(results.dataset, scope["videos"], results.backbone)
    scope |= {"methods": results.methods, "split": "test", "benchmark": benchmark}

    reports = {direction: reported(table, direction).set_index("method") for direction in DIRECTIONS}
    own = reports["t2v"]
    heads = [method for method in [*results.methods, ZERO_SHOT] if method in own.index]
    rows = {method: {direction: {} for direction in DIRECTIONS} for method in heads}
    for method, direction, metric in product(heads, DIRECTIONS, METRICS):
        row = reports[direction].loc[method]
        low, high = edges(row, metric)
        rows[method][direction][metric] = {"mean": row[metric], "low": low, "high": high}

    group = captions["video"].to_numpy()
    pairs = rivals_of(heads, layers)
    found = text_to_video_differences(results.ranks, [(one, other) for other, one in pairs.items()], group, METRICS)
    minus = {
        other: difference | {"minus": one, "same_temporal_encoder": layers[one] == layers.get(other, 0)}
        for (other, one), difference in zip(pairs.items(), found, strict=True)
    }
    trained = results.methods if ZERO_SHOT in heads else []
    over = text_to_video_differences(results.ranks, [(m, ZERO_SHOT) for m in trained], group, ["mAP@10", "R@1"])

    leaking = table[(table["split"] == "test") & (table["direction"] == "t2v") & (table["post_processing"] == LEAK)]
    leaking = leaking[leaking["method"].isin(pairs.values())].set_index("method")
    leaks = {
        method: {metric: row[metric] - own.loc[method, metric] for metric in METRICS}
        for method, row in leaking.iterrows()
    }
    of_mass = results.papers[results.papers["method"].str.startswith("T-MASS") & (results.papers["direction"] == "t2v")]
    by_benchmark = {name: of_mass.loc[of_mass["dataset"] == name, "leak"] == "yes" for name in named(results.dataset)}

    content = {
        "scope": scope,
        "rows": rows,
        "t_mass_minus": minus,
        "over_zero_shot": dict(zip(trained, over, strict=True)),
        "cross_encoders": cross_encoders(results),
        "leak": leaks,
        "published_t_mass": {name: {"rows": len(leak), "leak": int(leak.sum())} for name, leak in by_benchmark.items()},
    }
    said, details = answer(content)
    return {"answer": said, "details": details} | content


def named(dataset: str) -> list[str]:
    """Benchmarks whose published rows are shown: those of the question, and the corpus at hand where it is one."""
    return list(dict.fromkeys(BENCHMARKS[name] for name in (*ASKED, dataset) if name in BENCHMARKS))


def cross_encoders(results: Results) -> dict[str, dict]:
    """Did each cross-encoder learn? {method: {"R@1", "random", "first_R@1", "depth", "first_stage", "learned"}}.

    random: R@1, in percent, of a random order of the candidates, which is the share of texts whose video the first
    stage has among its best `depth`, divided by `depth`. It learned where it is above its control, the first stage.
    """
    re_ranking = results.metrics["reranking"]
    depth, first_stage, found = re_ranking["depth"], re_ranking["first_stage"], {}
    for method in re_ranking["methods"]:
        recall = points(rank_matrix(results.ranks, method), "R@1").mean()
        first = rank_matrix(results.ranks, first_stage)
        about = {"R@1": float(recall), "random": float(points(first, f"R@{depth}").mean() / depth)}
        about |= {"first_R@1": float(points(first, "R@1").mean()), "depth": depth, "first_stage": first_stage}
        found[method] = about | {"learned": method not in results.metrics["did_not_train"]}
    return found


def answer(found: dict) -> tuple[str, list[str]]:
    """The answer to the question and its details, at most 25 words each, from what `compare` found.

    The answer speaks of the T-MASS that zero-shot CLIP is compared with. A cross-encoder that did not train is called
    so, and no gain over it is counted in the answer.
    """
    scope, minus, rows = found["scope"], found["t_mass_minus"], found["rows"]
    dataset = scope["dataset"]
    published_rows = ", ".join(
        f"{name} {one['rows']}" + (f" ({one['leak']} by a leaking evaluation)" if one["leak"] else "")
        for name, one in found["published_t_mass"].items()
    )
    last = [f"Published rows of T-MASS: {published_rows}; none has mAP@10."]
    if scope["benchmark"] == "none":
        last.append(
            f"The corpus, {dataset}, is no benchmark: the answer says nothing of ActivityNet Captions or Charades-STA."
        )
    if not minus:
        return f"On {dataset}, T-MASS was not trained, so the question stays open.", last

    members = list(dict.fromkeys(one["minus"] for one in minus.values()))
    leader = max(members, key=lambda name: rows[name]["t2v"]["mAP@10"]["mean"])
    subject = minus[ZERO_SHOT]["minus"] if ZERO_SHOT in minus else leader
    own = rows[subject]["t2v"]
    where = dataset if scope["benchmark"] == "none" else scope["benchmark"]
    crosses = found["cross_encoders"]
    learned = [name for name, one in crosses.items() if one["learned"] and name in minus]
    learned.sort(key=lambda name: minus[name]["minus"] != subject)
    compared = [("zero-shot CLIP", minus[ZERO_SHOT])] if ZERO_SHOT in minus else []
    compared += [("the cross-encoder", minus[learned[0]])] if learned else []
    clauses = _relations([(name, one["mAP@10"]) for name, one in compared])
    failed = f"; the cross-encoder{'s' * (len(crosses) > 1)} did not train" if crosses and not learned else ""
    said = (
        f"{asked_and_published(found['published_t_mass'])} On {where}, T-MASS reaches mAP@10 "
        f"{own['mAP@10']['mean']:.1f}" + (f", {clauses}" if clauses else "") + f"{failed}."
    )
    return said, _details(found, members, subject) + last


def asked_and_published(published_rows: dict[str, dict]) -> str:
    """How many published rows of T-MASS are at hand on the two benchmarks of the question, in a sentence."""
    counts = {name: published_rows.get(name, {"rows": 0})["rows"] for name in ("ActivityNet", "Charades-STA")}
    if not any(counts.values()):
        return "On ActivityNet and Charades-STA: no published row."
    return f"Published rows: {', '.join(f'{name} {count}' for name, count in counts.items())}."


def _relations(compared: list[tuple[str, dict]]) -> str:
    """How T-MASS lies to others in mAP@10: points above or below where that is significant, Holm, 5 %."""
    same, apart = [], []
    for name, effect in compared:
        if effect["p_holm"] >= LEVEL:
            same.append(name)
        else:
            unit = "" if apart else " points"
            side = "above" if effect["difference"] > 0 else "below"
            apart.append(f"{abs(effect['difference']):.1f}{unit} {side} {name}")
    return " and ".join(apart + ([f"not told apart from {' or '.join(same)}"] if same else []))


def _details(found: dict, members: list[str], subject: str) -> list[str]:
    scope, minus, rows, crosses = (found[name] for name in ("scope", "t_mass_minus", "rows", "cross_encoders"))
    said = [f"Measured on {scope['texts']:,} texts and {scope['videos']:,} videos of the test split, "]
    said[0] += f"{len(scope['seeds'])} seeds; "
    said[0] += "intervals are over queries and seeds." if scope["videos"] > 1 else "one video gives no interval."
    for name in members:
        cells = [f"{m} {describe(*(rows[name]['t2v'][m][part] for part in ('mean', 'low', 'high')))}" for m in METRICS]
        said.append(f"{name_of(name)} reaches {', '.join(cells)}.")
    for other in [name for name in minus if name == ZERO_SHOT or crosses.get(name, {}).get("learned")]:
        cells = [f"{describe(*_effect(minus[other][metric]))} in {metric}" for metric in ("mAP@10", "R@1")]
        said.append(f"{name_of(minus[other]['minus'])} minus {name_of(other)}: {', '.join(cells)}.")
    for name, one in crosses.items():
        if not one["learned"]:
            said.append(
                f"{name_of(name)} did not train: R@1 is {one['R@1']:.1f}, that of its first stage "
                f"{one['first_R@1']:.1f}, of a random order of its {one['depth']} candidates {one['random']:.1f}."
            )
    above, below, equal = verdict_counts([one["mAP@10"] for one in minus.values()])
    said.append(
        f"Of {len(minus)} others T-MASS is above {above}, below {below} and not significantly different from "
        f"{equal} in mAP@10 (paired, Holm)."
    )
    if leak := found["leak"].get(subject):
        said.append(
            f"T-MASS is scored without the caption leak of its released evaluation, which would add {leak['R@1']:.1f} "
            "points of R@1."
        )
    return said


def _effect(found: dict) -> tuple[float, float, float]:
    return found["difference"], found["low"], found["high"]


def size(scope: dict) -> str:
    """What a caption says of the sample."""
    return f"{scope['texts']:,} texts, {scope['videos']:,} videos of the test split, seeds {scope['seeds']}"


def nothing(scope: dict) -> str:
    """What stands where a table or figure would be empty."""
    return f"<p>{scope['dataset']}: T-MASS was not trained, so there is nothing to compare.</p>"


def minus_figure(found: dict) -> go.Figure:
    """T-MASS minus each other head in mAP@10; where it was not trained, mAP@10 of every row."""
    minus = {other: one["mAP@10"] for other, one in found["t_mass_minus"].items()}
    if minus:
        drawn = [dict(zip(("name", "value", "low", "high"), (n, *_effect(e)), strict=True)) for n, e in minus.items()]
        return forest(pd.DataFrame(drawn), "T-MASS minus the head, mAP@10, points")
    drawn = [{"name": name, **of["t2v"]["mAP@10"]} for name, of in found["rows"].items()]
    drawn = pd.DataFrame(drawn, columns=["name", "mean", "low", "high"]).rename(columns={"mean": "value"})
    return forest(drawn, "text-to-video mAP@10, %")


def results_table(results: Results, found: dict, direction: str) -> str:
    """HTML of all rows that are results; the best trained head under the same temporal encoder is bold."""
    kind = {"t2v": "Text to video", "v2t": "Video to text"}[direction]
    cells = shown(reported(results.table, direction), METRICS)
    return results_html(cells, f"{kind}, {size(found['scope'])}", best(cells))


def minus_table(found: dict) -> str:
    """HTML of T-MASS minus each other head, paired."""
    listed = []
    for other, one in found["t_mass_minus"].items():
        alike = "the same" if one["same_temporal_encoder"] else "another"
        row = {"other head": other, "T-MASS": one["minus"], "temporal encoder": alike} | _cells(one)
        listed.append(row | {"detectable, mAP@10": describe(one["mAP@10"]["detectable"])})
    return results_html(pd.DataFrame(listed), size(found["scope"])) if listed else nothing(found["scope"])


def _cells(one: dict) -> dict[str, str]:
    cells = {}
    for metric in ("mAP@10", "R@1"):
        cells[metric] = describe(*_effect(one[metric]))
        cells[f"p, {metric}"] = p_value(one[metric]["p_holm"])
    return cells


def seeds_table(found: dict) -> str:
    """HTML of McNemar's p-values, one column per seed."""
    seeds = found["scope"]["seeds"]
    listed = [
        {"other head": other} | {f"seed {seed}": p_value(p) for seed, p in zip(seeds, one["mcnemar"], strict=True)}
        for other, one in found["t_mass_minus"].items()
    ]
    return results_html(pd.DataFrame(listed), size(found["scope"])) if listed else nothing(found["scope"])


def over_clip_table(found: dict) -> str:
    """HTML of each trained head minus zero-shot CLIP."""
    listed = [{"head": name} | _cells(one) for name, one in found["over_zero_shot"].items()]
    absent = f"<p>{found['scope']['dataset']}: no head was trained over a pre-trained CLIP.</p>"
    return results_html(pd.DataFrame(listed), size(found["scope"])) if listed else absent


def cross_encoder_table(found: dict) -> str:
    """HTML of each cross-encoder's R@1 beside those of its first stage and of a random order of its candidates."""
    listed = [
        {"method": name, "R@1": f"{one['R@1']:.1f}", "of its first stage": f"{one['first_R@1']:.1f}"}
        | {"of a random order": f"{one['random']:.1f}", "candidates": f"{one['depth']} of {one['first_stage']}"}
        | {"trained": "yes" if one["learned"] else "did not train"}
        for name, one in found["cross_encoders"].items()
    ]
    absent = f"<p>{found['scope']['dataset']}: no cross-encoder was trained.</p>"
    return results_html(pd.DataFrame(listed), size(found["scope"])) if listed else absent


def processed_table(results: Results, found: dict) -> str:
    """HTML of T-MASS under its released evaluation and after post-processing."""
    table = results.table[(results.table["split"] == "test") & (results.table["direction"] == "t2v")]
    members = {one["minus"] for one in found["t_mass_minus"].values()}
    kept = table[(table["post_processing"] != "none") & table["method"].isin(members)]
    return results_html(shown(kept, METRICS), size(found["scope"])) if len(kept) else nothing(found["scope"])


def published_tables(papers: pd.DataFrame, benchmarks: list[str]) -> str:
    """HTML of the published rows of each benchmark; the best unmarked row of a backbone is bold."""
    numbers, parts = {"r1": "R@1", "r5": "R@5", "r10": "R@10"}, []
    columns = ["method", "year", "backbone", *numbers.values(), "leak", "post_processed", "source"]
    for benchmark in benchmarks:
        there = papers[(papers["dataset"] == benchmark) & (papers["direction"] == "t2v")].rename(columns=numbers)
        if there.empty:
            parts.append(f"<p>{benchmark}: no published row of text-to-video retrieval is at hand.</p>")
            continue
        there = there.sort_values("R@1", ascending=False)
        unmarked = there[(there["leak"] == "no") & ~there["post_processed"]]
        highest = there["backbone"].map(unmarked.groupby("backbone")["R@1"].max())
        top = there["R@1"].eq(highest) & there.index.isin(unmarked.index)
        bold = pd.DataFrame({name: top & (name == "R@1") for name in columns})
        marked = there[columns].replace({"post_processed": {True: "yes", False: "no"}})
        parts.append(results_html(marked, f"{benchmark}, text to video, {len(there)} published rows", bold))
    return "\n".join(parts)

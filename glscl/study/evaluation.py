"""The evaluate stage: results of every trained model and reference row, their tables, figure and answer."""

import json
import time
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from IPython.display import HTML

from glscl.bundled.headroom import LEAST
from glscl.bundled.oracle import KINDS
from glscl.data.dataset import PreparedCorpus, Split
from glscl.evaluation.baselines import chance, oracle
from glscl.evaluation.comparisons import ZERO_SHOT, verdict_counts
from glscl.evaluation.reranking import rerank_table
from glscl.evaluation.results import (
    DIRECTIONS,
    METRICS,
    OTHER_EPOCHS,
    SELECTION_RULE,
    Run,
    describe,
    differences,
    rank_table,
    reported,
    rows,
    shown,
    summary,
)
from glscl.evaluation.statistics import correct_family, not_above
from glscl.evaluation.twins import twin_table
from glscl.files import write_json, write_table
from glscl.metrics import expected_recalls
from glscl.report.figures.common import forest
from glscl.report.figures.evaluation import recalls, twins
from glscl.report.names import name_of
from glscl.report.page import p_value
from glscl.report.tables import results_html
from glscl.study.evaluated_models import OWN, RIDGE, Evaluated, Galleries, evaluate_models, reference_runs
from glscl.study.project import Folders, commit, hardware

COMPARED = ["R@1", "R@5", "R@10"]  # of GLSCL minus each method
SHOWN = ["R@1", "R@5", "R@10", "MdR", "mAP@10"]  # what fits a page; table.csv has R@50 and the mean rank too


class Evaluation(NamedTuple):
    """What the stage found.

    runs: one per method, split, seed, selection and post-processing. ranks: one row per query of those that are
    results. table: means over seeds with intervals, and chance. rows: one per run and direction. metrics: what
    `metrics.json` holds. measured: what depends on the machine.
    """

    runs: list[Run]
    ranks: pd.DataFrame
    table: pd.DataFrame
    rows: pd.DataFrame
    metrics: dict
    measured: dict

    @property
    def sizes(self) -> dict[str, str]:
        """Texts and videos of each test split, in words."""
        counts = self.rows.drop_duplicates("split")[["split", "texts", "videos"]].itertuples(index=False)
        return {split: f"{texts:,} texts, {videos:,} videos" for split, texts, videos in counts}

    @property
    def logit_scales(self) -> str:
        """The inverse temperatures of the trained heads, in words."""
        scales = sorted(self.rows["logit_scale"].dropna().unique())
        return " to ".join(f"{scale:g}" for scale in dict.fromkeys((scales[0], scales[-1]))) if scales else "none"

    @property
    def missing(self) -> int:
        """Videos of the corpus that are absent or unreadable."""
        return int(self.rows["missing"].iloc[0])

    def write(self, folders: Folders) -> None:
        """Write rows.csv, table.csv and metrics.json, the ranks of every query, and what was measured."""
        write_table(folders.results / "rows.csv", self.rows)
        write_table(folders.results / "table.csv", self.table.round(4))
        write_json(folders.results / "metrics.json", self.metrics)
        write_table(folders.work / "ranks.parquet", self.ranks)
        write_json(folders.measured / "evaluate.json", self.measured)


def evaluate_study(
    folders: Folders,
    dataset: str,
    corpus: dict,
    inputs: dict,
    methods: list[str],
    seeds: list[int],
    first_stage: str,
    rerank_depth: int,
    bank_size: int,
) -> Evaluation:
    """Evaluate the trained models of `folders` and the reference rows on the test splits of a prepared corpus.

    corpus, inputs: sections of params.yaml. first_stage: the method that ranks the gallery for the cross-encoder, which
    re-ranks the best `rerank_depth` videos of each text. bank_size: training videos, and one caption of each, that
    post-processing looks at. Raises ValueError where there is a cross-encoder and no first stage.
    """
    start = time.perf_counter()
    trained = {method: _json(folders.work / "train" / method / "settings.json") for method in methods}
    require_first_stage(trained, first_stage)
    prepared = PreparedCorpus.open(folders.corpus, inputs["clip"], inputs["backbone"], inputs["words"])
    splits = {name: prepared.split(name) for name in prepared.captions["split"].unique()}
    galleries = Galleries(splits, splits["train"].sample(bank_size) if methods else None, rerank_depth)

    found = evaluate_models(folders.work / "train", prepared, galleries, methods, seeds, first_stage)
    models = found.values()
    runs = [run for one in models for run in one.runs] + [run for one in models for run in one.epochs]
    source = Path(corpus["folder"]) if "folder" in corpus else None
    runs += reference_runs(prepared, galleries, source)
    runs += [run for one in models for run in one.processed]

    layers = {method: settings["model"]["temporal_layers"] for method, settings in trained.items()}
    table = full_table(runs, galleries, layers)
    others = [method for method in methods if method != OWN] if OWN in methods else []
    data = _json(folders.described / "data.json")
    over_control = over_controls(runs, {m: control_of(settings, first_stage) for m, settings in trained.items()})
    metrics = {
        "methods": _by_method(table),
        "glscl_minus": differences(runs, OWN, others, COMPARED),
        "over_control": over_control,
        "did_not_train": [method for method, gain in over_control.items() if not_above(gain)],
        "ceilings": data.get("ceilings") or oracle_ceilings(source, splits["test"]),
        "twins": twins_of(found, methods, seeds, galleries),
        "temporal_layers": layers,
        "added": added(table),
        "half_precision": {f"{name}, {dtype}": one for (name, _), e in found.items() for dtype, one in e.half.items()},
        "reranking": {
            "first_stage": first_stage,
            "depth": min(rerank_depth, len(splits["test"].videos)),
            "methods": re_ranked(found, splits["test"]),
        },
    }
    counts = {"texts": len(splits["test"]), "videos": len(splits["test"].videos), "seeds": len(seeds)}
    metrics["answer"], metrics["details"] = answer(dataset, table, metrics["glscl_minus"], layers, **counts)

    about = {"dataset": dataset, "partition": corpus.get("partition", "")}
    about |= {name: inputs[name] for name in ("frames", "words")}
    about |= {name: data[name] for name in ("missing", "sampling", "offsets", "quality")}
    every = rows(runs, splits, **about, backbone=inputs["backbone"], selection_rule=SELECTION_RULE)
    every["batch"] = every["method"].map({name: settings["train"]["batch_size"] for name, settings in trained.items()})
    every["variant"] = every["method"].map({name: each["model"].get("variant") for name, each in trained.items()})
    every["temporal_layers"] = every["method"].map(layers)
    scales = {key: round(one.logit_scale, 2) for key, one in found.items()}
    every["logit_scale"] = [scales.get(key) for key in zip(every["method"], every["seed"], strict=True)]

    seconds = {method: sum(found[method, seed].seconds for seed in seeds) for method in methods}
    measured = {"commit": commit(), "hardware": hardware()}
    measured |= {"seconds": time.perf_counter() - start, "seconds_of_methods": seconds}
    return Evaluation(runs, rank_table(runs, splits), table, every, metrics, measured)


def control_of(settings: dict, first_stage: str) -> str:
    """What a trained method must beat: the first stage for a re-ranker, else CLIP without training."""
    return first_stage if settings["method"] == "cross_encoder" else ZERO_SHOT


def over_controls(runs: list[Run], controls: dict[str, str]) -> dict[str, dict]:
    """Text-to-video R@1 of each method minus its control, as `paired_difference`, and `control`: {method: ...}.

    controls: {method: row that it must beat}. A method whose control was not evaluated is left out. P-values are
    corrected over all, `p_holm`.
    """
    known = {run.name for run in runs}
    chosen = {method: control for method, control in controls.items() if control in known}
    found = {
        method: differences(runs, method, [control], ["R@1"])[control]["R@1"] | {"control": control}
        for method, control in chosen.items()
    }
    correct_family(list(found.values()))
    return found


def oracle_ceilings(source: Path | None, test: Split) -> dict[str, dict[str, float]]:
    """R@1 and R@10, percent, of matchers that know every drawn event, ties broken at random; empty without their table.

    The table of results has the last of them as a row, `oracle`, with mid ranks like every row.
    """
    found = {}
    for kind in KINDS:
        if source and (scores := oracle(source, test, kind)) is not None:
            found[kind] = expected_recalls(scores, test.video_of_text.numpy())
    return found


def re_ranked(found: dict[tuple[str, int], Evaluated], test: Split) -> dict[str, dict[int, dict]]:
    """What each cross-encoder adds at every depth, `glscl.evaluation.reranking.rerank_table` by method."""
    reports: dict[str, list] = {}
    for (method, _), one in found.items():
        if one.by_depth:
            reports.setdefault(method, []).append(one.by_depth)
    group = test.captions["video"].to_numpy()
    return {method: rerank_table(each, group) for method, each in reports.items()}


def twins_of(
    found: dict[tuple[str, int], Evaluated], methods: list[str], seeds: list[int], galleries: Galleries
) -> dict[str, dict[str, dict]]:
    """How often each method prefers the true text to its twin, `twin_table` by method."""
    group = {kind: split.captions["video"].to_numpy() for kind, split in galleries.twins.items()}
    return {
        method: twin_table({kind: np.stack([found[method, s].twins[kind] for s in seeds]) for kind in group}, group)
        for method in methods
    }


def _json(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def _by_method(table: pd.DataFrame) -> dict[str, dict]:
    """The metrics of the rows that are results: {method: {direction: {metric: mean}}}."""
    found: dict[str, dict] = {}
    for direction in DIRECTIONS:
        for row in reported(table, direction).to_dict("records"):
            found.setdefault(row["method"], {})[direction] = {metric: row[metric] for metric in METRICS}
    return found


def require_first_stage(trained: dict[str, dict], first_stage: str) -> None:
    """Raise a ValueError where a cross-encoder was trained and the method that ranks its gallery was not.

    trained: settings by method, whose `method` names the head.
    """
    waiting = [name for name, settings in trained.items() if settings["method"] == "cross_encoder"]
    if waiting and first_stage not in trained:
        raise ValueError(
            f"{waiting[0]} re-ranks what evaluate.first_stage finds, {first_stage!r}, which is not among the methods "
            f"{', '.join(trained)}; add it to the methods of the profile in params.yaml, or name another one."
        )


def full_table(runs: list[Run], galleries: Galleries, layers: dict[str, int]) -> pd.DataFrame:
    """`glscl.evaluation.results.summary` with the temporal layers of each method, and rows of chance."""
    table = summary(runs)
    table["temporal_layers"] = table["method"].map(layers)
    by_chance = [
        {"method": "chance", "split": name, "selection": "none", "post_processing": "none"}
        | {"direction": direction, "seeds": 1}
        | chance(len(galleries.splits[name].videos))
        for name, direction in product(galleries.tests, DIRECTIONS)
        if direction == "t2v" or len(galleries.splits[name]) == len(galleries.splits[name].videos)
    ]
    return pd.concat([table, pd.DataFrame(by_chance)], ignore_index=True)


def _processed(table: pd.DataFrame) -> pd.DataFrame:
    """Text-to-video rows of the test split of methods that have post-processed rows, with the plain ones."""
    kept = (table["split"] == "test") & (table["direction"] == "t2v") & (table["selection"] == "selected")
    return table[kept & table["method"].isin(table.loc[kept & (table["post_processing"] != "none"), "method"])]


def added(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """What each post-processing adds in text-to-video R@1, points, over methods: {kind: {"mean", "min", "max"}}."""
    processed = _processed(table)
    plain = processed[processed["post_processing"] == "none"].set_index("method")["R@1"]
    gain = processed["R@1"] - processed["method"].map(plain).astype(float)
    over_methods = gain.groupby(processed["post_processing"]).agg(["mean", "min", "max"])
    return over_methods.drop(index="none", errors="ignore").round(2).T.to_dict()


def answer(
    dataset: str,
    table: pd.DataFrame,
    minus: dict[str, dict[str, dict]],
    layers: dict[str, int],
    texts: int,
    videos: int,
    seeds: int,
) -> tuple[str, list[str]]:
    """Does GLSCL find the right video more often? The answer and its details, at most 25 words each.

    minus: `differences` of GLSCL and the other methods. Without them the best method is named, or zero-shot CLIP.
    """
    found = reported(table, "t2v").set_index("method")

    def recall(method: str) -> str:
        return describe(*found.loc[method, ["R@1", "R@1_low", "R@1_high"]])

    trained = [method for method in found.index if method in layers]
    details = [
        f"Measured on {texts:,} texts and {videos:,} videos, "
        + (f"{seeds} seeds; R@1 is text to video, in percent." if trained else "without training.")
    ]
    if videos == 1:
        details.append("One video is always found first: nothing can be said of others, so there are no intervals.")
    if minus:
        alike = [method for method in minus if layers[method] == layers[OWN]]
        chosen, kind = (alike, "with its temporal encoder") if alike else (list(minus), "compared")
        above, below, equal = verdict_counts([minus[method]["R@1"] for method in chosen])
        said = (
            f"On {dataset}, GLSCL reaches R@1 {found.loc[OWN, 'R@1']:.1f}, above {above}, below {below} and not "
            f"significantly different from {equal} of {len(chosen)} heads {kind}."
        )
        details.append(f"R@1 of GLSCL is {recall(OWN)}, with a 95 % interval over queries and seeds.")
        best = max(chosen, key=lambda method: found.loc[method, "R@1"])
        difference = describe(*(minus[best]["R@1"][part] for part in ("difference", "low", "high")))
        details.append(
            f"The strongest of these heads is {name_of(best)}, {recall(best)}; GLSCL minus it is {difference} points."
        )
    elif trained:
        best = max(trained, key=lambda method: found.loc[method, "R@1"])
        said = f"On {dataset}, the best of {len(trained)} heads, {name_of(best)}, reaches R@1 {recall(best)}."
    elif ZERO_SHOT in found.index:
        said = f"On {dataset}, nothing was trained; zero-shot CLIP reaches R@1 {recall(ZERO_SHOT)}."
    else:
        said = f"On {dataset}, nothing was trained, and there is no pre-trained CLIP to evaluate."
    references = [name for name in ("chance", RIDGE, ZERO_SHOT, "oracle") if name in found.index]
    details.append("Reference rows: " + ", ".join(f"{name} {found.loc[name, 'R@1']:.1f}" for name in references) + ".")
    return said, details


BELOW_ORDERED, FEW = 5.0, 500
CEILINGS = {"bag": "bag of facts", "bound": "facts bound", "ordered": "bound and in order"}


def headroom(found: Evaluation) -> list[str]:
    """What is wrong with a corpus on which heads could hardly differ; empty where they can, or nothing is known.

    Untrained CLIP must lie `LEAST` points of R@1 below facts that are bound, and the best trained head
    `BELOW_ORDERED` below facts in order. Galleries below `FEW` videos are too easy to tell.
    """
    ceilings, recalls = found.metrics["ceilings"], found.metrics["methods"]
    videos = found.rows.loc[found.rows["split"] == "test", "videos"].max()
    if not ceilings or videos < FEW:
        return []
    trained = [recalls[method]["t2v"]["R@1"] for method in found.metrics["temporal_layers"]]
    limits = {"the best head": (max(trained, default=0.0), ceilings["ordered"]["R@1"] - BELOW_ORDERED)}
    if ZERO_SHOT in recalls:
        limits[ZERO_SHOT] = recalls[ZERO_SHOT]["t2v"]["R@1"], ceilings["bound"]["R@1"] - LEAST
    return [
        f"{name} has R@1 {value:.1f}, above {limit:.1f}" for name, (value, limit) in limits.items() if value > limit
    ]


def recall_figure(found: Evaluation) -> go.Figure:
    """Text-to-video R@1 of every trained method, between untrained CLIP and what could be reached."""
    table = reported(found.table, "t2v").set_index("method")
    trained = table[table["temporal_layers"].notna()] if table["temporal_layers"].notna().any() else table
    rows_ = pd.DataFrame(
        {"name": trained.index, "value": trained["R@1"], "low": trained["R@1_low"], "high": trained["R@1_high"]}
    ).reset_index(drop=True)
    lines = {ZERO_SHOT: table.loc[ZERO_SHOT, "R@1"]} if ZERO_SHOT in table.index else {}
    lines |= {CEILINGS[kind]: one["R@1"] for kind, one in found.metrics["ceilings"].items()}
    return recalls(rows_.assign(trained=~rows_["name"].isin(found.metrics["did_not_train"])), lines)


def twin_figure(found: Evaluation) -> go.Figure | HTML:
    """Accuracy of choosing the true text over its twin, or a sentence where the corpus has no twins."""
    kinds = {method: one for method, one in found.metrics["twins"].items() if one}
    return twins(kinds) if kinds else HTML("<p>This corpus has no twins, or nothing was trained.</p>")


def gain_figure(found: Evaluation) -> go.Figure:
    """GLSCL minus each method in text-to-video R@1; without such a pair, R@1 of every row."""
    gains = {method: gain["R@1"] for method, gain in found.metrics["glscl_minus"].items()}
    drawn = pd.DataFrame([{"name": name, "value": e["difference"], **_edges(e)} for name, e in gains.items()])
    if gains:
        return forest(drawn, "GLSCL minus the method, text-to-video R@1, points")
    rows_ = reported(found.table, "t2v")[["method", "R@1", "R@1_low", "R@1_high"]]
    return forest(rows_.set_axis(["name", "value", "low", "high"], axis=1), "text-to-video R@1, %")


def _edges(effect: dict) -> dict[str, float]:
    return {edge: effect[edge] for edge in ("low", "high")}


def _html(results: pd.DataFrame, absent: str) -> str:
    return results_html(results) if len(results) else f"<p>{absent}</p>"


def results_table(table: pd.DataFrame, direction: str, split: str = "test") -> str:
    """HTML of the rows that are results, of one direction and split, the highest R@1 first."""
    cells = shown(reported(table, direction, split).sort_values("R@1", ascending=False), SHOWN)
    cells["temporal encoder"] = cells.pop("temporal encoder")  # last, so that a phone shows numbers
    return _html(cells, "Every test video of this corpus has one caption.")


def gain_table(found: Evaluation) -> str:
    """HTML of GLSCL minus each method: recalls with intervals, p-value, detectable effect, each seed."""
    listed = []
    for method, gain in found.metrics["glscl_minus"].items():
        row = {"GLSCL minus": method}
        row |= {metric: describe(one["difference"], **_edges(one)) for metric, one in gain.items()}
        row |= {"p, R@1 (Holm)": p_value(gain["R@1"]["p_holm"]), "detectable, R@1": gain["R@1"]["detectable"]}
        listed.append(row | {"R@1 by seed": ", ".join(f"{points:+.1f}" for points in gain["R@1"]["seeds"])})
    return _html(pd.DataFrame(listed), "There are no two trained methods to compare, GLSCL among them.")


def epochs_table(table: pd.DataFrame) -> str:
    """HTML of the rows of other epochs than the selected one."""
    others = table[table["selection"].isin(OTHER_EPOCHS) & (table["direction"] == "t2v") & (table["split"] == "test")]
    return _html(shown(others, ["R@1", "R@5", "R@10", "MdR"]), "No method kept the weights of every epoch.")


def post_processing_table(table: pd.DataFrame) -> str:
    """HTML of R@1 after each post-processing, one row per method and the mean gain below."""
    processed = _processed(table)
    if processed.empty:
        return "<p>Nothing was trained, so there is nothing to post-process.</p>"
    cells = [describe(*row) for row in processed[["R@1", "R@1_low", "R@1_high"]].itertuples(index=False)]
    kinds = list(dict.fromkeys(processed["post_processing"]))
    wide = processed.assign(cell=cells).pivot(index="method", columns="post_processing", values="cell")[kinds]
    wide.loc["mean change, points"] = pd.Series({kind: f"{gain['mean']:+.1f}" for kind, gain in added(table).items()})
    return results_html(wide.reset_index())


def re_ranking_table(found: Evaluation) -> str:
    """HTML of R@1 at every depth: the first stage, a random order of its best, the cross-encoder, and what it adds."""
    listed = []
    for method, depths in found.metrics["reranking"]["methods"].items():
        for depth, one in depths.items():
            row = {"method": method, "depth": depth, "right video among them": describe(one["found"])}
            row |= {name.replace("_", " "): describe(one[name]) for name in ("first_stage", "random", "cross_encoder")}
            for name in ("first", "random"):
                added_ = one[f"over_{name}"]
                row[f"over {name.replace('first', 'first stage')}"] = describe(added_["difference"], **_edges(added_))
            listed.append(row)
    return _html(pd.DataFrame(listed), "No cross-encoder was trained.")


def half_precision_table(found: Evaluation) -> str:
    """HTML of what half precision changes in text to video."""
    listed = [
        {"scores": name, "ranks that change, %": one["changed"], "largest change": one["largest"]}
        | {"R@1, points": f"{one['R@1']:+.1f}"}
        for name, one in found.metrics["half_precision"].items()
    ]
    return _html(pd.DataFrame(listed), "No method was trained.")

"""On which corpora can heads differ? Worlds of features, each with one thing changed, and heads trained in each."""

import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from glscl.base import load_backbone
from glscl.bundled.facets import Facets, build
from glscl.bundled.oracle import KINDS
from glscl.data.dataset import PreparedCorpus
from glscl.encoding import evaluate
from glscl.evaluation.comparisons import points
from glscl.evaluation.results import describe
from glscl.evaluation.statistics import correct_family, mean_interval, paired_difference
from glscl.methods import METHODS
from glscl.report.names import name_of
from glscl.report.page import p_value
from glscl.study.processes import one_thread_each
from glscl.study.project import Folders
from glscl.training.runs import UNFINISHED, load_run, train_seeds
from glscl.training.trainer import TrainSettings

SUBJECT = "glscl"


@dataclass(frozen=True)
class Study:
    """What is asked: heads that were trained on `dataset` are trained in every world, at the rate chosen there.

    world: settings of `Facets` that the dataset has. changed: {world: those that it has instead; `training` among them
    holds settings of training}. trained: folder of the dataset's heads. scratch: of the worlds and their heads.
    """

    dataset: str
    world: dict
    changed: dict[str, dict]
    heads: list[str]
    seeds: list[int]
    trained: Path
    scratch: Path

    @classmethod
    def open(cls, profile: str, dataset: str, corpus: dict, worlds: dict) -> "Study":
        """The study that the parameters of the notebook describe. Raises ValueError where a head was not trained."""
        trained = Folders.of(profile, dataset).work / "train"
        for head in worlds["heads"]:
            if not (trained / head / "settings.json").exists():
                raise ValueError(
                    f"the heads of worlds must be trained on {dataset}, {head} is not; add it to the methods of the "
                    "profile, or leave it out of worlds.heads."
                )
        scratch = UNFINISHED / "worlds" / profile / dataset
        return cls(dataset, corpus, worlds["changed"], worlds["heads"], worlds["seeds"], trained, scratch)

    def facets(self, name: str) -> Facets:
        """What a world is made of."""
        return Facets(**(self.world | {key: value for key, value in self.changed[name].items() if key != "training"}))


class Found(NamedTuple):
    """Of one world: ceilings as `World.ceilings` gives them, hits at rank 1 by head (seeds, texts), 100 or 0.

    untrained: (1, texts), mean pooling without training. group: (texts,), the video of each text.
    """

    ceilings: dict[str, dict[str, float]]
    hits: dict[str, np.ndarray]
    untrained: np.ndarray
    group: np.ndarray


def run(study: Study) -> dict[str, Found]:
    """Build every world, train every head in it with every seed, and evaluate all: {world: found}."""
    ceilings = {}
    for name in study.changed:
        ceilings[name] = build(study.facets(name), study.scratch / name).ceilings()
    jobs = list(product([study], study.changed, study.heads, study.seeds))
    hits: dict[tuple[str, str], list] = {}
    for (_, name, head, _), found in zip(jobs, one_thread_each(trained_hits, jobs), strict=True):
        hits.setdefault((name, head), []).append(found)
    results = {}
    for name in study.changed:
        test = opened(study, name).split("test")
        clip = load_backbone(str(study.scratch / name / "clip"), "frozen", None)
        plain = evaluate(METHODS["mean_pooling"].from_clip(clip, temporal_layers=0), test)["t2v"]
        of_heads = {head: np.stack(hits[name, head]) for head in study.heads}
        results[name] = Found(ceilings[name], of_heads, points(plain["rank"], "R@1")[None], plain["group"])
    return results


def opened(study: Study, name: str) -> PreparedCorpus:
    """A world as it was written."""
    clip = str(study.scratch / name / "clip")
    return PreparedCorpus.open(study.scratch / name, clip, "frozen", study.facets(name).words)


def trained_hits(study: Study, name: str, head: str, seed: int) -> np.ndarray:
    """100 where a head that was trained in a world finds a test text's video first, else 0: (texts,)."""
    settings, corpus = json.loads((study.trained / head / "settings.json").read_text()), opened(study, name)
    own = {"keep_epochs": False, "keep_steps": ()} | study.changed[name].get("training", {})
    train = TrainSettings(**(settings["train"] | own))
    model = {key: value for key, value in settings["model"].items() if key not in ("frames", "words")}
    folder = study.scratch / "models" / name / head / str(seed)
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # a line per epoch would bury the page
        train_seeds(settings["method"], model, corpus, train, [seed], folder)
    queries = evaluate(load_run(folder / f"seed-{seed}"), corpus.split("test"))["t2v"]
    return points(queries["rank"], "R@1")


def results_of(study: Study, found: dict[str, Found]) -> dict:
    """Every number of the study, as worlds.json keeps it, with `answer` and `details`."""
    worlds = {}
    for name, one in found.items():
        rows = {}
        for head, hits in one.hits.items():
            low, high = mean_interval(hits, one.group)
            rows[head] = {"mean": float(hits.mean()), "low": low, "high": high, "seeds": hits.mean(1).tolist()}
        minus = {
            head: paired_difference(one.hits[SUBJECT], hits, one.group, len(one.hits) - 1)
            for head, hits in one.hits.items()
            if head != SUBJECT and SUBJECT in one.hits
        }
        correct_family(list(minus.values()))
        worlds[name] = {
            "changed": study.changed[name],
            "ceilings": {kind: one.ceilings[kind]["R@1"] for kind in KINDS},
            "untrained": float(one.untrained.mean()),
            "heads": rows,
            "glscl_minus": minus,
        }
    texts = {len(one.group) for one in found.values()}
    results = {"dataset": study.dataset, "seeds": study.seeds, "texts": max(texts, default=0), "worlds": worlds}
    return results | {"answer": answer(results), "details": details(results)}


def spread(world: dict) -> float:
    """Points of R@1 between the best and the worst head of a world."""
    means = [row["mean"] for row in world["heads"].values()]
    return max(means) - min(means)


def above_ceilings(results: dict) -> list[str]:
    """Heads that are significantly above the highest ceiling of their world; empty unless a ceiling is wrong."""
    return [
        f"{name}: {name_of(head)} has R@1 {row['mean']:.1f}, at least {row['low']:.1f}, above the ceiling of "
        f"{highest:.1f}"
        for name, world in results["worlds"].items()
        for highest in [max(world["ceilings"].values())]
        for head, row in world["heads"].items()
        if row["low"] is not None and row["low"] > highest
    ]


def answer(results: dict) -> str:
    """Where heads differ most and least, in one sentence."""
    worlds = results["worlds"]
    if not worlds or min(len(world["heads"]) for world in worlds.values()) < 2:
        return "No two heads were trained in another world."
    most, least = (pick(worlds, key=lambda name: spread(worlds[name])) for pick in (max, min))
    said = f"Heads differ most, by {spread(worlds[most]):.1f} points of R@1, with {most}"
    return f"{said}{f', least with {least}, by {spread(worlds[least]):.1f}' if most != least else ''}."


def details(results: dict) -> list[str]:
    """The best head of every world, and GLSCL beside it."""
    said = []
    for name, world in results["worlds"].items():
        best = max(world["heads"], key=lambda head: world["heads"][head]["mean"])
        sentence = f"{name}: {name_of(best)} {world['heads'][best]['mean']:.1f}"
        if SUBJECT in world["heads"] and best != SUBJECT:
            sentence += f", GLSCL {world['heads'][SUBJECT]['mean']:.1f}"
        ceiling = world["ceilings"]["ordered"]
        said.append(f"{sentence}, untrained {world['untrained']:.1f}, ceiling {ceiling:.1f} (R@1, %).")
    return said


def table(results: dict) -> pd.DataFrame:
    """R@1 by world: the matchers, untrained mean pooling, and every head with its interval."""
    rows = []
    for name, world in results["worlds"].items():
        row = {"world": name} | {kind: describe(world["ceilings"][kind]) for kind in KINDS}
        row |= {"untrained": describe(world["untrained"])}
        rows.append(row | {head: describe(*_edges(one, "mean")) for head, one in world["heads"].items()})
    return pd.DataFrame(rows)


def minus_table(results: dict) -> pd.DataFrame:
    """GLSCL minus each head by world, in points, with p after Holm's correction over the heads of a world."""
    rows = []
    for name, world in results["worlds"].items():
        for head, one in world["glscl_minus"].items():
            row = {"world": name, "GLSCL minus": head, "points": describe(*_edges(one, "difference"))}
            rows.append(row | {"p (Holm)": p_value(one["p_holm"]), "detectable": describe(one["detectable"])})
    return pd.DataFrame(rows)


def _edges(one: dict, middle: str) -> tuple[float, float, float]:
    return one[middle], one["low"], one["high"]

"""The small figure of each research question, drawn from the JSON that its stage wrote."""

from collections.abc import Callable

import pandas as pd

from glscl.report.figures.cards import Line, Row, curves, intervals
from glscl.report.figures.svg import Drawing
from glscl.report.names import name_of
from glscl.study.answers import MAIN, Question, Study

RELEASED = "released"  # the variant of the losses that is the authors' code
RIVAL = "x_clip"  # the head with attention over words and frames that the paper compares its cost with


def card_figure(study: Study, question: Question, dataset: str) -> Drawing | None:
    """The figure of a question on a corpus; None where there is nothing to draw."""
    found = study.found(question.stage, dataset if question.per_corpus else "")
    return FIGURES[question.stage](study, found, dataset) if found else None


def _chosen(names) -> list[str]:
    """Of the methods those of `MAIN`, in its order; all where fewer than two are."""
    chosen = [name for name in MAIN if name in names]
    return chosen if len(chosen) > 1 else list(names)


def benchmarks(study: Study, found: dict, dataset: str) -> Drawing | None:
    """mAP@10 of the main methods, best first; T-MASS stands out."""
    scores = {name: found["rows"][name]["t2v"]["mAP@10"] for name in _chosen(found["rows"])}
    rows = [
        Row(name_of(name), one["mean"], one["low"], one["high"], name.startswith("t_mass"))
        for name, one in sorted(scores.items(), key=lambda item: -item[1]["mean"])
    ]
    return intervals("mAP@10 of text to video, %", rows) if rows else None


def costs(study: Study, found: dict, dataset: str) -> Drawing:
    """How many times GLSCL's cost the rival takes: as published, work per pair, and times that a machine measured."""
    counted, name = found["over_glscl"][RIVAL], name_of(RIVAL)
    rows = [Row("published", counted["published"]), Row("work per pair", counted["macs"]["pair"])]
    if timed := study.found("costs", measured=True).get("over_glscl", {}).get(RIVAL):
        search, ends = timed["search"], {int(size): times for size, times in timed["end_to_end"].items()}
        rows += [Row(f"search, {search['gallery']:,}", search["ratio"], search["low"], search["high"], hero=True)]
        rows += [Row(f"query, {size:,}", ends[size]) for size in sorted({min(ends), max(ends)})]
    return intervals(f"{name} over GLSCL, times (videos searched)", rows, rule=1, log=True)


def losses(study: Study, found: dict, dataset: str) -> Drawing | None:
    """What each part of GLSCL adds to R@1 in the authors' code."""
    effects = {part: of[RELEASED]["r1"] for part, of in found["contrasts"].items() if RELEASED in of}
    rows = [
        Row(part, effect["difference"], effect["low"], effect["high"], part == "both losses")
        for part, effect in effects.items()
    ]
    return intervals("what a part adds to R@1, points", rows, rule=0) if rows else None


def convergence(study: Study, found: dict, dataset: str) -> Drawing | None:
    """R@1 against steps, mean over seeds; GLSCL stands out, the highest and the lowest other are named."""
    if not found["heads"]:
        return None
    curve = pd.read_csv(study.results / study.profile / dataset / "convergence.csv")
    means = curve.groupby(["method", "step"], sort=False)["r1"].mean()
    last = means.groupby("method").last()
    lines = [
        Line(name_of(name), list(means[name].items()), name in (last.idxmax(), last.idxmin()), name == "glscl")
        for name in means.index.unique("method")
    ]
    return curves("text-to-video R@1, %", lines, "steps of training")


def transfer(study: Study, found: dict, dataset: str) -> Drawing | None:
    """R@1 without training on the target, over that of untrained CLIP, for every shift."""
    rows = []
    for shift, by_head in found["shifts"].items():
        rows += [Row(shift)] if by_head else []
        for head in _chosen(by_head):
            gain = by_head[head]["over_untrained"]
            rows.append(Row(name_of(head), gain["difference"], gain["low"], gain["high"], head == "glscl"))
    return intervals("zero-shot R@1 on the target over CLIP's, points", rows, rule=0) if rows else None


FIGURES: dict[str, Callable[[Study, dict, str], Drawing | None]] = {
    "benchmarks": benchmarks,
    "costs": costs,
    "losses": losses,
    "convergence": convergence,
    "transfer": transfer,
}

"""What the doses of GLSCL's losses and dropout did: statistics, and the sentences that say it.

`results_of` makes what losses.json keeps. Effects are with minus without, in points of text-to-video R@1 unless said
otherwise; intervals and p-values are over queries and seeds.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from glscl.evaluation.collapse import HINGE, rank_of_equal_cosines
from glscl.evaluation.results import describe
from glscl.evaluation.statistics import LEVEL, correct_family, mean_interval, paired_difference
from glscl.study.losses import FULL, LOCAL, Measured, Study, without
from glscl.study.published import NEAR, headline_among_sweeps

OF_TEXTS = ("matched", "wrong_pair", "within_text", "rank_text")
OF_VIDEOS = ("within_video", "rank_video")
SHOWN = {
    "matched": "same, own",
    "within_text": "in a text",
    "within_video": "in a video",
    "rank_text": "rank, text",
    "rank_video": "rank, video",
}
SETTINGS = ("alpha", "beta", "moment", "dropout")
FACTORS = (2, 10, 100)  # of the rule for what lies near the paper's headline, whose sensitivity is shown


class Runs:
    """All runs by condition, and the test split that they were measured on.

    group: (texts,), the video of each text. videos: how many.
    """

    def __init__(self, study: Study, measured: list[Measured]):
        test = study.corpus.split("test")
        self.group, self.videos = test.video_of_text.numpy(), np.arange(len(test.videos))
        self.by_label: dict[str, list[Measured]] = {}
        for run in measured:
            self.by_label.setdefault(run.condition, []).append(run)

    def hits(self, label: str) -> np.ndarray:
        """100 where a text finds its video first, else 0: (seeds, texts)."""
        return np.stack([100.0 * (run.ranks < 1) for run in self.by_label[label]])

    def items(self, label: str, statistic: str) -> np.ndarray:
        """A statistic of every item of the test split: (seeds, texts) or (seeds, videos)."""
        return np.stack([run.items[statistic] for run in self.by_label[label]])

    def mean(self, label: str, value: Callable[[Measured], float]) -> float:
        """Mean over seeds of a value of each run."""
        return float(np.mean([value(run) for run in self.by_label[label]]))

    def change(self, one: str, other: str, statistic: str) -> dict:
        """`paired_difference` of a statistic of the concepts, one condition minus another."""
        group = self.videos if statistic in OF_VIDEOS else self.group
        return paired_difference(self.items(one, statistic), self.items(other, statistic), group)


def contrasts(study: Study, runs: Runs) -> dict[str, dict[str, dict]]:
    """The full model minus the model without a part: {part: {variant: {"r1", and each of `SHOWN`}}}.

    Each entry is what `paired_difference` gives; r1 has `p_holm` too, over all parts and variants. Without local
    interaction no concepts are trained, so that part has r1 alone, and the variants share the model without it.
    """
    found, size = {}, len(study.parts) * len(study.variants)
    for part in study.parts:
        found[part] = {}
        for variant in study.variants:
            full = f"{variant}/{FULL}"
            bare = f"{study.variants[0] if part == LOCAL else variant}/{without(part)}"
            entry = {"r1": paired_difference(runs.hits(full), runs.hits(bare), runs.group, size)}
            if part != LOCAL:
                entry |= {statistic: runs.change(full, bare, statistic) for statistic in SHOWN}
            found[part][variant] = entry
    correct_family([entry["r1"] for by_variant in found.values() for entry in by_variant.values()])
    return found


def doses(study: Study, runs: Runs) -> list[dict]:
    """Every condition with the local interaction and the pooling as they are: its settings, and means over seeds.

    Keys: variant, name, alpha, beta, moment (the weight of inter-consistency's other term), dropout; r1, a mean with
    its interval; over_full, `paired_difference` to the full model of the variant with `p_holm` over all doses, absent
    for that model; rank_text, rank_video, matched, wrong_pair, matched_minus_wrong, within_text, within_video on the
    test split; `glscl.evaluation.collapse.Seen`; gradients, and first_gradients where the condition is followed.
    """
    found, size = [], len(study.conditions)
    for condition in study.conditions:
        settings, label, full = study.model_of(condition), condition.label, f"{condition.variant}/{FULL}"
        if not settings["local_weight"] or settings["global_pooling"] != "text_conditioned":
            continue
        hits, first = runs.hits(label), runs.by_label[label][0]
        low, high = mean_interval(hits, runs.group)
        row = {
            "variant": condition.variant,
            "name": condition.name,
            "alpha": settings["diversity_weight"],
            "beta": settings["consistency_weight"],
            "moment": settings["moment_weight"],
            "dropout": settings["dropout"],
            "r1": {"mean": float(hits.mean()), "low": low, "high": high, "seeds": hits.mean(1).tolist()},
        }
        row |= {name: float(runs.items(label, name).mean()) for name in (*OF_TEXTS, *OF_VIDEOS)}
        row["matched_minus_wrong"] = row["matched"] - row["wrong_pair"]
        row |= {name: runs.mean(label, lambda run, name=name: run.seen[name]) for name in first.seen}
        for kind in ("gradients", "first_gradients"):
            row[kind] = {
                term: runs.mean(label, lambda run, kind=kind, term=term: getattr(run, kind)[term])
                for term in getattr(first, kind)
            }
        if condition.name != FULL:
            row["over_full"] = paired_difference(hits, runs.hits(full), runs.group, size)
        found.append(row)
    correct_family([row["over_full"] for row in found if "over_full" in row])
    return found


def rank(row: dict) -> float:
    """Effective rank of a dose, mean of texts and videos."""
    return (row["rank_text"] + row["rank_video"]) / 2


def uncollapsed(study: Study, rows: list[dict]) -> dict:
    """Of the first variant's `doses` the one with the highest effective rank, mean of texts and videos."""
    best = max((row for row in rows if row["variant"] == study.variants[0]), key=rank)
    kept = ("variant", "name", *SETTINGS, "rank_text", "rank_video")
    return {name: best[name] for name in kept} | {"rank": rank(best), "r1": best.get("over_full")}


def followed(runs: Runs) -> dict[str, list[dict]]:
    """Means over seeds of `glscl.study.losses.at_step` by condition: a row per step."""
    found = {}
    for label, own in runs.by_label.items():
        if own[0].steps:
            rows = pd.DataFrame([row for run in own for row in run.steps])
            found[label] = rows.groupby("step", as_index=False).mean().to_dict("records")
    return found


def results_of(study: Study, measured: list[Measured], papers: pd.DataFrame) -> dict:
    """Every deterministic number of the study, as losses.json keeps it, with `answer` and `details`.

    papers: of `glscl.study.published.published`.
    """
    runs = Runs(study, measured)
    rows = doses(study, runs)
    found = {
        "scope": study.scope(),
        "contrasts": contrasts(study, runs),
        "doses": rows,
        "uncollapsed": uncollapsed(study, rows),
        "rank_at_hinge": rank_of_equal_cosines(HINGE, study.model["num_queries"]),
        "followed": followed(runs),
        "published": headline_among_sweeps(papers)._asdict() | {"factor": NEAR},
        "sensitivity": {factor: headline_among_sweeps(papers, factor)._asdict() for factor in FACTORS},
    }
    return found | {"answer": answer(found), "details": details(found)}


def dose(results: dict, name: str, variant: str | None = None) -> dict | None:
    """The dose of a name, of the first variant unless another is named; None where it was not trained."""
    variant = variant or results["scope"]["variants"][0]
    return next((row for row in results["doses"] if (row["variant"], row["name"]) == (variant, name)), None)


def _alone(results: dict, row: dict, knob: str) -> bool:
    """Whether a dose of the first variant differs from its full model in that knob alone, or in nothing."""
    full = dose(results, FULL)
    return row["variant"] == full["variant"] and all(row[name] == full[name] for name in SETTINGS if name != knob)


def points(effect: dict) -> str:
    """A difference and its interval, if any, in points, one decimal."""
    parts = (effect[part] for part in ("difference", "low", "high"))
    # Adding 0.0 turns -0.0, as a small loss is rounded to, into 0.0.
    return describe(*(None if part is None else round(part, 1) + 0.0 for part in parts))


def _significant(effect: dict) -> str:
    return "significant" if effect["p_holm"] < LEVEL else "not significant"


def answer(results: dict) -> str:
    """What both losses together do to retrieval, and how many directions the concepts span, in one sentence."""
    scope = results["scope"]
    variant, best = scope["variants"][0], results["uncollapsed"]["rank"]
    said = f"On {scope['dataset']} no model was trained without both losses"
    if "both losses" in results["contrasts"]:
        both = results["contrasts"]["both losses"][variant]["r1"]
        said = f"On {scope['dataset']} both losses change R@1 by {points(both)} points, {_significant(both)}"
    return (
        f"{said}; {variant} concepts span {rank(dose(results, FULL)):.1f} of {scope['concepts']} directions, "
        f"{best:.1f} at best."
    )


def details(results: dict) -> list[str]:
    """What else was found, sentence by sentence."""
    scope, best = results["scope"], results["uncollapsed"]
    full, paper = dose(results, FULL), results["published"]
    sentences = [
        f"Two concepts of a video have a mean cosine of {full['within_train']:.2f} in training and "
        f"{full['within_eval']:.2f} in evaluation; the diversity loss acts above {HINGE:.1f}.",
        f"Concepts that all have the cosine {HINGE:.1f} span {results['rank_at_hinge']:.1f} directions: the diversity "
        "loss asks for no more.",
        f"With dropout the diversity loss of a training batch is {full['hinge_train']:.2g} before its weight, without "
        f"dropout on the same weights {full['hinge_eval']:.2g}.",
    ]
    sentences.append(
        f"A text's concept has cosine {full['matched']:.2f} with the same one of its own video and "
        f"{full['wrong_pair']:.2f} with that of a wrong video."
    )
    largest = max((row for row in results["doses"] if _alone(results, row, "alpha")), key=lambda row: row["alpha"])
    if largest["alpha"] > full["alpha"]:
        sentences.append(
            f"At alpha {largest['alpha']:g} two concepts of a video have {largest['within_train']:.2f} in training, "
            f"{largest['within_eval']:.2f} in evaluation, and span {largest['rank_video']:.1f} directions."
        )
    if best["r1"]:
        sentences.append(
            f"The highest rank, {best['rank']:.1f}, is that of {best['name']}; R@1 changes by {points(best['r1'])} "
            f"points, {_significant(best['r1'])}."
        )
    sentences += [
        f"{part[0].upper()}{part[1:]} {'change' if part == 'both losses' else 'changes'} R@1 by {points(entry['r1'])} "
        f"points ({variant}), {_significant(entry['r1'])}."
        for part, by_variant in results["contrasts"].items()
        for variant, entry in by_variant.items()
        if part != "both losses" or variant != scope["variants"][0]
    ]
    return [
        *sentences,
        f"The paper's {paper['settings']} settings near its headline of {paper['headline']:.1f} have mean R@1 "
        f"{paper['mean']:.2f}, sd {paper['sd']:.2f}; chance alone would put the best at {paper['expected']:.1f}.",
        f"R@1 is text to video, of {scope['texts']:,} test texts; {len(scope['seeds'])} seeds, {scope['steps']} "
        f"training steps of {scope['batch_size']} pairs.",
    ]

"""What a transfer is worth: differences to untrained CLIP, shares, comparisons of heads, and what is said of them."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from glscl.evaluation.results import Run, describe
from glscl.evaluation.statistics import correct_family, mean_interval, not_above, paired_difference
from glscl.report.names import name_of
from glscl.report.page import p_value
from glscl.study.transfer import STARTS, UNTRAINED, Domain, Evaluated, Study

SUBJECT = "glscl"
ATTENTION = ("x_pool", "x_clip", "t_mass")  # methods that weigh frames by attention to the text
LEAST_GAIN = 5.0  # points of R@1 that the in-domain model has over untrained CLIP, or there is no share of them
EDGES = ("mean", "low", "high")


# --- numbers


class Hits(NamedTuple):
    """Text-to-video hits at rank 1 on one target, 100 or 0, and the video of each query, (queries,).

    of_heads: {head: {start: (seeds, queries)}}. untrained: (1, queries), CLIP alone.
    """

    of_heads: dict[str, dict[str, np.ndarray]]
    untrained: np.ndarray
    group: np.ndarray

    @classmethod
    def of(cls, runs: list[Run], target: str) -> "Hits":
        """Those of one target, seeds in the order of the runs."""
        runs = [run for run in runs if run.split == target]
        found: dict[str, dict[str, list]] = {}
        for run in runs:
            hits = 100.0 * (run.queries["t2v"]["rank"] <= 0)
            found.setdefault(run.name, {}).setdefault(run.selection, []).append(hits)
        stacked = {name: {start: np.stack(hits) for start, hits in of.items()} for name, of in found.items()}
        return cls(stacked, stacked.pop(UNTRAINED)[UNTRAINED], runs[0].queries["t2v"]["group"])

    def minus(self, head: str, start: str, other: str) -> np.ndarray:
        """Points of a start over another, or over untrained CLIP: (seeds, queries)."""
        starts = self.of_heads[head]
        return starts[start] - (self.untrained if other == UNTRAINED else starts[other])

    def share(self, head: str) -> dict | None:
        """The share of the in-domain model's gain over untrained CLIP that the zero-shot model has, percent.

        None where that gain is below `LEAST_GAIN`: a share of little or nothing says nothing.
        """
        whole = self.minus(head, "in_domain", UNTRAINED)
        if whole.mean() < LEAST_GAIN:
            return None
        return estimate(share_values(self.minus(head, "zero_shot", UNTRAINED), whole), self.group)


def share_values(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Values of each run and query whose mean is the share of `whole` that `part` is, in percent.

    part, whole: (runs, queries), such as what two models gain on the same queries. The share is the ratio R of their
    means; by Taylor linearisation (Cochran, Sampling Techniques, 1977, section 6.3) it varies over samples as the mean
    of R + (part - R whole) / mean(whole) does, so that intervals of means hold for shares too.
    """
    mean = whole.mean()
    ratio = part.mean() / mean
    return 100 * (ratio + (part - ratio * whole) / mean)


def estimate(values: np.ndarray, group: np.ndarray) -> dict:
    """Mean of values (runs, queries), its 95 % interval over queries and seeds, and the mean of each run."""
    low, high = mean_interval(values, group)
    return {"mean": float(values.mean()), "low": low, "high": high, "seeds": values.mean(1).tolist()}


def tested(hits: dict[str, Hits], heads: list[str], points: Callable[[Hits, str], np.ndarray]) -> dict:
    """Whether points(hits of a target, head), (seeds, queries), differ from 0: {target: {head: test}}.

    A test is `paired_difference` with `p_holm`: the tests of all targets and heads are one family.
    """

    def test(of: Hits, head: str) -> dict:
        values = points(of, head)
        return paired_difference(values, np.zeros_like(values), of.group, len(hits) * len(heads))

    found = {name: {head: test(of, head) for head in heads} for name, of in hits.items()}
    correct_family([one for of in found.values() for one in of.values()])
    return found


def sign(test: dict) -> int:
    """1 or -1 where a difference is significant after correction, else 0."""
    return int(np.sign(test["difference"])) if test["p_holm"] < 0.05 else 0


def results_of(study: Study, evaluated: Evaluated) -> dict:
    """Every number of the study, as transfer.json keeps it, with `answer` and `details`."""
    hits = {name: Hits.of(evaluated.runs, name) for name in evaluated.resized}
    methods = study.methods()
    rivals = [head for head in methods if SUBJECT in methods and head != SUBJECT]
    over_controls = {
        kind: tested(hits, list(methods), lambda of, head, pair=pair: of.minus(head, *pair))
        for kind, pair in {
            "over_untrained": ("zero_shot", UNTRAINED),
            "in_domain_over_untrained": ("in_domain", UNTRAINED),
            "source_adds": ("few_shot", "few_from_clip"),
        }.items()
    }
    shifts = {
        name: {
            head: {UNTRAINED: estimate(of.untrained, of.group)}
            | {start: estimate(values, of.group) for start, values in starts.items()}
            | {kind: tests[name][head] for kind, tests in over_controls.items()}
            | {"share": of.share(head)}
            for head, starts in of.of_heads.items()
        }
        for name, of in hits.items()
    }

    def against(values: Callable[[Hits, str], np.ndarray]) -> dict:
        return tested(hits, rivals, lambda of, head: values(of, SUBJECT) - values(of, head))

    found = {
        "scope": _scope(study, hits),
        "shifts": shifts,
        "glscl_minus": against(lambda of, head: of.of_heads[head]["zero_shot"]),
        "glscl_keeps": against(lambda of, head: of.minus(head, "zero_shot", "in_domain")),
        "attention": [head for head in rivals if methods[head] in ATTENTION],
        "did_not_train": {
            name: [head for head, found in heads.items() if not_above(found["in_domain_over_untrained"])]
            for name, heads in shifts.items()
        },
        "resized": evaluated.resized,
    }
    return found | {"answer": answer(found), "details": details(found)}


def _scope(study: Study, hits: dict[str, Hits]) -> dict:
    return {
        "dataset": study.dataset,
        "shifts": study.shifts,
        "seeds": study.seeds,
        "heads": study.heads,
        "split": "test",
        "texts": {name: len(of.group) for name, of in hits.items()},
        "videos": {name: len(set(of.group)) for name, of in hits.items()},
        "few_shot_videos": study.few_videos,
        "few_shot_epochs": study.few_epochs,
        "metric": "R@1 t2v",
    }


# --- sentences


def answer(results: dict) -> str:
    """Which shifts the heads survive, where transfer is negative, and GLSCL against attention, in 25 words at most."""
    shifts = results["shifts"]
    if not shifts:
        return f"{results['scope']['dataset']}: no transfer; it needs trained heads, a frozen CLIP and another domain."
    signs = {name: [sign(found["over_untrained"]) for found in heads.values()] for name, heads in shifts.items()}
    above = ", ".join(f"{name} {each.count(1)}" for name, each in signs.items())
    below = ", ".join(name for name, each in signs.items() if -1 in each) or "none"
    said = (
        f"Zero-shot heads above untrained CLIP: {above} of {len(results['scope']['heads'])}; negative transfer: {below}"
    )
    if compared := list(_against_attention(results)):
        better, worse = (sum(sign(test) == way for *_, test in compared) for way in (1, -1))
        said += f"; GLSCL against attention: {better} better, {worse} worse"
    return f"{said}."


def _against_attention(results: dict) -> Iterator[tuple[str, str, dict]]:
    """(target, head, GLSCL minus the head, zero-shot) of attention-based heads, where both learn the target."""
    for name in results["shifts"]:
        tests = _fair(results, "glscl_minus", name)
        yield from ((name, head, tests[head]) for head in results["attention"] if head in tests)


def _fair(results: dict, kind: str, name: str) -> dict[str, dict]:
    """Comparisons with GLSCL on one target, by head, where both learn the target."""
    failed = results["did_not_train"][name]
    return {head: test for head, test in results[kind][name].items() if not {SUBJECT, head} & set(failed)}


def details(results: dict) -> list[str]:
    """What else was found, sentence by sentence: every target, GLSCL against other heads, what all rests on."""
    scope = results["scope"]
    if not results["shifts"]:
        return []
    sentences = [sentence for name in results["shifts"] for sentence in _of_target(results, name)]
    texts = ", ".join(f"{count:,} ({name})" for name, count in scope["texts"].items())
    return [
        *sentences,
        f"Text-to-video R@1 of {texts} test texts; {len(scope['seeds'])} seeds; few-shot sees "
        f"{scope['few_shot_videos']} captions, {scope['few_shot_epochs']} times each.",
    ]


def _of_target(results: dict, name: str) -> Iterator[str]:
    heads = results["shifts"][name]
    yield f"{name}: untrained CLIP finds {_edges(next(iter(heads.values()))[UNTRAINED])} % at rank 1."
    if below := [head for head, found in heads.items() if sign(found["over_untrained"]) < 0]:
        yield f"{name}, negative transfer, significantly below untrained CLIP: {_names(below)}."
    if failed := results["did_not_train"][name]:
        yield f"{name}, not above untrained CLIP although trained in-domain: {_names(failed)}."
    if SUBJECT in heads:
        yield f"{name}, what GLSCL has zero-shot of its in-domain gain: {_share(heads[SUBJECT])}."
    for kind, said in {"glscl_minus": "finds", "glscl_keeps": "keeps of its in-domain R@1"}.items():
        tests = _fair(results, kind, name)
        beaten = {way: [head for head, test in tests.items() if sign(test) == way] for way in (1, -1)}
        parts = [f"{more} than {_names(beaten[way])}" for way, more in {1: "more", -1: "less"}.items() if beaten[way]]
        if parts:
            yield f"{name}, zero-shot: GLSCL {said} significantly {', and '.join(parts)}."
    if resized := results["resized"][name]:
        yield f"{name}: frames or tokens differ in number, so that weights are resized in {_names(resized)}."


def _names(heads: list[str]) -> str:
    """What a reader calls these heads."""
    return ", ".join(map(name_of, heads))


def _share(found: dict) -> str:
    """`48.1 [40.2, 56.0] %`, or why there is no share."""
    if found["share"]:
        return f"{_edges(found['share'])} %"
    return f"no share: in-domain is {found['in_domain_over_untrained']['difference']:+.1f} points over untrained CLIP"


def _edges(found: dict) -> str:
    return describe(*(found[edge] for edge in EDGES))


# --- figures and tables


def about(scope: dict) -> str:
    """Caption of what recalls rest on."""
    texts = ", ".join(f"{count:,} test texts ({name})" for name, count in scope["texts"].items())
    return f"{texts}; seeds {scope['seeds']}" if texts else f"{scope['dataset']}: no transfer"


def recall_rows(results: dict) -> pd.DataFrame:
    """R@1 of every start, for the main figure: columns target, head, start, mean, low, high; percent."""
    rows = [
        {"target": name, "head": head, "start": start} | {edge: found[key][edge] for edge in EDGES}
        for name, heads in results["shifts"].items()
        for head, found in heads.items()
        for key, start in (STARTS | {UNTRAINED: UNTRAINED}).items()
    ]
    return pd.DataFrame(rows, columns=["target", "head", "start", *EDGES]).astype({"low": float, "high": float})


def gain_rows(results: dict) -> pd.DataFrame:
    """Zero-shot R@1 over untrained CLIP, points: columns target, head, difference, low, high, significant."""
    rows = [
        {"target": name, "head": head, "significant": sign(found["over_untrained"]) != 0}
        | {edge: found["over_untrained"][edge] for edge in ("difference", "low", "high")}
        for name, heads in results["shifts"].items()
        for head, found in heads.items()
    ]
    table = pd.DataFrame(rows, columns=["target", "head", "difference", "low", "high", "significant"])
    return table.astype({"low": float, "high": float})


def levels_table(results: dict) -> pd.DataFrame:
    """The difference to untrained CLIP first, then R@1 of the controls, and the share of the in-domain gain."""
    rows = []
    for name, heads in results["shifts"].items():
        for head, found in heads.items():
            row = {"target": name, "head": head} | _cells(found["over_untrained"], "zero-shot minus untrained")
            row |= {start: _edges(found[key]) for key, start in ({UNTRAINED: UNTRAINED} | STARTS).items()}
            rows.append(row | {"share of the in-domain gain": _share(found)})
    return pd.DataFrame(rows)


def _cells(test: dict, name: str, p: str = "p (Holm)") -> dict:
    return {name: describe(*(test[part] for part in ("difference", "low", "high"))), p: p_value(test["p_holm"])}


def rivals_table(results: dict) -> pd.DataFrame:
    """GLSCL minus each other head: zero-shot R@1, and how much of the in-domain R@1 stays; points."""
    rows = []
    for name, tests in results["glscl_minus"].items():
        for head, test in tests.items():
            row = {"target": name, "head": head, "attention": "yes" if head in results["attention"] else "no"}
            row |= _cells(test, "R@1") | {"detectable": describe(test["detectable"])}
            row |= _cells(results["glscl_keeps"][name][head], "zero-shot minus in-domain", "p (Holm) of that")
            failed = [one for one in (SUBJECT, head) if one in results["did_not_train"][name]]
            rows.append(row | {"did not train": _names(failed) or None})
    return pd.DataFrame(rows)


def source_table(results: dict) -> pd.DataFrame:
    """What the source adds to a head that sees a few videos of the target: few-shot minus few-shot from CLIP."""
    rows = [
        {"target": name, "head": head}
        | _cells(found["source_adds"], "points")
        | {"detectable": describe(found["source_adds"]["detectable"])}
        for name, heads in results["shifts"].items()
        for head, found in heads.items()
    ]
    return pd.DataFrame(rows)


def domains_table(domains: list[Domain], changed: dict[str, dict]) -> pd.DataFrame:
    """What differs between the source and the targets. changed: {target: fields that a shift replaces}."""
    rows = []
    for domain in domains:
        corpus = domain.corpus()
        training, test = corpus.split("train"), corpus.split("test")
        fields = ", ".join(f"{field} {value}" for field, value in changed.get(domain.name, {}).items())
        row = {"domain": domain.name, "changed": fields or None, "training videos": len(training.videos)}
        row |= {"test texts": len(test), "frames": test.frames, "tokens": corpus.processor.words}
        rows.append(row | {"words per text": float(test.captions["text"].str.split().str.len().mean())})
    return pd.DataFrame(rows)

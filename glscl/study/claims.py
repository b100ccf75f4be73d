"""The claims of GLSCL's abstract, and the ledger of what became of them.

One finding, named in advance, decides a claim: a rule of `glscl.study.rules` makes it of the `Evidence`. Published
rows, other measurements and the times of this machine stand beside it as context, see `glscl.study.context`, and
decide nothing. The ledger has two parts: what is the same on every machine, and what this machine measured.
"""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from glscl.study import context, rules
from glscl.study.evidence import NEEDS_BENCHMARK, SHOWN, UNDECIDED, VERDICTS, Evidence, Finding


class Claim(NamedTuple):
    """A claim in short and in the words of the abstract, what decides it, for what, the rule, and its context.

    times: a function for findings of measured times, where the claim has such context. real: whether only one of the
    paper's benchmarks can decide it.
    """

    short: str
    wording: str
    test: str
    scope: str
    rule: Callable[[Evidence], Finding | None]
    context: Callable[[Evidence], list[Finding]]
    times: Callable[[Evidence], list[Finding]] | None = None
    real: bool = False

    @property
    def key(self) -> str:
        """The stable name of the claim, which joins the two parts of the ledger."""
        return self.rule.__name__

    def judged(self, evidence: Evidence) -> dict:
        """The claim, its test, scope, verdict and findings, the deciding one first, as plain values; nothing measured.

        Raises ValueError where context has a threshold.
        """
        decides, beside = self.rule(evidence), _context(self.context(evidence))
        if decides:
            # The same number is shown once, also where its interval is of another level.
            beside = [one for one in beside if one.text != decides.text and one[1:5] != decides[1:5]]
        corpora = "; ".join(map(_size, evidence.corpora, evidence.corpora.values())) or "no corpus"
        return {
            "key": self.key,
            "short": self.short,
            "claim": self.wording,
            "test": self.test,
            "scope": self.scope.format(corpora=corpora),
            "verdict": decides.verdict() if decides else self._without(evidence),
            "changes_at": decides.changes_at() if decides else [],
            "evidence": [finding._asdict() for finding in ([decides] if decides else []) + beside],
        }

    def _without(self, evidence: Evidence) -> str:
        real = any(map(evidence.benchmark, evidence.corpora))
        return NEEDS_BENCHMARK if self.real and not real else UNDECIDED

    def timed(self, evidence: Evidence) -> list[dict]:
        """Findings of measured times as plain values. Raises ValueError where one has a threshold."""
        findings = self.times(evidence) if self.times and evidence.measured_costs else []
        return [finding._asdict() for finding in _context(findings)]


def _context(findings: list[Finding]) -> list[Finding]:
    if deciding := [finding.text for finding in findings if finding.threshold is not None]:
        raise ValueError(f"one finding decides a claim, but {deciding[0]!r} beside it has a threshold; leave it out.")
    return findings


def judged(evidence: Evidence, profile: str) -> dict:
    """The ledger of a profile without what was measured: the `answer`, its `details`, and `claims` with verdicts."""
    claims = [claim.judged(evidence) for claim in CLAIMS]
    counts = Counter(claim["verdict"] for claim in claims)
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    datasets = list(evidence.corpora)
    details = [f"What was measured here rests on {', '.join(datasets) or 'no corpus'}."]
    details += ["One finding, named in advance, decides a claim; published rows, other results and times are context."]
    answer = f"Of {len(claims)} claims of the abstract, in the profile {profile}: {said}."
    return {"answer": answer, "details": details, "profile": profile, "datasets": datasets, "claims": claims}


def measured_context(evidence: Evidence) -> dict:
    """The measured part of the ledger: `findings` by key of the claim, and the commit and hardware that timed them."""
    findings = {claim.key: found for claim in CLAIMS if (found := claim.timed(evidence))}
    return {name: evidence.measured_costs.get(name) for name in ("commit", "hardware")} | {"findings": findings}


def merged(ledger: dict, measured: dict) -> dict:
    """Both parts of a ledger as one, in the order of `CLAIMS`: measured times follow the other findings of their claim.

    Every finding gets the `page` and `figure` that draw it; the ledger gets `measured_on`, the hardware.
    """
    times, claims = measured.get("findings", {}), {claim["key"]: claim for claim in ledger["claims"]}

    def placed(finding: dict) -> dict:
        place = SHOWN[finding["result"]]
        return finding | {"page": place.page, "figure": place.figure}

    ordered = []
    for claim in (claims[known.key] for known in CLAIMS if known.key in claims):
        evidence = [*claim["evidence"], *times.get(claim["key"], [])]
        ordered.append(claim | {"evidence": list(map(placed, evidence))})
    return ledger | {"claims": ordered, "measured_on": measured.get("hardware")}


def files(profile: str, results: str | Path = "results") -> tuple[Path, Path]:
    """Where the ledger of a profile lies: `judged`, and `measured_context`.

    The first lies beside the profile's other results, on which its stage depends as a folder.
    """
    results = Path(results)
    return results / "claims" / f"{profile}.json", results / "measured" / profile / "claims.json"


def read_ledger(profile: str, results: str | Path = "results") -> dict:
    """The ledger of a profile, as the stage `ledger` wrote it, with its measured context; see `merged`.

    Returns {"answer": one sentence, "details": sentences, "profile", "datasets", "measured_on": hardware or None,
    "claims": [{"key", "short", "claim", "test", "scope", "verdict", "changes_at": thresholds at which the verdict would
    change, "evidence": findings as plain values with "page" and "figure"}]}; the finding that decides is the first and
    has a threshold. Where the stage has not run, the answer says so and there are no claims.
    """
    file, timed = files(profile, results)
    if not file.exists():
        absent = f"No claim is judged here; the stage ledger of profile {profile} would do it."
        return {
            "answer": absent,
            "details": [],
            "profile": profile,
            "datasets": [],
            "measured_on": None,
            "claims": [],
        }
    measured = json.loads(timed.read_text(encoding="utf-8")) if timed.exists() else {}
    return merged(json.loads(file.read_text(encoding="utf-8")), measured)


def _size(dataset: str, stages: dict[str, dict]) -> str:
    scope = stages.get("benchmarks", {}).get("scope")
    if scope is None:
        return dataset
    kind = "no benchmark, " if scope["benchmark"] == "none" else f"{scope['benchmark']}, "
    seeds = f"{len(scope['seeds'])} seeds" if scope["seeds"] else "no training"
    return f"{dataset} ({kind}{scope['texts']:,} texts, {scope['videos']:,} videos, {seeds})"


CLAIMS = [
    Claim(
        "CLIP pre-training is the state of the art",
        "Adapting image-text pre-training such as CLIP is the state of the art.",
        "On each benchmark measured here, the best head over CLIP leads the best system without CLIP that was "
        f"published since {rules.RECENT}, in R@1.",
        "Published rows at hand without CLIP are few and of no video foundation model; all heads measured here have "
        "CLIP. Measured on {corpora}.",
        rules.pretraining_leads,
        context.pretraining_leads,
        real=True,
    ),
    Claim(
        "both kinds of approach are effective",
        "The primary approaches map both modalities into a common space or let them interact on entities, effectively.",
        f"Both heads that stand for the two kinds, {rules.COMMON_SPACE} and {rules.INTERACTING}, add more than "
        f"{rules.EFFECTIVE:g} points of R@1 to untrained CLIP.",
        "Two heads that stand for their kind, no survey; measured on {corpora}.",
        rules.two_paradigms,
        context.two_paradigms,
    ),
    Claim(
        "their cost is prohibitive",
        "These paradigms entail prohibitive computational cost and inefficient retrieval.",
        "In a gallery of 1,000 videos, as most benchmarks have, a search with X-CLIP takes more work than CLIP's text "
        "encoder, which every query passes.",
        "Matrix products of searches in exact form at the size of ViT-B/32, the same on every machine; times are "
        "context.",
        rules.rivals_are_expensive,
        context.rivals_are_expensive,
        context.searches_timed,
    ),
    Claim(
        "the global interaction is free of parameters",
        "The global interaction module is parameter-free.",
        "No weight of the head has a gradient from a global score, the temporal encoder left out, which feeds both "
        "interactions.",
        "The released computation, ViT-B/32; holds for any data.",
        rules.global_interaction_is_free,
        context.global_interaction_is_free,
    ),
    Claim(
        "the queries capture several concepts",
        "A shared local interaction with several learnable queries captures latent semantic concepts.",
        f"The concepts of an item span at least {rules.SEVERAL} directions (effective rank), in texts and in videos.",
        "GLSCL as released; measured on {corpora}.",
        rules.queries_capture_concepts,
        context.queries_capture_concepts,
    ),
    Claim(
        "inter-consistency aligns matching concepts",
        "The inter-consistency loss aligns matching concepts of text and video.",
        f"The loss raises the cosine of matching concepts by more than {rules.VISIBLE}.",
        "The loss as the authors' code computes it; measured on {corpora}.",
        rules.consistency_aligns,
        context.consistency_aligns,
    ),
    Claim(
        "intra-diversity keeps concepts apart",
        "The intra-diversity loss makes the concepts more discriminative.",
        f"The loss lowers the cosine of the concepts of one item by more than {rules.VISIBLE}, in texts and in videos.",
        "The loss as the authors' code computes it; measured on {corpora}.",
        rules.diversity_discriminates,
        context.diversity_discriminates,
    ),
    Claim(
        "superior on five benchmarks",
        "Experiments on five benchmarks show superior effectiveness.",
        "On each of the five that is measured here, GLSCL leads its strongest rival under the same temporal encoder in "
        "R@1, with an interval that covers all rivals at once.",
        "The five benchmarks alone; measured here: {corpora}.",
        rules.best_on_five_benchmarks,
        context.best_on_five_benchmarks,
        real=True,
    ),
    Claim(
        "comparable with the state of the art",
        "GLSCL is comparable with the state of the art.",
        f"On each of the five that is measured here, R@1 of GLSCL lies within {rules.MARGIN:g} point of its strongest "
        "rival, by two one-sided tests at 5 %: a wide interval is no support.",
        "The five benchmarks alone; published rows are single runs selected on their test split; measured here: "
        "{corpora}.",
        rules.comparable_to_the_best,
        context.comparable_to_the_best,
        real=True,
    ),
    Claim(
        "220 times less cost",
        "GLSCL is nearly 220 times faster in computational cost.",
        "X-CLIP over GLSCL is more than nine tenths of the published factor in multiply-accumulates per pair.",
        "Matrix products at the size of ViT-B/32, 12 frames and 32 words, the same on every machine.",
        rules.faster_as_claimed,
        context.faster_as_claimed,
        context.x_clip_timed,
    ),
    Claim(
        "more efficient than other methods",
        "GLSCL is more efficient than the other methods.",
        "The cheapest rival of the paper's cost column takes more multiply-accumulates per pair than GLSCL.",
        "Matrix products at the size of ViT-B/32, the same on every machine; training measured on {corpora}.",
        rules.cheaper_than_rivals,
        context.cheaper_than_rivals,
        context.rivals_timed,
    ),
]

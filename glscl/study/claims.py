"""The claims of GLSCL's abstract, and the ledger of what became of them.

A rule of `glscl.study.rules` turns the `Evidence` into findings; those that decide say whether they support the claim,
and `glscl.study.evidence.verdict` counts them. The ledger has two parts: verdicts with numbers that are the same on
every machine, and what this machine measured, which is context and decides nothing.
"""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from glscl.study import rules
from glscl.study.evidence import SHOWN, VERDICTS, Evidence, Finding, verdict


class Claim(NamedTuple):
    """A claim in the words of the abstract, the test that decides it, what the verdict holds for, and the rule.

    measured: a rule for findings of measured times, where the claim has such context.
    """

    wording: str
    test: str
    scope: str
    rule: Callable[[Evidence], list[Finding]]
    measured: Callable[[Evidence], list[Finding]] | None = None

    @property
    def key(self) -> str:
        """The stable name of the claim, which joins the two parts of the ledger."""
        return self.rule.__name__

    def judged(self, evidence: Evidence) -> dict:
        """The claim, its test, scope, findings and verdict, as plain values; nothing measured."""
        findings = self.rule(evidence)
        corpora = "; ".join(map(_size, evidence.corpora, evidence.corpora.values())) or "no corpus"
        return {
            "key": self.key,
            "claim": self.wording,
            "test": self.test,
            "scope": self.scope.format(corpora=corpora),
            "evidence": [finding._asdict() for finding in findings],
            "verdict": verdict(findings),
        }

    def context(self, evidence: Evidence) -> list[dict]:
        """Findings of measured times as plain values. Raises ValueError where one would decide."""
        findings = self.measured(evidence) if self.measured and evidence.measured_costs else []
        if deciding := [finding.text for finding in findings if finding.holds is not None]:
            raise ValueError(
                f"no verdict may rest on a measured time, but {deciding[0]!r} of {self.key} decides; set holds to None."
            )
        return [finding._asdict() for finding in findings]


def judged(evidence: Evidence) -> dict:
    """The ledger without what was measured: the `answer`, its `details`, and `claims` with their verdicts."""
    claims = [claim.judged(evidence) for claim in CLAIMS]
    counts = Counter(claim["verdict"] for claim in claims)
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    datasets = list(evidence.corpora)
    details = [f"What was measured here rests on {', '.join(datasets) or 'no corpus'}."]
    details += ["A verdict counts findings that are the same on every machine; measured times are context."]
    answer = f"Of {len(claims)} claims of the abstract: {said}."
    return {"answer": answer, "details": details, "datasets": datasets, "claims": claims}


def measured_context(evidence: Evidence) -> dict:
    """The measured part of the ledger: `findings` by key of the claim, and the commit and hardware that timed them."""
    findings = {claim.key: found for claim in CLAIMS if (found := claim.context(evidence))}
    return {name: evidence.measured_costs.get(name) for name in ("commit", "hardware")} | {"findings": findings}


def merged(ledger: dict, measured: dict) -> dict:
    """Both parts of a ledger as one, in the order of `CLAIMS`: measured findings follow the others of their claim.

    Every finding gets the `page` and `figure` that draw it, and whether it was `measured`; the ledger gets
    `measured_on`, the hardware.
    """
    context, claims = measured.get("findings", {}), {claim["key"]: claim for claim in ledger["claims"]}

    def placed(finding: dict, was_measured: bool) -> dict:
        place = SHOWN[finding["result"]]
        return finding | {"page": place.page, "figure": place.figure, "measured": was_measured}

    ordered = []
    for claim in (claims[known.key] for known in CLAIMS if known.key in claims):
        evidence = [placed(finding, False) for finding in claim["evidence"]]
        evidence += [placed(finding, True) for finding in context.get(claim["key"], [])]
        ordered.append(claim | {"evidence": evidence})
    return ledger | {"claims": ordered, "measured_on": measured.get("hardware")}


def files(profile: str, results: str | Path = "results") -> tuple[Path, Path]:
    """Where the ledger of a profile lies: `judged`, and `measured_context`.

    The first lies beside the profile's other results, on which its stage depends as a folder.
    """
    results = Path(results)
    return results / "claims" / f"{profile}.json", results / "measured" / profile / "claims.json"


def read_ledger(profile: str, results: str | Path = "results") -> dict:
    """The ledger of a profile, as the stage `ledger` wrote it, with its measured context; see `merged`.

    Returns {"answer": one sentence, "details": sentences, "datasets", "measured_on": hardware or None, "claims": [{
    "key", "claim", "test", "scope", "verdict", "evidence": [{"text", "value", "low", "high", "holds", "result", "page",
    "figure", "measured"}]}]}. Where the stage has not run, the answer says so and there are no claims.
    """
    file, timed = files(profile, results)
    if not file.exists():
        absent = f"No claim is judged here; the stage ledger of profile {profile} would do it."
        return {"answer": absent, "details": [], "datasets": [], "measured_on": None, "claims": []}
    measured = json.loads(timed.read_text(encoding="utf-8")) if timed.exists() else {}
    return merged(json.loads(file.read_text(encoding="utf-8")), measured)


def _size(dataset: str, stages: dict[str, dict]) -> str:
    scope = stages["benchmarks"]["scope"]
    kind = "no benchmark, " if scope["benchmark"] == "none" else f"{scope['benchmark']}, "
    seeds = f"{len(scope['seeds'])} seeds" if scope["seeds"] else "no training"
    return f"{dataset} ({kind}{scope['texts']:,} texts, {scope['videos']:,} videos, {seeds})"


CLAIMS = [
    Claim(
        "Adapting image-text pre-training such as CLIP is the state of the art.",
        "On every benchmark with published rows of both kinds the best row with CLIP leads, and on every corpus "
        "measured here the best head trained over CLIP leads zero-shot CLIP (paired, Holm, 5 %).",
        "Published rows as printed, few of them without CLIP and none of a video foundation model; measured on "
        "{corpora}.",
        rules.pretraining_leads,
    ),
    Claim(
        "The primary approaches map both modalities into a common space or let them interact on entities, effectively.",
        "The heads compared here are of both kinds, and the best of either kind finds more than zero-shot CLIP "
        "(paired, Holm, 5 %).",
        "The heads of this study, which is no survey; measured on {corpora}.",
        rules.two_paradigms,
    ),
    Claim(
        "These paradigms entail prohibitive computational cost and inefficient retrieval.",
        "A search takes more multiply-accumulates than CLIP's text encoder, which every query passes whatever the "
        "head: at the gallery of a benchmark, and at the largest one.",
        "Matrix products of searches in exact form at the size of ViT-B/32, the same on every machine; times are "
        "context.",
        rules.rivals_are_expensive,
        rules.searches_timed,
    ),
    Claim(
        "The global interaction module is parameter-free.",
        "No weight of the head has a gradient from a global score, the temporal encoder left out, which feeds both "
        "interactions.",
        "The released computation, ViT-B/32; holds for any data.",
        rules.global_interaction_is_free,
    ),
    Claim(
        "A shared local interaction with several learnable queries captures latent semantic concepts.",
        "In every seed a concept is closer to its own video's than to a wrong one's, the concepts of an item span at "
        "least two directions, and retrieval loses where they are left out (Holm, 5 %).",
        "Measured on {corpora}.",
        rules.queries_capture_concepts,
    ),
    Claim(
        "The inter-consistency loss aligns matching concepts of text and video.",
        "With the loss the cosine of matching concepts is higher than without, by 0.01 at least and for new seeds too, "
        "and R@1 gains (Holm, 5 %); in both readings of the loss.",
        "Measured on {corpora}, where training is short and CLIP may be frozen.",
        rules.consistency_aligns,
    ),
    Claim(
        "The intra-diversity loss makes the concepts more discriminative.",
        "With the loss the concepts of an item have a lower cosine than without, by 0.01 at least and for new seeds "
        "too, and R@1 gains (Holm, 5 %); in both readings of the loss.",
        "Measured on {corpora}, where training is short and CLIP may be frozen.",
        rules.diversity_discriminates,
    ),
    Claim(
        "Experiments on five benchmarks show superior effectiveness.",
        "On each of the five that is measured here, GLSCL leads its strongest rival under the same temporal encoder. "
        "What the paper's own tables say is context and decides nothing.",
        "The five benchmarks alone; measured here: {corpora}.",
        rules.best_on_five_benchmarks,
    ),
    Claim(
        "GLSCL is comparable with the state of the art.",
        "On each benchmark its published R@1 lies at most one sampling error of the test split below the best row of "
        "the paper's tables, and on each corpus measured here it is not worse than its strongest rival.",
        "Published rows of ViT-B/32 without post-processing, each a single run selected on its test split; measured "
        "on {corpora}.",
        rules.comparable_to_the_best,
    ),
    Claim(
        "GLSCL is nearly 220 times faster in computational cost.",
        "X-CLIP over GLSCL is at least nine tenths of the published factor in multiply-accumulates per pair, and in "
        "those of a query from text to result.",
        "Matrix products at the size of ViT-B/32, 12 frames and 32 words, the same on every machine; times are "
        "context.",
        rules.faster_as_claimed,
        rules.x_clip_timed,
    ),
    Claim(
        "GLSCL is more efficient than the other methods.",
        "Against each rival of the paper's cost column a pair and a query end to end take fewer multiply-accumulates, "
        "and on each corpus it trains to 90 % of the common best with fewer than each head compared.",
        "Matrix products at the size of ViT-B/32, times being context; training measured on {corpora}.",
        rules.cheaper_than_rivals,
        rules.rivals_timed,
    ),
]

"""The rules of the ledger: each gives the one finding that decides a claim of GLSCL's abstract, or None without it.

Which finding that is, its threshold and its direction were fixed before the results: one number of the released
computation, on a real benchmark where one was measured, else on the first corpus of the study that has the result.
`glscl.study.context` gives what stands beside it.
"""

from glscl.evaluation.statistics import LEVEL, interval_at, seed_interval
from glscl.report.names import head_name, name_of
from glscl.study.costs import BENCHMARK_SIZE, ENCODER, per_pair
from glscl.study.evidence import ABOVE, BELOW, WITHIN, Evidence, Finding
from glscl.study.published import comparable

SEVERAL = 2  # directions that the concepts of one item must span to count as several
VISIBLE = 0.01  # change of a mean cosine that counts as one
NEARLY = 0.9  # share of the claimed factor that counts as nearly
MARGIN = 1.0  # points of R@1 within which systems are comparable: what parts the best rows of the paper's tables
EFFECTIVE = 5.0  # points of R@1 over untrained CLIP that a head must add to be called effective
RECENT = 2022  # since when a system without CLIP is a rival of those with it, which appeared in 2021
RELEASED = "released"  # the authors' code decides, the reading of the text is context
# The heads that stand for the two paradigms: one vector per item, and words that interact with frames.
COMMON_SPACE, INTERACTING = "clip4clip_seqTransf", "x_clip"


def pretraining_leads(evidence: Evidence) -> Finding | None:
    """Best head over CLIP minus the best recent system without CLIP, on the real benchmark where it leads by least."""
    found = []
    for corpus, result in evidence.of("benchmarks"):
        rows = comparable(evidence.published)
        rows = rows[(rows["backbone"] == "non-CLIP") & (rows["year"] >= RECENT)]
        rival = rows.loc[rows["dataset"] == evidence.benchmark(corpus), "r1"].max()
        trained = [result["rows"][name]["t2v"]["R@1"] for name in layers_of_trained(evidence, corpus)]
        if trained and rival == rival:  # NaN without a rival
            best = max(trained, key=lambda one: one["mean"])
            lead = {edge: None if best[edge] is None else best[edge] - float(rival) for edge in ("mean", "low", "high")}
            text = f"{corpus}: R@1 of the best head over CLIP minus the best published since {RECENT} without"
            found.append(_decides(text, lead, "benchmarks.rows", 0, ABOVE))
    return min(filter(None, found), key=lambda one: one.value, default=None)


def layers_of_trained(evidence: Evidence, corpus: str) -> dict[str, int]:
    """Temporal layers of the methods of a corpus that trained."""
    layers, failed = evidence.corpora[corpus]["metrics"]["temporal_layers"], evidence.failed(corpus)
    return {method: number for method, number in layers.items() if method not in failed}


def two_paradigms(evidence: Evidence) -> Finding | None:
    """What the head of either paradigm adds to untrained CLIP, the smaller of the two."""
    for corpus, result in evidence.of("metrics")[:1]:
        heads = {COMMON_SPACE, INTERACTING} - evidence.failed(corpus)
        gains = {name: gain for name, gain in result["over_control"].items() if name in heads}
        if len(gains) == 2:
            name, gain = min(gains.items(), key=lambda one: one[1]["difference"])
            both = " and ".join(map(name_of, (COMMON_SPACE, INTERACTING)))
            text = f"{corpus}: R@1 minus that of untrained CLIP, of {both} the lower ({name_of(name)})"
            return _decides(text, gain, "metrics.over_control", EFFECTIVE, ABOVE)
    return None


def _decides(text: str, interval: dict, result: str, threshold: float, direction: str) -> Finding | None:
    """The finding that decides; None where one run or one query gave no interval."""
    if interval["low"] is None:
        return None
    value = interval["difference"] if "difference" in interval else interval["mean"]
    edges = {"low": interval["low"], "high": interval["high"]}
    return Finding(text, value, result, threshold=threshold, direction=direction, **edges)


def rivals_are_expensive(evidence: Evidence) -> Finding:
    """The gallery whose search with X-CLIP takes the work of CLIP's text encoder, which every query passes."""
    videos = evidence.costs["clip"][ENCODER] / per_pair(evidence.costs)[INTERACTING]
    text = "gallery in which a search with X-CLIP takes the work of CLIP's text encoder, videos"
    return Finding(text, videos, "costs.search", threshold=BENCHMARK_SIZE, direction=BELOW)


def global_interaction_is_free(evidence: Evidence) -> Finding:
    """Weights that the global score depends on."""
    part = "global interaction"
    text = f"weights of the {part}"
    return Finding(text, evidence.parameters[part], "ledger.parameters", threshold=1, direction=BELOW)


def queries_capture_concepts(evidence: Evidence) -> Finding | None:
    """Directions that the concepts of an item span, in the modality with fewer, over seeds."""
    for corpus, result in evidence.of_glscl("concepts")[:1]:
        ranks = [min(seed["rank_text"], seed["rank_video"]) for seed in result["seeds"].values()]
        if len(ranks) > 1:
            low, high = seed_interval(ranks)
            text = f"{corpus}: directions that the {result['concepts']} concepts of an item span (effective rank)"
            mean = {"mean": sum(ranks) / len(ranks), "low": low, "high": high}
            return _decides(text, mean, "concepts.seeds", SEVERAL, ABOVE)
    return None


def consistency_aligns(evidence: Evidence) -> Finding | None:
    """What the loss does to the cosine of matching concepts of a text and its video."""
    for corpus, effects in _released(evidence, "inter-consistency"):
        text = f"{corpus}: cosine of matching concepts with the loss minus without"
        return _decides(text, effects["matched"], "losses.contrasts", VISIBLE, ABOVE)
    return None


def _released(evidence: Evidence, part: str) -> list[tuple[str, dict]]:
    """What a part does under the released computation, on the corpus that decides; empty where it was not tried."""
    return [
        (corpus, result["contrasts"][part][RELEASED])
        for corpus, result in evidence.of_glscl("losses")[:1]
        if RELEASED in result["contrasts"].get(part, {})
    ]


def diversity_discriminates(evidence: Evidence) -> Finding | None:
    """What the loss does to the cosine of the concepts of one item, in the modality where it falls less."""
    for corpus, effects in _released(evidence, "intra-diversity"):
        side = max(("text", "video"), key=lambda one: effects[f"within_{one}"]["difference"])
        text = f"{corpus}: cosine of the concepts of a {side} with the loss minus without; it falls less than the other"
        return _decides(text, effects[f"within_{side}"], "losses.contrasts", -VISIBLE, BELOW)
    return None


def strongest_rival(evidence: Evidence, corpus: str) -> tuple[str, dict, int] | None:
    """Of the heads with GLSCL's temporal encoder, the one that GLSCL exceeds by least in R@1.

    Returns its name, GLSCL minus it, and how many such heads there are; None where GLSCL or all others did not train.
    """
    layers, minus = layers_of_trained(evidence, corpus), evidence.corpora[corpus]["metrics"]["glscl_minus"]
    rivals = {name: minus[name]["R@1"] for name in minus.keys() & layers.keys() if layers[name] == layers.get("glscl")}
    if not rivals:
        return None
    name, gain = min(rivals.items(), key=lambda one: one[1]["difference"])
    return name, gain, len(rivals)


def _against_the_strongest(evidence: Evidence, threshold: float, direction: str) -> Finding | None:
    """GLSCL minus its strongest rival, on the real benchmark where that is least.

    The interval of a lead covers all rivals at once; that of equivalence is of 90 %, for two tests at 5 %.
    """
    found = []
    for corpus in filter(evidence.benchmark, evidence.corpora):
        if rival := strongest_rival(evidence, corpus):
            name, gain, rivals = rival
            low, high = interval_at(gain, 2 * LEVEL if direction == WITHIN else LEVEL / rivals)
            text = f"{corpus}: R@1 of GLSCL minus its strongest rival, {name_of(name)}"
            found.append(_decides(text, gain | {"low": low, "high": high}, "metrics.glscl_minus", threshold, direction))
    return min(filter(None, found), key=lambda one: one.value, default=None)


def best_on_five_benchmarks(evidence: Evidence) -> Finding | None:
    """GLSCL minus its strongest rival on a real benchmark."""
    return _against_the_strongest(evidence, 0, ABOVE)


def comparable_to_the_best(evidence: Evidence) -> Finding | None:
    """Is GLSCL equivalent to its strongest rival on a real benchmark?"""
    return _against_the_strongest(evidence, MARGIN, WITHIN)


def faster_as_claimed(evidence: Evidence) -> Finding:
    """Work of X-CLIP on a pair over GLSCL's, against nine tenths of the published factor."""
    rival = evidence.costs["over_glscl"]["x_clip"]
    text, enough = "X-CLIP over GLSCL: work per pair, and so of a search, times", NEARLY * rival["published"]
    return Finding(text, rival["macs"]["pair"], "costs.over_glscl", threshold=enough, direction=ABOVE)


def cost_rivals(evidence: Evidence) -> list[str]:
    """The heads of the paper's cost column without GLSCL."""
    return sorted(evidence.costs["published"].keys() - {"glscl"})


def cheaper_than_rivals(evidence: Evidence) -> Finding:
    """Work of a pair over GLSCL's, of the cheapest rival in the paper's cost column."""
    work = {head: evidence.costs["over_glscl"][head]["macs"]["pair"] for head in cost_rivals(evidence)}
    head = min(work, key=work.__getitem__)
    text = f"work per pair of the cheapest of {len(work)} rivals, {head_name(head)}, over GLSCL's, times"
    return Finding(text, work[head], "costs.over_glscl", threshold=1, direction=ABOVE)

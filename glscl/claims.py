"""The claims of GLSCL's abstract, and for each the rule that turns the study's results into findings.

A rule takes the `Evidence` and returns findings; those that decide say whether they speak for the claim, and
`glscl.evidence.verdict` counts them.
"""

from collections.abc import Callable
from typing import NamedTuple

from glscl.evidence import Evidence, Finding, verdict
from glscl.published import FIVE, TEST_VIDEOS, comparable, own_tables

LEVEL = 0.05  # of a p-value after Holm's correction
SEVERAL = 2  # directions that the concepts of one item must span to count as several
VISIBLE = 0.01  # change of a mean cosine that counts as one
NEARLY = 0.9  # share of the claimed factor that counts as nearly
BENCHMARK_SIZE = 1_000  # videos, the gallery of most benchmarks
# Methods of the study that keep one vector per item and compare by one inner product.
COMMON_SPACE = ("clip4clip_meanP", "clip4clip_seqTransf", "ncl")


class Claim(NamedTuple):
    """A claim in the words of the abstract, the test that decides it, what the verdict holds for, and the rule."""

    wording: str
    test: str
    scope: str
    rule: Callable[[Evidence], list[Finding]]

    def judged(self, evidence: Evidence) -> dict:
        """The claim, its test, scope, findings and verdict, as plain values."""
        findings = self.rule(evidence)
        corpora = "; ".join(map(_size, evidence.corpora, evidence.corpora.values())) or "no corpus"
        return {
            "claim": self.wording,
            "test": self.test,
            "scope": self.scope.format(corpora=corpora),
            "evidence": [finding._asdict() for finding in findings],
            "verdict": verdict(findings),
        }


def _size(dataset: str, stages: dict[str, dict]) -> str:
    scope = stages["benchmarks"]["scope"]
    kind = "no benchmark, " if scope["benchmark"] == "none" else f"{scope['benchmark']}, "
    seeds = f"{len(scope['seeds'])} seeds" if scope["seeds"] else "no training"
    return f"{dataset} ({kind}{scope['texts']:,} texts, {scope['videos']:,} videos, {seeds})"


def pretraining_leads(evidence: Evidence) -> list[Finding]:
    """Best CLIP-based row minus best other row of each benchmark; best trained head minus zero-shot CLIP."""
    found = []
    for benchmark, rows in comparable(evidence.published).groupby("dataset", sort=False):
        clip, other = (rows.loc[rows["backbone"].str.contains(kind), "r1"] for kind in ("ViT", "non-CLIP"))
        if len(other):
            text = f"published, {benchmark}: best R@1 with CLIP minus best of {len(other)} without"
            gap = float(clip.max() - other.max())
            found.append(Finding(text, gap, gap > 0, "12_ledger", "Table 2"))
    for corpus, result, decides in evidence.of("benchmarks"):
        found += _best_over_clip(corpus, result["over_zero_shot"], decides, "the best head over CLIP")
    return found


def _best_over_clip(corpus: str, over: dict[str, dict], decides: bool, kind: str) -> list[Finding]:
    """The best of some trained heads minus zero-shot CLIP in R@1; it holds where the head is better after Holm."""
    if not over:
        return []
    name, gain = max(((name, one["R@1"]) for name, one in over.items()), key=lambda item: item[1]["difference"])
    holds = gain["p_holm"] < LEVEL and gain["difference"] > 0 if decides else None
    text = f"{corpus}: R@1 of {kind}, {name}, minus zero-shot CLIP"
    return [Finding(text, gain["difference"], holds, "08_benchmarks", "Table 5", gain["low"], gain["high"])]


def two_paradigms(evidence: Evidence) -> list[Finding]:
    """Heads with one inner product per pair, heads that interact, and whether the best of either improves on CLIP."""
    work = {head: sum(one["short"]["macs"]["pair"].values()) for head, one in evidence.costs["heads"].items()}
    cheap = sum(macs == work["mean_pooling"] for macs in work.values())
    counts = {"one inner product per pair": cheap, "work on words or frames per pair": len(work) - cheap}
    found = [Finding(f"heads with {kind}", count, count > 0, "06_costs", "Table 1") for kind, count in counts.items()]
    for corpus, result, decides in evidence.of("benchmarks"):
        over = result["over_zero_shot"]
        for kind, common in (("the best head in a common space", True), ("the best interacting head", False)):
            chosen = {name: one for name, one in over.items() if (name in COMMON_SPACE) == common}
            found += _best_over_clip(corpus, chosen, decides, kind)
    return found


def rivals_are_dear(evidence: Evidence) -> list[Finding]:
    """Time of a search over that of CLIP's text encoder, at a benchmark's gallery and at the largest one."""
    encoder, found = evidence.costs["clip"]["32 words"]["seconds"], []
    for head in sorted(evidence.costs["published"].keys() - {"glscl"}):
        rows = {row["gallery"]: row for row in evidence.costs["heads"][head]["short"]["queries"]}
        for gallery in _benchmark_and_largest(rows):
            times = rows[gallery]["seconds"] / encoder
            text = f"{head}: a search of {gallery:,} videos over CLIP's text encoder, times"
            text += "" if rows[gallery]["repeats"] else " (extrapolated)"
            found.append(Finding(text, times, times > 1, "06_costs", "Figure 2"))
    ways = {way: one["seconds"] for way, one in evidence.costs["whole_matrix"].items()}
    text = "x_pool: time of the released computation over an exact one with the same scores"
    found.append(Finding(text, ways["x_pool, as released"] / ways["x_pool, exact"], None, "06_costs", "Figure 4"))
    return found


def _benchmark_and_largest(galleries) -> list[int]:
    galleries = sorted(map(int, galleries))
    benchmark = max((size for size in galleries if size <= BENCHMARK_SIZE), default=galleries[0])
    return sorted({benchmark, galleries[-1]})


def global_interaction_is_free(evidence: Evidence) -> list[Finding]:
    """Weights that the global score depends on; those of the other parts beside them."""
    found = []
    for part, count in evidence.parameters.items():
        free = count == 0 if part == "global interaction" else None
        found.append(Finding(f"weights of the {part}", count, free, "12_ledger", "Table 1"))
    return found


def queries_capture_concepts(evidence: Evidence) -> list[Finding]:
    """Do concepts match across modalities, are there several, and does retrieval need them?"""
    found = []
    for corpus, result, decides in evidence.of("concepts"):
        seeds = result["seeds"].values()
        spans = [[seed[f"rank_{side}"] for seed in seeds] for side in ("text", "video")]
        shared = [seed["matched"] - seed["wrong_pair"] for seed in seeds]
        text = f"{corpus}: cosine of a concept in text and own video, minus in a wrong video; lowest and highest seed"
        found.append(_over_seeds(text, shared, min(shared) > 0 if decides else None, "Table 1"))
        for side, ranks in zip(("text", "video"), spans, strict=True):
            text = f"{corpus}: directions that the {result['concepts']} concepts of a {side} span (effective rank)"
            found.append(_over_seeds(text, ranks, min(ranks) >= SEVERAL if decides else None, "Table 1"))
    return found + _effects(evidence, "no local interaction")


def _over_seeds(text: str, values: list[float], holds: bool | None, figure: str) -> Finding:
    return Finding(text, sum(values) / len(values), holds, "05_concepts", figure, min(values), max(values))


def _effects(evidence: Evidence, ablation: str) -> list[Finding]:
    """Full model minus the ablated one in R@1, for each variant; it holds where the full one is better after Holm."""
    found = []
    for corpus, result, decides in evidence.of("losses"):
        for name, effect in result["effects"].items():
            variant, _, removed = name.partition("/")
            if removed == ablation:
                text = f"{corpus}, {variant}: R@1 of the full model minus {ablation}"
                holds = effect["p_holm"] < LEVEL and effect["difference"] > 0 if decides else None
                edges = effect["low"], effect["high"]
                found.append(Finding(text, effect["difference"], holds, "09_losses", "Figure 1", *edges))
    return found


def _change(evidence: Evidence, ablation: str, statistic: str, what: str, rises: bool) -> list[Finding]:
    """What a loss does to a cosine of concepts after the last epoch, full minus ablated, for each variant.

    It holds where the cosine moves as the loss intends, visibly, and so that new seeds would show it too.
    """
    found = []
    for corpus, result, decides in evidence.of("losses"):
        for name, effects in result["concept_effects"].items():
            variant, _, removed = name.partition("/")
            if removed == ablation:
                change, low, high = (effects[statistic][part] for part in ("difference", "low", "high"))
                text = f"{corpus}, {variant}: {what} with the loss minus without"
                intended = change >= VISIBLE and low > 0 if rises else change <= -VISIBLE and high < 0
                found.append(Finding(text, change, intended if decides else None, "09_losses", "Table 8", low, high))
    return found


def consistency_aligns(evidence: Evidence) -> list[Finding]:
    """Does the loss bring matching concepts together, and does retrieval gain?"""
    ablation = "no inter-consistency"
    together = _change(evidence, ablation, "matched", "cosine of matching concepts", rises=True)
    return together + _effects(evidence, ablation)


def diversity_discriminates(evidence: Evidence) -> list[Finding]:
    """Does the loss push the concepts of an item apart, and does retrieval gain?"""
    ablation, found = "no intra-diversity", []
    for side in ("text", "video"):
        found += _change(evidence, ablation, f"within_{side}", f"cosine within a {side}", rises=False)
    return found + _effects(evidence, ablation)


def best_on_five_benchmarks(evidence: Evidence) -> list[Finding]:
    """GLSCL minus the best head measured on each of the five; what the paper's tables say stands beside."""
    found = []
    for benchmark in FIVE:
        own, other = own_tables(evidence.published, benchmark)
        text = f"published, {benchmark}: R@1 of GLSCL minus {other['method']}, the best of its table"
        found.append(Finding(text, own["r1"] - other["r1"], None, "12_ledger", "Table 2"))
    real = {corpus for corpus, stages in evidence.corpora.items() if stages["benchmarks"]["scope"]["benchmark"] in FIVE}
    measured = [(c, r, d) for c, r, d in evidence.of("metrics") if c in real]
    return found + [_worst(*one, better=True) for one in measured if one[1]["glscl_minus"]]


def _worst(corpus: str, result: dict, decides: bool, better: bool) -> Finding:
    """GLSCL minus its strongest rival; it holds where GLSCL is better, or else where it is not worse."""
    layers = result["temporal_layers"]
    alike = {m: gain["R@1"] for m, gain in result["glscl_minus"].items() if layers[m] == layers["glscl"]}
    rivals = alike or {m: gain["R@1"] for m, gain in result["glscl_minus"].items()}
    name, gain = min(rivals.items(), key=lambda item: item[1]["difference"])
    holds = gain["low"] > 0 if better else gain["high"] >= 0
    text = f"{corpus}: R@1 of GLSCL minus its strongest rival, {name}"
    edges = gain["low"], gain["high"]
    return Finding(text, gain["difference"], holds if decides else None, "04_evaluate", "Figure 1", *edges)


def comparable_to_the_best(evidence: Evidence) -> list[Finding]:
    """Is GLSCL's published R@1 within the sampling error of the best in its tables, and is it not worse here?"""
    found = []
    for benchmark in FIVE:
        own, other = own_tables(evidence.published, benchmark)
        gap, share = own["r1"] - other["r1"], own["r1"] / 100
        error = 196 * (share * (1 - share) / TEST_VIDEOS[benchmark]) ** 0.5
        text = f"published, {benchmark}: R@1 of GLSCL minus {other['method']}; sampling error {error:.1f}"
        found.append(Finding(text, gap, gap >= -error, "12_ledger", "Table 2"))
    found += [_worst(*one, better=False) for one in evidence.of("metrics") if one[1]["glscl_minus"]]
    for corpus, result, _ in evidence.of("transfer"):
        for way, heads in result["ways"].items():
            if "glscl" in heads:
                kept = heads["glscl"]["retained"]["zero_shot"]
                text = f"{corpus}: share of in-domain R@1 that GLSCL retains from {way}, %"
                found.append(Finding(text, kept["mean"], None, "11_transfer", "Figure 1", kept["low"], kept["high"]))
    return found


def faster_as_claimed(evidence: Evidence) -> list[Finding]:
    """X-CLIP over GLSCL: the claimed factor, work counted in full, a search, and a query end to end."""
    rival = evidence.costs["over_glscl"]["x_clip"]
    claimed, search = rival["published"], rival["search"]
    enough = NEARLY * claimed
    found = [Finding("X-CLIP over GLSCL: published, inner products of a pair", claimed, None, "06_costs", "Table 4")]
    work = rival["macs"]["pair"]
    found.append(Finding("X-CLIP over GLSCL: work per pair in full", work, work >= enough, "06_costs", "Table 8"))
    text, edges = f"X-CLIP over GLSCL: search of {search['gallery']:,} videos", (search["low"], search["high"])
    found.append(Finding(text, search["ratio"], search["ratio"] >= enough, "06_costs", "Table 8", *edges))
    for gallery in _benchmark_and_largest(rival["end_to_end"]):
        times = rival["end_to_end"][str(gallery)]
        text = f"X-CLIP over GLSCL: query against {gallery:,} videos, end to end"
        found.append(Finding(text, times, times >= enough, "06_costs", "Table 8"))
    return found


def cheaper_than_rivals(evidence: Evidence) -> list[Finding]:
    """Rivals of the paper's table over GLSCL: a search and a query end to end; and training to 90 % of the best."""
    found = []
    for head in sorted(evidence.costs["published"].keys() - {"glscl"}):
        rival = evidence.costs["over_glscl"][head]
        search, (gallery, *_) = rival["search"], _benchmark_and_largest(rival["end_to_end"])
        edges = search["low"], search["high"]
        text = f"{head} over GLSCL: search of {search['gallery']:,} videos, times"
        found.append(Finding(text, search["ratio"], search["low"] > 1, "06_costs", "Table 8", *edges))
        times = rival["end_to_end"][str(gallery)]
        text = f"{head} over GLSCL: query against {gallery:,} videos, end to end, times"
        found.append(Finding(text, times, times > 1, "06_costs", "Table 8"))
    for corpus, result, decides in evidence.of("convergence"):
        if "glscl" in result["heads"]:
            found += _training(corpus, result["heads"], decides)
    return found


def _training(corpus: str, heads: dict[str, dict], decides: bool) -> list[Finding]:
    """Multiply-accumulates of training up to 90 % of the common best, each head over GLSCL."""
    own, found = heads["glscl"]["macs_to_90"], []
    for name in sorted(heads.keys() - {"glscl"}):
        rival = heads[name]["macs_to_90"]
        text = f"{corpus}: {name} over GLSCL: work of training to 90 % of the common best, times"
        if None in (own["mean"], rival["mean"]):  # not every seed reached it, so there is no mean
            reached = heads["glscl"]["reached"] - heads[name]["reached"]
            text = f"{corpus}: runs of GLSCL minus runs of {name} that reach 90 % of the common best"
            holds = reached > 0 if decides and reached else None
            found.append(Finding(text, reached, holds, "10_convergence", "Table 2"))
            continue
        one_seed = own["high"] is None  # so that there is no interval
        apart = own["high"] < rival["low"] if decides and not one_seed else None
        found.append(Finding(text, rival["mean"] / own["mean"], apart, "10_convergence", "Table 2"))
    return found


CLAIMS = [
    Claim(
        "Adapting image-text pre-training such as CLIP is the state of the art.",
        "On every benchmark with published rows of both kinds the best row with CLIP leads, and on every corpus "
        "measured here the best head trained over CLIP leads zero-shot CLIP (paired, Holm, 5 %).",
        "Published rows as printed, few of them without CLIP and none of a video foundation model; measured on "
        "{corpora}.",
        pretraining_leads,
    ),
    Claim(
        "The primary approaches map both modalities into a common space or let them interact on entities, effectively.",
        "The heads compared here are of both kinds, and the best of either kind finds more than zero-shot CLIP "
        "(paired, Holm, 5 %).",
        "The heads of this study, which is no survey; measured on {corpora}.",
        two_paradigms,
    ),
    Claim(
        "These paradigms entail prohibitive computational cost and inefficient retrieval.",
        "A search takes longer than CLIP's text encoder, which every query passes whatever the head: at the gallery "
        "of a benchmark, and at the largest one.",
        "Search in exact form at the size of ViT-B/32, one query at a time; large galleries may be extrapolated.",
        rivals_are_dear,
    ),
    Claim(
        "The global interaction module is parameter-free.",
        "No weight of the head has a gradient from a global score, the temporal encoder left out, which feeds both "
        "interactions.",
        "The released computation, ViT-B/32; holds for any data.",
        global_interaction_is_free,
    ),
    Claim(
        "A shared local interaction with several learnable queries captures latent semantic concepts.",
        "In every seed a concept is closer to its own video's than to a wrong one's, the concepts of an item span at "
        "least two directions, and retrieval loses where they are left out (Holm, 5 %).",
        "Measured on {corpora}.",
        queries_capture_concepts,
    ),
    Claim(
        "The inter-consistency loss aligns matching concepts of text and video.",
        "With the loss the cosine of matching concepts is higher than without, by 0.01 at least and for new seeds too, "
        "and R@1 gains (Holm, 5 %); in both readings of the loss.",
        "Measured on {corpora}, where training is short and CLIP may be frozen.",
        consistency_aligns,
    ),
    Claim(
        "The intra-diversity loss makes the concepts more discriminative.",
        "With the loss the concepts of an item have a lower cosine than without, by 0.01 at least and for new seeds "
        "too, and R@1 gains (Holm, 5 %); in both readings of the loss.",
        "Measured on {corpora}, where training is short and CLIP may be frozen.",
        diversity_discriminates,
    ),
    Claim(
        "Experiments on five benchmarks show superior effectiveness.",
        "On each of the five that is measured here, GLSCL leads its strongest rival under the same temporal encoder. "
        "What the paper's own tables say stands beside and decides nothing.",
        "The five benchmarks alone; measured here: {corpora}.",
        best_on_five_benchmarks,
    ),
    Claim(
        "GLSCL is comparable with the state of the art.",
        "On each benchmark its published R@1 lies at most one sampling error of the test split below the best row of "
        "the paper's tables, and on each corpus measured here it is not worse than its strongest rival.",
        "Published rows of ViT-B/32 without post-processing, each a single run selected on its test split; measured "
        "on {corpora}.",
        comparable_to_the_best,
    ),
    Claim(
        "GLSCL is nearly 220 times faster in computational cost.",
        "X-CLIP over GLSCL is at least nine tenths of the published factor in work per pair, in a search, and in a "
        "query from text to result.",
        "ViT-B/32, 12 frames and 32 words, one thread; large galleries may be extrapolated.",
        faster_as_claimed,
    ),
    Claim(
        "GLSCL is more efficient than the other methods.",
        "Against each rival of the paper's cost column a search and a query end to end take less time, and on each "
        "corpus it trains to 90 % of the common best with less work than each head compared.",
        "Costs at the size of ViT-B/32; training measured on {corpora}.",
        cheaper_than_rivals,
    ),
]

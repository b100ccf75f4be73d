"""The rules of the ledger: each turns the study's results into findings on one claim of GLSCL's abstract.

Those that decide see numbers that are the same on every machine. Those named `..._timed` see what this machine
measured: their findings are context and decide nothing.
"""

from glscl.study.costs import shown_galleries
from glscl.study.evidence import Evidence, Finding
from glscl.study.published import FIVE, TEST_VIDEOS, comparable, own_tables

LEVEL = 0.05  # of a p-value after Holm's correction
SEVERAL = 2  # directions that the concepts of one item must span to count as several
VISIBLE = 0.01  # change of a mean cosine that counts as one
NEARLY = 0.9  # share of the claimed factor that counts as nearly
# Methods of the study that keep one vector per item and compare by one inner product.
COMMON_SPACE = ("clip4clip_meanP", "clip4clip_seqTransf", "ncl")


def pretraining_leads(evidence: Evidence) -> list[Finding]:
    """Best CLIP-based row minus best other row of each benchmark; best trained head minus zero-shot CLIP."""
    found = []
    for benchmark, rows in comparable(evidence.published).groupby("dataset", sort=False):
        clip, other = (rows.loc[rows["backbone"].str.contains(kind), "r1"] for kind in ("ViT", "non-CLIP"))
        if len(other):
            text = f"published, {benchmark}: best R@1 with CLIP minus best of {len(other)} without"
            gap = float(clip.max() - other.max())
            found.append(Finding(text, gap, gap > 0, "ledger.published"))
    for corpus, result in evidence.of("benchmarks"):
        found += _best_over_clip(corpus, result["over_zero_shot"], "the best head over CLIP")
    return found


def _best_over_clip(corpus: str, over: dict[str, dict], kind: str) -> list[Finding]:
    """The best of some trained heads minus zero-shot CLIP in R@1; it holds where the head is better after Holm."""
    if not over:
        return []
    name, gain = max(((name, one["R@1"]) for name, one in over.items()), key=lambda item: item[1]["difference"])
    holds = gain["p_holm"] < LEVEL and gain["difference"] > 0
    text = f"{corpus}: R@1 of {kind}, {name}, minus zero-shot CLIP"
    return [Finding(text, gain["difference"], holds, "benchmarks.over_zero_shot", gain["low"], gain["high"])]


def two_paradigms(evidence: Evidence) -> list[Finding]:
    """Heads with one inner product per pair, heads that interact, and whether the best of either improves on CLIP."""
    work = {head: _per_pair(evidence, head) for head in evidence.costs["heads"]}
    common = sum(macs == work["mean_pooling"] for macs in work.values())
    counts = {"one inner product per pair": common, "work on words or frames per pair": len(work) - common}
    found = [Finding(f"heads with {kind}", count, count > 0, "costs.heads") for kind, count in counts.items()]
    for corpus, result in evidence.of("benchmarks"):
        over = result["over_zero_shot"]
        for kind, common in (("the best head in a common space", True), ("the best interacting head", False)):
            chosen = {name: one for name, one in over.items() if (name in COMMON_SPACE) == common}
            found += _best_over_clip(corpus, chosen, kind)
    return found


def _per_pair(evidence: Evidence, head: str, kind: str = "pair") -> int:
    return sum(evidence.costs["heads"][head]["short"]["macs"][kind].values())


def _rivals(evidence: Evidence) -> list[str]:
    """The heads of the paper's cost column without GLSCL."""
    return sorted(evidence.costs["published"].keys() - {"glscl"})


def rivals_are_expensive(evidence: Evidence) -> list[Finding]:
    """Work of a search over that of CLIP's text encoder, at a benchmark's gallery and at the largest one."""
    encoder, found = evidence.costs["clip"]["32 words"], []
    for head in _rivals(evidence):
        for gallery in shown_galleries(evidence.costs["galleries"]):
            times = gallery * _per_pair(evidence, head) / encoder
            text = f"{head}: work of a search of {gallery:,} videos over that of CLIP's text encoder, times"
            found.append(Finding(text, times, times > 1, "costs.search"))
    text = "x_pool: work per pair as released over an exact form with the same scores, times"
    wasted = _per_pair(evidence, "x_pool", "released") / _per_pair(evidence, "x_pool")
    return [*found, Finding(text, wasted, None, "costs.heads")]


def searches_timed(evidence: Evidence) -> list[Finding]:
    """Time of a search over that of CLIP's text encoder, and of X-Pool's released computation over an exact one."""
    costs, found = evidence.measured_costs, []
    encoder = costs["clip"]["32 words"]["seconds"]
    for head in _rivals(evidence):
        rows = {row["gallery"]: row for row in costs["heads"][head]["short"]["queries"]}
        for gallery in shown_galleries(rows):
            text = f"{head}: time of a search of {gallery:,} videos over that of CLIP's text encoder, times"
            text += "" if rows[gallery]["repeats"] else " (extrapolated)"
            found.append(Finding(text, rows[gallery]["seconds"] / encoder, None, "costs.queries"))
    ways = {way: one["seconds"] for way, one in costs["whole_matrix"].items()}
    text = "x_pool: time of the released computation over an exact one with the same scores, times"
    return [*found, Finding(text, ways["x_pool, as released"] / ways["x_pool, exact"], None, "costs.whole_matrix")]


def global_interaction_is_free(evidence: Evidence) -> list[Finding]:
    """Weights that the global score depends on; those of the other parts as context."""
    found = []
    for part, count in evidence.parameters.items():
        free = count == 0 if part == "global interaction" else None
        found.append(Finding(f"weights of the {part}", count, free, "ledger.parameters"))
    return found


def queries_capture_concepts(evidence: Evidence) -> list[Finding]:
    """Do concepts match across modalities, are there several, and does retrieval need them?"""
    found = []
    for corpus, result in evidence.of("concepts"):
        seeds = result["seeds"].values()
        spans = [[seed[f"rank_{side}"] for seed in seeds] for side in ("text", "video")]
        shared = [seed["matched"] - seed["wrong_pair"] for seed in seeds]
        text = f"{corpus}: cosine of a concept in text and own video, minus in a wrong video; lowest and highest seed"
        found.append(_over_seeds(text, shared, min(shared) > 0))
        for side, ranks in zip(("text", "video"), spans, strict=True):
            text = f"{corpus}: directions that the {result['concepts']} concepts of a {side} span (effective rank)"
            found.append(_over_seeds(text, ranks, min(ranks) >= SEVERAL))
    return found + _effects(evidence, "no local interaction")


def _over_seeds(text: str, values: list[float], holds: bool) -> Finding:
    return Finding(text, sum(values) / len(values), holds, "concepts.seeds", min(values), max(values))


def _effects(evidence: Evidence, ablation: str) -> list[Finding]:
    """Full model minus the ablated one in R@1, for each variant; it holds where the full one is better after Holm."""
    found = []
    for corpus, result in evidence.of("losses"):
        for name, effect in result["effects"].items():
            variant, _, removed = name.partition("/")
            if removed == ablation:
                text = f"{corpus}, {variant}: R@1 of the full model minus {ablation}"
                holds = effect["p_holm"] < LEVEL and effect["difference"] > 0
                edges = effect["low"], effect["high"]
                found.append(Finding(text, effect["difference"], holds, "losses.effects", *edges))
    return found


def _change(evidence: Evidence, ablation: str, statistic: str, what: str, rises: bool) -> list[Finding]:
    """What a loss does to a cosine of concepts after the last epoch, full minus ablated, for each variant.

    It holds where the cosine moves as the loss intends, visibly, and so that new seeds would show it too.
    """
    found = []
    for corpus, result in evidence.of("losses"):
        for name, effects in result["concept_effects"].items():
            variant, _, removed = name.partition("/")
            if removed == ablation:
                change, low, high = (effects[statistic][part] for part in ("difference", "low", "high"))
                text = f"{corpus}, {variant}: {what} with the loss minus without"
                intended = change >= VISIBLE and low > 0 if rises else change <= -VISIBLE and high < 0
                found.append(Finding(text, change, intended, "losses.concept_effects", low, high))
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
    """GLSCL minus the best head measured on each of the five; what the paper's tables say is context."""
    found = []
    for benchmark in FIVE:
        own, other = own_tables(evidence.published, benchmark)
        text = f"published, {benchmark}: R@1 of GLSCL minus {other['method']}, the best of its table"
        found.append(Finding(text, own["r1"] - other["r1"], None, "ledger.published"))
    real = {corpus for corpus, stages in evidence.corpora.items() if stages["benchmarks"]["scope"]["benchmark"] in FIVE}
    measured = [(corpus, result) for corpus, result in evidence.of("metrics") if corpus in real]
    return found + [_worst(*one, better=True) for one in measured if one[1]["glscl_minus"]]


def _worst(corpus: str, result: dict, better: bool) -> Finding:
    """GLSCL minus its strongest rival; it holds where GLSCL is better, or else where it is not worse."""
    layers = result["temporal_layers"]
    alike = {m: gain["R@1"] for m, gain in result["glscl_minus"].items() if layers[m] == layers["glscl"]}
    rivals = alike or {m: gain["R@1"] for m, gain in result["glscl_minus"].items()}
    name, gain = min(rivals.items(), key=lambda item: item[1]["difference"])
    holds = gain["low"] > 0 if better else gain["high"] >= 0
    text = f"{corpus}: R@1 of GLSCL minus its strongest rival, {name}"
    return Finding(text, gain["difference"], holds, "metrics.glscl_minus", gain["low"], gain["high"])


def comparable_to_the_best(evidence: Evidence) -> list[Finding]:
    """Is GLSCL's published R@1 within the sampling error of the best in its tables, and is it not worse here?"""
    found = []
    for benchmark in FIVE:
        own, other = own_tables(evidence.published, benchmark)
        gap, share = own["r1"] - other["r1"], own["r1"] / 100
        error = 196 * (share * (1 - share) / TEST_VIDEOS[benchmark]) ** 0.5
        text = f"published, {benchmark}: R@1 of GLSCL minus {other['method']}; sampling error {error:.1f}"
        found.append(Finding(text, gap, gap >= -error, "ledger.published"))
    found += [_worst(*one, better=False) for one in evidence.of("metrics") if one[1]["glscl_minus"]]
    for corpus, result in evidence.of("transfer"):
        found += [_retained(corpus, result, transfer) for transfer, of in result["transfers"].items() if "glscl" in of]
    return found


def _retained(corpus: str, result: dict, transfer: str) -> Finding:
    """What GLSCL retains of its in-domain R@1; where that is below zero-shot CLIP, how it compares with CLIP."""
    kept = result["transfers"][transfer]["glscl"]["retained"].get("zero_shot")
    text, place = f"{corpus}: share of in-domain R@1 that GLSCL retains from {transfer}, %", "transfer.retained"
    if kept is None:
        kept, place = result["over_clip"][transfer]["glscl"]["zero_shot"], "transfer.over_clip"
        text = f"{corpus}: R@1 of GLSCL from {transfer} minus zero-shot CLIP (in-domain it is below CLIP: no share)"
    return Finding(text, kept["mean"], None, place, kept["low"], kept["high"])


def faster_as_claimed(evidence: Evidence) -> list[Finding]:
    """X-CLIP over GLSCL: the claimed factor, work per pair counted in full, and the work of a query end to end."""
    rival = evidence.costs["over_glscl"]["x_clip"]
    claimed, work = rival["published"], rival["macs"]["pair"]
    enough = NEARLY * claimed
    found = [Finding("X-CLIP over GLSCL: published, inner products of a pair, times", claimed, None, "costs.published")]
    text = "X-CLIP over GLSCL: work per pair in full, and so of a search, times"
    found.append(Finding(text, work, work >= enough, "costs.over_glscl"))
    for gallery in shown_galleries(rival["end_to_end"]):
        times = rival["end_to_end"][str(gallery)]
        text = f"X-CLIP over GLSCL: work of a query against {gallery:,} videos, end to end, times"
        found.append(Finding(text, times, times >= enough, "costs.over_glscl"))
    return found


def x_clip_timed(evidence: Evidence) -> list[Finding]:
    """Time of X-CLIP over GLSCL's: a search, and a query end to end."""
    rival = evidence.measured_costs["over_glscl"]["x_clip"]
    return _times("X-CLIP", rival, shown_galleries(rival["end_to_end"]))


def _times(head: str, rival: dict, galleries: list[int]) -> list[Finding]:
    search = rival["search"]
    text = f"{head} over GLSCL: time of a search of {search['gallery']:,} videos, times"
    found = [Finding(text, search["ratio"], None, "costs.over_glscl", search["low"], search["high"])]
    for gallery in galleries:
        text = f"{head} over GLSCL: time of a query against {gallery:,} videos, end to end, times"
        text += " (extrapolated)" if gallery in rival["extrapolated"] else ""
        found.append(Finding(text, rival["end_to_end"][str(gallery)], None, "costs.over_glscl"))
    return found


def cheaper_than_rivals(evidence: Evidence) -> list[Finding]:
    """Rivals of the paper's table over GLSCL: work of a pair and of a query; and of training to 90 % of the best."""
    found = []
    for head in _rivals(evidence):
        rival = evidence.costs["over_glscl"][head]
        gallery, *_ = shown_galleries(rival["end_to_end"])
        work, query = rival["macs"]["pair"], rival["end_to_end"][str(gallery)]
        text = f"{head} over GLSCL: work per pair, and so of a search, times"
        found.append(Finding(text, work, work > 1, "costs.over_glscl"))
        text = f"{head} over GLSCL: work of a query against {gallery:,} videos, end to end, times"
        found.append(Finding(text, query, query > 1, "costs.over_glscl"))
    for corpus, result in evidence.of("convergence"):
        if "glscl" in result["heads"]:
            found += _training(corpus, result["heads"])
    return found


def rivals_timed(evidence: Evidence) -> list[Finding]:
    """Time of the rivals of the paper's table over GLSCL's: a search, and a query end to end at a benchmark's size."""
    found = []
    for head in _rivals(evidence):
        rival = evidence.measured_costs["over_glscl"][head]
        found += _times(head, rival, shown_galleries(rival["end_to_end"])[:1])
    return found


def _training(corpus: str, heads: dict[str, dict]) -> list[Finding]:
    """Multiply-accumulates of training up to 90 % of the common best, each head over GLSCL."""
    own, found = heads["glscl"]["macs_to_90"], []
    for name in sorted(heads.keys() - {"glscl"}):
        rival = heads[name]["macs_to_90"]
        text = f"{corpus}: {name} over GLSCL: work of training to 90 % of the common best, times"
        if None in (own["mean"], rival["mean"]):  # not every seed reached it, so there is no mean
            reached = heads["glscl"]["reached"] - heads[name]["reached"]
            text = f"{corpus}: runs of GLSCL minus runs of {name} that reach 90 % of the common best"
            found.append(Finding(text, reached, reached > 0 if reached else None, "convergence.macs_to_90"))
            continue
        one_seed = own["high"] is None  # so that there is no interval
        cheaper = None if one_seed else own["high"] < rival["low"]
        found.append(Finding(text, rival["mean"] / own["mean"], cheaper, "convergence.macs_to_90"))
    return found

"""What stands beside the deciding finding of a claim: published rows, other measurements, and times of one machine.

None of it decides. Functions have the names of the rules in `glscl.study.rules` that they stand beside.
"""

import pandas as pd

from glscl.report.names import head_name, name_of
from glscl.study.costs import ENCODER, SHORT, per_pair, shown_galleries
from glscl.study.evidence import PUBLISHED, TIME, Evidence, Finding, own_ablations
from glscl.study.published import FIVE, TEST_VIDEOS, comparable, own_tables
from glscl.study.rules import COMMON_SPACE, INTERACTING, RELEASED, cost_rivals, strongest_rival


def _measured(text: str, interval: dict, result: str) -> Finding:
    value = interval["difference"] if "difference" in interval else interval["mean"]
    return Finding(text, value, result, interval["low"], interval["high"])


def pretraining_leads(evidence: Evidence) -> list[Finding]:
    """Best published row with CLIP minus the best without; the best head over CLIP minus its control."""
    found = []
    for benchmark, rows in comparable(evidence.published).groupby("dataset", sort=False):
        clip, other = (rows[rows["backbone"].str.contains(kind)] for kind in ("ViT", "non-CLIP"))
        if len(other):
            text = f"{benchmark}: best R@1 with CLIP minus best of {len(other)} without (last of {other['year'].max()})"
            found.append(Finding(text, clip["r1"].max() - other["r1"].max(), "ledger.published", kind=PUBLISHED))
    for corpus, gains in _over_control(evidence):
        if gains:
            name = max(gains, key=lambda one: gains[one]["difference"])
            text = f"{corpus}: R@1 of the best head over CLIP, {name_of(name)}, minus its control; all heads have CLIP"
            found.append(_measured(text, gains[name], "metrics.over_control"))
    return found


def _over_control(evidence: Evidence) -> list[tuple[str, dict]]:
    """(corpus, {method: R@1 minus that of its control}) of the methods that trained."""
    return [
        (corpus, {name: gain for name, gain in result["over_control"].items() if name not in evidence.failed(corpus)})
        for corpus, result in evidence.of("metrics")
    ]


def two_paradigms(evidence: Evidence) -> list[Finding]:
    """Heads of either kind; what those that stand for them add on every corpus."""
    work = per_pair(evidence.costs)
    common = sum(macs == work["mean_pooling"] for macs in work.values())
    kinds = {"one inner product per pair": common, "work on words or frames per pair": len(work) - common}
    found = [Finding(f"heads of this study with {kind}", count, "costs.heads") for kind, count in kinds.items()]
    return found + [
        _measured(f"{corpus}: R@1 of {name_of(name)} minus that of untrained CLIP", gains[name], "metrics.over_control")
        for corpus, gains in _over_control(evidence)
        for name in (COMMON_SPACE, INTERACTING)
        if name in gains
    ]


def rivals_are_expensive(evidence: Evidence) -> list[Finding]:
    """The paper's column, and the work of a search over that of CLIP's text encoder at two galleries."""
    found, encoder = _published_costs(evidence), evidence.costs["clip"][ENCODER]
    work, released = per_pair(evidence.costs), per_pair(evidence.costs, "released")
    for head in cost_rivals(evidence):
        for gallery in shown_galleries(evidence.costs["galleries"]):
            text = f"{head_name(head)}: work of a search of {gallery:,} videos over that of CLIP's text encoder, times"
            found.append(Finding(text, gallery * work[head] / encoder, "costs.search"))
    text = "X-Pool: work per pair as released over an exact form with the same scores, times"
    return [*found, Finding(text, released["x_pool"] / work["x_pool"], "costs.heads")]


def _published_costs(evidence: Evidence) -> list[Finding]:
    return [
        Finding(
            f"{head_name(head)} over GLSCL: the paper's cost of a pair, times", times, "costs.published", kind=PUBLISHED
        )
        for head in cost_rivals(evidence)
        for times in [evidence.costs["published"][head] / evidence.costs["published"]["glscl"]]
    ]


def searches_timed(evidence: Evidence) -> list[Finding]:
    """Time of a search over that of CLIP's text encoder, and of X-Pool's released computation over an exact one."""
    measured, found = evidence.measured_costs, []
    encoder = measured["clip"][ENCODER]["seconds"]
    for head in cost_rivals(evidence):
        queries = {row["gallery"]: row for row in measured["heads"][head][SHORT]["queries"]}
        for gallery in shown_galleries(queries):
            text = f"{head_name(head)}: time of a search of {gallery:,} videos over that of CLIP's text encoder, times"
            text += "" if queries[gallery]["repeats"] else " (extrapolated)"
            found.append(Finding(text, queries[gallery]["seconds"] / encoder, "costs.queries", kind=TIME))
    ways = {way: one["seconds"] for way, one in measured["whole_matrix"].items()}
    text = "X-Pool: time of the released computation over an exact one with the same scores, times"
    wasted = ways["x_pool, as released"] / ways["x_pool, exact"]
    return [*found, Finding(text, wasted, "costs.whole_matrix", kind=TIME)]


def global_interaction_is_free(evidence: Evidence) -> list[Finding]:
    """Weights of the other parts."""
    others = {part: count for part, count in evidence.parameters.items() if part != "global interaction"}
    return [Finding(f"weights of the {part}", count, "ledger.parameters") for part, count in others.items()]


def queries_capture_concepts(evidence: Evidence) -> list[Finding]:
    """Statistics of the concepts on every corpus, lowest and highest seed; what the local interaction adds to R@1."""
    found = _own_ablation(evidence, "local interaction")
    for corpus, result in evidence.of_glscl("concepts"):
        seeds = list(result["seeds"].values())
        shared = [seed["matched"] - seed["wrong_pair"] for seed in seeds]
        text = f"{corpus}: cosine of a concept in text and own video, minus in a wrong video; lowest and highest seed"
        found.append(_over_seeds(text, shared))
        for side in ("text", "video"):
            text = f"{corpus}: effective rank of the concepts of a {side}; lowest and highest seed"
            found.append(_over_seeds(text, [seed[f"rank_{side}"] for seed in seeds]))
    return found + _contrasts(evidence, "local interaction", {"r1": "R@1"}) + _uncollapsed(evidence)


def _uncollapsed(evidence: Evidence) -> list[Finding]:
    """The setting of the losses with the highest effective rank, and what it does to R@1."""
    found = []
    for corpus, result in evidence.of_glscl("losses"):
        best = result["uncollapsed"]
        text = f"{corpus}: effective rank under {best['name']}, the highest of all settings tried"
        found.append(Finding(text, best["rank"], "losses.doses"))
        if best["r1"]:
            found.append(
                _measured(f"{corpus}: R@1 under {best['name']} minus the full model", best["r1"], "losses.doses")
            )
    return found


def _over_seeds(text: str, values: list[float]) -> Finding:
    return Finding(text, sum(values) / len(values), "concepts.seeds", min(values), max(values))


def _own_ablation(evidence: Evidence, part: str) -> list[Finding]:
    """What a part adds to R@1 in the paper's own ablation."""
    row = own_ablations(evidence.published).set_index("part").loc[part]
    text = f"{FIVE[0]}: R@1 with the {part} ({row['weight']}) minus without (0), single runs selected on the test split"
    return [Finding(text, float(row["minus without"]), "ledger.ablations", kind=PUBLISHED)]


def _contrasts(evidence: Evidence, part: str, outcomes: dict[str, str]) -> list[Finding]:
    """What a part does to some outcomes, with minus without, in each reading of the method."""
    return [
        _measured(f"{corpus}, {variant}: {what} with the {part} minus without", effects[name], "losses.contrasts")
        for corpus, result in evidence.of_glscl("losses")
        for variant, effects in sorted(result["contrasts"].get(part, {}).items(), key=lambda one: one[0] != RELEASED)
        for name, what in outcomes.items()
    ]


def consistency_aligns(evidence: Evidence) -> list[Finding]:
    """What the loss does to the cosine of matching concepts and to R@1, in each reading; the paper's own ablation."""
    part, outcomes = "inter-consistency", {"matched": "cosine of matching concepts", "r1": "R@1"}
    return _own_ablation(evidence, part) + _contrasts(evidence, part, outcomes)


def diversity_discriminates(evidence: Evidence) -> list[Finding]:
    """What the loss does to the cosine within items and to R@1, in each reading; the paper's own ablation."""
    part = "intra-diversity"
    outcomes = {f"within_{side}": f"cosine of the concepts of a {side}" for side in ("text", "video")} | {"r1": "R@1"}
    return _own_ablation(evidence, part) + _contrasts(evidence, part, outcomes)


def best_on_five_benchmarks(evidence: Evidence) -> list[Finding]:
    """GLSCL minus the best other row of the paper's tables; on every corpus, minus its strongest rival."""
    found = []
    for benchmark in FIVE:
        own, other = own_tables(evidence.published, benchmark)
        text = f"{benchmark}: R@1 of GLSCL minus {other['method']}, the best other of its table"
        found.append(Finding(text, own["r1"] - other["r1"], "ledger.published", kind=PUBLISHED))
    return found + _strongest(evidence)


def _strongest(evidence: Evidence) -> list[Finding]:
    rivals = {corpus: strongest_rival(evidence, corpus) for corpus in evidence.corpora}
    return [
        _measured(f"{corpus}: R@1 of GLSCL minus its strongest rival, {rival[0]}", rival[1], "metrics.glscl_minus")
        for corpus, rival in rivals.items()
        if rival
    ]


def comparable_to_the_best(evidence: Evidence) -> list[Finding]:
    """The gap to the best of the paper's tables and its sampling error; GLSCL on every corpus, also after a shift."""
    found = []
    for benchmark in FIVE:
        own, other = own_tables(evidence.published, benchmark)
        error = _sampling_error(own, benchmark)
        text = f"{benchmark}: R@1 of GLSCL minus {other['method']}; sampling error {error:.1f}"
        found.append(Finding(text, own["r1"] - other["r1"], "ledger.published", kind=PUBLISHED))
    found += _strongest(evidence)
    for corpus, result in evidence.of("transfer"):
        for shift, heads in result["shifts"].items():
            if "glscl" in heads and "glscl" not in result["did_not_train"][shift]:
                text = f"{corpus}: R@1 of GLSCL minus untrained CLIP after the shift {shift}, zero-shot"
                found.append(_measured(text, heads["glscl"]["over_untrained"], "transfer.over_untrained"))
    return found


def _sampling_error(row: pd.Series, benchmark: str) -> float:
    """Half of the 95 % interval of a published R@1, in points."""
    share = row["r1"] / 100
    return 196 * (share * (1 - share) / TEST_VIDEOS[benchmark]) ** 0.5


def faster_as_claimed(evidence: Evidence) -> list[Finding]:
    """The claimed factor; work as the release computes a pair, and of a query end to end."""
    rival = evidence.costs["over_glscl"]["x_clip"]
    text = "X-CLIP over GLSCL: inner products of a pair, times"
    found = [Finding(text, rival["published"], "costs.published", kind=PUBLISHED)]
    text = "X-CLIP over GLSCL: work per pair as the released procedures compute it, times"
    found.append(Finding(text, rival["macs"]["released"], "costs.over_glscl"))
    for gallery in shown_galleries(rival["end_to_end"]):
        text = f"X-CLIP over GLSCL: work of a query against {gallery:,} videos, end to end, times"
        found.append(Finding(text, rival["end_to_end"][str(gallery)], "costs.over_glscl"))
    return found


def x_clip_timed(evidence: Evidence) -> list[Finding]:
    """Time of X-CLIP over GLSCL's: a search, and a query end to end."""
    rival = evidence.measured_costs["over_glscl"]["x_clip"]
    return _times("x_clip", rival, shown_galleries(rival["end_to_end"]))


def _times(head: str, rival: dict, galleries: list[int]) -> list[Finding]:
    search = rival["search"]
    text = f"{head_name(head)} over GLSCL: time of a search of {search['gallery']:,} videos, times"
    found = [Finding(text, search["ratio"], "costs.over_glscl", search["low"], search["high"], TIME)]
    for gallery in galleries:
        text = f"{head_name(head)} over GLSCL: time of a query against {gallery:,} videos, end to end, times"
        text += " (extrapolated)" if gallery in rival["extrapolated"] else ""
        found.append(Finding(text, rival["end_to_end"][str(gallery)], "costs.over_glscl", kind=TIME))
    return found


def cheaper_than_rivals(evidence: Evidence) -> list[Finding]:
    """The paper's column; work of a pair and of a query over GLSCL's; work of training to the goal."""
    found = _published_costs(evidence)
    for head in cost_rivals(evidence):
        rival = evidence.costs["over_glscl"][head]
        gallery, *_ = shown_galleries(rival["end_to_end"])
        text = f"{head_name(head)} over GLSCL: work per pair, and so of a search, times"
        found.append(Finding(text, rival["macs"]["pair"], "costs.over_glscl"))
        text = f"{head_name(head)} over GLSCL: work of a query against {gallery:,} videos, end to end, times"
        found.append(Finding(text, rival["end_to_end"][str(gallery)], "costs.over_glscl"))
    for corpus, result in evidence.of("convergence"):
        work = {name: of["macs_to_goal"] for name, of in result["heads"].items() if name not in evidence.failed(corpus)}
        work = {name: interval["mean"] for name, interval in work.items() if interval and interval["mean"]}
        for name in sorted(work.keys() - {"glscl"}) if "glscl" in work else []:
            text = f"{corpus}: {name_of(name)} over GLSCL: work of training to the common R@1, times"
            found.append(Finding(text, work[name] / work["glscl"], "convergence.macs_to_goal"))
    return found


def rivals_timed(evidence: Evidence) -> list[Finding]:
    """Time of the rivals of the paper's table over GLSCL's: a search, and a query end to end at a benchmark's size."""
    found = []
    for head in cost_rivals(evidence):
        rival = evidence.measured_costs["over_glscl"][head]
        found += _times(head, rival, shown_galleries(rival["end_to_end"])[:1])
    return found

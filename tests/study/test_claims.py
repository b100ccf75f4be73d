"""Claims and verdicts: the deciding finding turns its verdict, and nothing else does."""

import pytest

from glscl.evaluation.statistics import equivalent
from glscl.files import write_json
from glscl.study import rules
from glscl.study.claims import CLAIMS, files, judged, measured_context, merged, read_ledger
from glscl.study.evidence import (
    KINDS,
    SHOWN,
    VERDICTS,
    Evidence,
    Finding,
    own_ablations,
)
from glscl.study.published import published
from tests import ROOT
from tests.study import made_up

PUBLISHED = published(ROOT / "results/published.csv")
BY_KEY = {claim.key: claim for claim in CLAIMS}
TIMED = [claim.key for claim in CLAIMS if claim.times]
REAL = [claim.key for claim in CLAIMS if claim.real]
CORPUS = "msrvtt"


@pytest.fixture
def evidence():
    """Evidence under which every claim is supported but that GLSCL, which leads, is comparable; a real benchmark."""
    table = PUBLISHED.copy()
    table.loc[(table["backbone"] == "non-CLIP") & (table["dataset"] == "MSR-VTT-1kA"), "year"] = 2023
    corpora = {CORPUS: made_up.questions("MSR-VTT-1kA")}
    return Evidence(table, made_up.costs(), made_up.measured_costs(), dict(made_up.WEIGHTS), corpora)


def judge(key: str, evidence: Evidence) -> dict:
    return BY_KEY[key].judged(evidence)


def metrics(evidence: Evidence) -> dict:
    return evidence.corpora[CORPUS]["metrics"]


def released(evidence: Evidence, part: str) -> dict:
    return evidence.corpora[CORPUS]["losses"]["contrasts"][part]["released"]


def leads_by(evidence: Evidence, points: float, half: float) -> None:
    """GLSCL minus its strongest rival."""
    metrics(evidence)["glscl_minus"]["x_clip"]["R@1"] = made_up.effect(points, half)


def pretraining(e, value, half):
    best = e.published.loc[e.published["backbone"] == "non-CLIP", "r1"].max()
    for row in e.corpora[CORPUS]["benchmarks"]["rows"].values():
        row["t2v"]["R@1"] = made_up.estimate(best + value, half)


def paradigms(e, value, half):
    metrics(e)["over_control"]["clip4clip_seqTransf"] = made_up.effect(value, half)


def ranks(e, value, half):
    seeds = e.corpora[CORPUS]["concepts"]["seeds"].values()
    for seed, gap in zip(seeds, (-half, 0, half), strict=True):
        seed["rank_video"] = value + gap / 2


def aligned(e, value, half):
    released(e, "inter-consistency")["matched"] = made_up.effect(value, half)


def apart(e, value, half):
    released(e, "intra-diversity")["within_text"] = made_up.effect(value, half)


# For each claim that rests on an interval: what sets its deciding number, a value for it and one against it, and a half
# width that leaves it open.
INTERVALS = {
    "pretraining_leads": (pretraining, 10.0, -10.0, 20.0),
    "two_paradigms": (paradigms, 9.0, 2.0, 8.0),
    "queries_capture_concepts": (ranks, 3.0, 1.2, 1.5),
    "consistency_aligns": (aligned, 0.4, -0.4, 0.5),
    "diversity_discriminates": (apart, -0.4, 0.4, 0.5),
    "best_on_five_benchmarks": (leads_by, 3.0, -3.0, 5.0),
    "comparable_to_the_best": (leads_by, 0.1, -3.0, 5.0),
}


def a_weight_in_the_global_score(e):
    e.parameters["global interaction"] = 1


def cheap_searches(e):
    e.costs["clip"]["32 words"] = 10**15


def as_fast(e):
    e.costs["over_glscl"]["x_clip"] = made_up.counted_over_glscl(198.0, published=220.9)


def one_rival_is_cheaper(e):
    e.costs["over_glscl"]["mean_pooling"] = made_up.counted_over_glscl(0.99)


COUNTS = {
    "rivals_are_expensive": cheap_searches,
    "global_interaction_is_free": a_weight_in_the_global_score,
    "faster_as_claimed": as_fast,
    "cheaper_than_rivals": one_rival_is_cheaper,
}


def test_every_claim_has_one_kind_of_finding_that_decides():
    assert INTERVALS.keys() | COUNTS.keys() == BY_KEY.keys()
    assert not INTERVALS.keys() & COUNTS.keys()


@pytest.mark.parametrize("key", INTERVALS)
def test_an_interval_beyond_its_threshold_decides_and_a_wide_one_does_not(key, evidence):
    change, good, bad, wide = INTERVALS[key]
    width = 0.1 * abs(good)
    for value, half, verdict in (
        (good, width, "supported"),
        (bad, width, "contradicted"),
        (good, wide, "not decided here"),
        (bad, wide, "not decided here"),
    ):
        change(evidence, value, half)
        found = judge(key, evidence)
        assert found["verdict"] == verdict
        assert "{" not in found["scope"]


@pytest.mark.parametrize("key", COUNTS)
def test_a_count_beyond_its_threshold_decides(key, evidence):
    assert judge(key, evidence)["verdict"] == "supported"
    COUNTS[key](evidence)
    assert judge(key, evidence)["verdict"] == "contradicted"


def turned_context(e: Evidence) -> Evidence:
    """The same deciding findings with everything beside them turned against the claims."""
    for effects in e.corpora[CORPUS]["losses"]["contrasts"].values():
        effects["described"] = made_up.contrast(-9.0, -0.9, 0.9)
        effects["released"] |= {"r1": made_up.effect(-9.0), "rank_text": made_up.effect(-9.0)}
    e.corpora[CORPUS]["losses"]["contrasts"]["local interaction"]["released"] = made_up.contrast(-9.0, -0.9, 0.9)
    for heads in e.corpora[CORPUS]["transfer"]["shifts"].values():
        heads["glscl"]["over_untrained"] = made_up.effect(-20.0)
    e.corpora[CORPUS]["convergence"]["heads"]["glscl"]["macs_to_goal"] = made_up.estimate(9e15)
    for seed in e.corpora[CORPUS]["concepts"]["seeds"].values():
        seed |= {"matched": 0.1, "wrong_pair": 0.9}
    e.published.loc[e.published["method"].str.startswith("GLSCL"), "r1"] = 1.0
    for head in ("mean_pooling", "x_clip"):
        e.measured_costs["over_glscl"][head] = made_up.measured_over_glscl(1e-6)
        e.costs["over_glscl"][head]["end_to_end"] = dict.fromkeys(e.costs["over_glscl"][head]["end_to_end"], 1e-6)
        e.costs["over_glscl"][head]["macs"]["released"] = 1e-6
    other = made_up.questions()
    other["metrics"]["glscl_minus"]["x_clip"]["R@1"] = made_up.effect(-30.0)
    other["metrics"]["over_control"] = dict.fromkeys(other["metrics"]["over_control"], made_up.effect(-30.0))
    other["concepts"]["seeds"] = {"0": made_up.questions()["concepts"]["seeds"]["0"] | {"rank_text": 1.0}}
    return e._replace(corpora=e.corpora | {"scenes": other})


@pytest.mark.parametrize("key", BY_KEY)
def test_context_changes_no_verdict(key, evidence):
    before = judge(key, evidence)
    after = judge(key, turned_context(evidence))
    assert after["evidence"] != before["evidence"] or key in ("global_interaction_is_free", "rivals_are_expensive")
    for part in ("verdict", "changes_at"):
        assert after[part] == before[part]
    assert after["evidence"][0] == before["evidence"][0]


def test_context_with_a_threshold_is_refused(evidence):
    second = Finding("another", 2.0, "costs.queries", threshold=1, direction="above")
    claim = BY_KEY[TIMED[0]]._replace(context=lambda evidence: [second], times=lambda evidence: [second])
    for call in (claim.judged, claim.timed):
        with pytest.raises(ValueError, match=r"one finding decides a claim, but 'another' beside it has a threshold"):
            call(evidence)


@pytest.mark.parametrize("half", [0.5, 1.0, 1.15, 1.25, 2.0])
def test_comparable_means_equivalent(half, evidence):
    leads_by(evidence, 0.0, half)
    supported = judge("comparable_to_the_best", evidence)["verdict"] == "supported"
    assert supported == equivalent(made_up.effect(0.0, half), rules.MARGIN)


def test_a_lead_must_hold_against_all_rivals_at_once(evidence):
    leads_by(evidence, 3.0, 2.9)  # leads by more than nothing alone, but not as the least of two
    assert judge("best_on_five_benchmarks", evidence)["verdict"] == "not decided here"
    metrics(evidence)["temporal_layers"]["clip4clip_seqTransf"] = 0
    assert judge("best_on_five_benchmarks", evidence)["verdict"] == "supported"


@pytest.mark.parametrize("benchmark", ["none", "VATEX"])
def test_without_one_of_the_five_a_real_benchmark_is_needed(benchmark, evidence):
    drawn = evidence._replace(corpora={"scenes": made_up.questions(benchmark)})
    for key in BY_KEY:
        found = judge(key, drawn)
        if key in REAL:
            assert found["verdict"] == "needs the real benchmark"
            assert {one["kind"] for one in found["evidence"]} == {"published", "measured"}
            assert not any(one["threshold"] is not None for one in found["evidence"])
        else:
            assert found["verdict"] == "supported"


def test_a_real_benchmark_decides_before_a_bundled_corpus(evidence):
    bundled = made_up.questions()
    for part in bundled["losses"]["contrasts"].values():
        part["released"] = made_up.contrast(-4.0, -0.4, 0.7)
    both = evidence._replace(corpora={"facets": bundled} | evidence.corpora)
    assert judge("consistency_aligns", both)["verdict"] == "supported"
    alone = evidence._replace(corpora={"facets": bundled, "scenes": made_up.questions()})
    assert judge("consistency_aligns", alone)["verdict"] == "contradicted"


def test_the_strongest_system_without_clip_must_be_recent(evidence):
    old = evidence._replace(published=PUBLISHED)
    assert judge("pretraining_leads", old)["verdict"] == "not decided here"


def test_methods_that_did_not_train_enter_nothing(evidence):
    metrics(evidence)["did_not_train"] = ["x_clip"]
    assert judge("two_paradigms", evidence)["verdict"] == "not decided here"
    found = judge("best_on_five_benchmarks", evidence)["evidence"][0]
    assert "strongest rival, CLIP4Clip" in found["text"]
    metrics(evidence)["did_not_train"] = ["glscl"]
    for key in ("queries_capture_concepts", "consistency_aligns", "best_on_five_benchmarks"):
        assert judge(key, evidence)["verdict"] == "not decided here"
    metrics(evidence)["did_not_train"] = list(metrics(evidence)["over_control"])
    evidence.corpora[CORPUS]["transfer"]["did_not_train"] = {"look": ["glscl"], "length": ["glscl"]}
    beside = [one for key in BY_KEY for one in judge(key, evidence)["evidence"] if one["kind"] == "measured"]
    assert {one["result"].split(".")[0] for one in beside} <= {"costs", "ledger"}


@pytest.mark.parametrize(
    ("stage", "key"),
    [("concepts", "queries_capture_concepts"), ("losses", "consistency_aligns"), ("losses", "diversity_discriminates")],
)
def test_without_its_stage_a_claim_is_not_decided(stage, key, evidence):
    del evidence.corpora[CORPUS][stage]
    found = judge(key, evidence)
    assert found["verdict"] == "not decided here"
    assert found["changes_at"] == []


def test_one_seed_decides_nothing_about_concepts(evidence):
    concepts = evidence.corpora[CORPUS]["concepts"]
    concepts["seeds"] = {"0": concepts["seeds"]["0"]}
    aligned(evidence, 0.4, 0.0)
    released(evidence, "inter-consistency")["matched"] |= {"low": None, "high": None}
    for key in ("queries_capture_concepts", "consistency_aligns"):
        assert judge(key, evidence)["verdict"] == "not decided here"


def test_only_the_released_computation_decides(evidence):
    del evidence.corpora[CORPUS]["losses"]["contrasts"]["inter-consistency"]["released"]
    found = judge("consistency_aligns", evidence)
    assert found["verdict"] == "not decided here"
    assert any("described" in one["text"] for one in found["evidence"])


def test_measured_times_leave_every_verdict_as_it_is(evidence):
    times = made_up.measured_costs()
    for head in times["over_glscl"]:
        times["over_glscl"][head] = made_up.measured_over_glscl(1e6)
    times["clip"]["32 words"]["seconds"] = 1e6
    slow, none = (judged(evidence._replace(measured_costs=costs), "dev") for costs in (times, {}))
    assert judged(evidence, "dev") == slow == none


def test_times_stand_apart_and_say_so(evidence):
    found = measured_context(evidence)
    assert found["findings"].keys() == set(TIMED)
    assert found["hardware"] == "one core"
    findings = [finding for those in found["findings"].values() for finding in those]
    assert all(finding["kind"] == "time" and "time of" in finding["text"] for finding in findings)
    assert not any(f["kind"] == "time" for claim in judged(evidence, "dev")["claims"] for f in claim["evidence"])
    assert measured_context(evidence._replace(measured_costs={}))["findings"] == {}


def test_both_parts_of_the_ledger_merge_in_the_order_of_the_claims(evidence):
    ledger, measured = judged(evidence, "dev"), measured_context(evidence)
    mixed = ledger | {"claims": ledger["claims"][::-1]}
    found = merged(mixed, measured)
    assert [claim["key"] for claim in found["claims"]] == list(BY_KEY)
    assert found["measured_on"] == "one core"
    for claim, alone in zip(found["claims"], ledger["claims"], strict=True):
        kinds = [finding["kind"] == "time" for finding in claim["evidence"]]
        assert kinds == [False] * len(alone["evidence"]) + [True] * len(measured["findings"].get(claim["key"], []))
        assert [f["threshold"] is not None for f in claim["evidence"]] == [True] + [False] * (len(kinds) - 1)
        assert {f["kind"] for f in claim["evidence"]} <= set(KINDS)
        assert claim["verdict"] == alone["verdict"]
        assert all(SHOWN[f["result"]][:2] == (f["page"], f["figure"]) for f in claim["evidence"])


def test_a_ledger_is_read_as_it_was_written(evidence, tmp_path):
    ledger, measured = judged(evidence, "dev"), measured_context(evidence)
    assert "the stage ledger of profile dev" in read_ledger("dev", tmp_path)["answer"]
    same, timed = files("dev", tmp_path)
    write_json(same, ledger)
    for given in ({}, measured):
        write_json(timed, given)
        found, expected = read_ledger("dev", tmp_path), merged(ledger, given)
        for claim, same in zip(found["claims"], expected["claims"], strict=True):
            assert claim["verdict"] == same["verdict"]
            assert [f["text"] for f in claim["evidence"]] == [f["text"] for f in same["evidence"]]
            values = [f["value"] for f in same["evidence"]]
            assert [f["value"] for f in claim["evidence"]] == pytest.approx(values, rel=1e-4)


def test_the_answer_is_short_and_names_the_profile(evidence):
    found = judged(evidence._replace(corpora={"scenes": made_up.questions()}), "dev")
    said = "Of 11 claims of the abstract, in the profile dev: 8 supported, 3 needs the real benchmark."
    assert found["answer"] == said
    assert found["profile"] == "dev"
    assert all(len(text.split()) <= 25 for text in [found["answer"], *found["details"]])
    assert all(claim["verdict"] in VERDICTS for claim in found["claims"])


def test_no_number_stands_twice(evidence):
    for claim in judged(evidence, "dev")["claims"]:
        shown = [(f["result"], f["text"]) for f in claim["evidence"]]
        assert len(shown) == len(set(shown))
        first, *beside = ((f["result"], f["value"], f["low"]) for f in claim["evidence"])
        assert first not in beside


def test_the_scope_says_what_was_measured(evidence):
    evidence.corpora["scenes"] = made_up.questions()
    scope = judge("comparable_to_the_best", evidence)["scope"]
    assert "msrvtt (MSR-VTT-1kA, 1,000 texts, 500 videos, 2 seeds); scenes (no benchmark, 1,000 texts" in scope
    del evidence.corpora["scenes"]["benchmarks"]
    assert "2 seeds); scenes" in judge("comparable_to_the_best", evidence)["scope"]
    assert "measured here: no corpus" in judge("comparable_to_the_best", evidence._replace(corpora={}))["scope"]


def test_a_search_that_was_extrapolated_says_so(evidence):
    found = measured_context(evidence)["findings"]
    for key, often in (("rivals_are_expensive", 2), ("faster_as_claimed", 1)):
        extrapolated = [f["text"] for f in found[key] if f["text"].endswith("(extrapolated)")]
        assert len(extrapolated) == often
        assert all("1,000,000 videos" in text for text in extrapolated)


def test_a_head_that_never_reaches_the_goal_has_no_work_to_compare(evidence):
    def compared():
        findings = judge("cheaper_than_rivals", evidence)["evidence"]
        return [f["value"] for f in findings if f["result"] == "convergence.macs_to_goal"]

    assert compared() == [3.0]
    evidence.corpora[CORPUS]["convergence"]["heads"]["x_clip"]["macs_to_goal"] = None
    assert compared() == []


def test_the_papers_own_ablations_stand_in_the_published_column(evidence):
    for key, gain in (("queries_capture_concepts", 2.9), ("consistency_aligns", 0.7), ("diversity_discriminates", 1.6)):
        (own,) = [f for f in judge(key, evidence)["evidence"] if f["kind"] == "published"]
        assert own["value"] == pytest.approx(gain)
    assert own_ablations(PUBLISHED)["minus without"].tolist() == pytest.approx([2.9, 1.6, 0.7])


def test_every_result_that_is_cited_has_a_place(evidence):
    found = merged(judged(evidence, "dev"), measured_context(evidence))
    assert {finding["result"] for claim in found["claims"] for finding in claim["evidence"]} == SHOWN.keys()

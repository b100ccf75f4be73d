"""Claims and verdicts: a rule that is fed with other evidence comes to another verdict."""

import json
import re
import shutil

import pytest
import torch
import yaml

from glscl.files import write_json
from glscl.study.claims import CLAIMS, files, judged, measured_context, merged, read_ledger
from glscl.study.evidence import (
    SHOWN,
    VERDICTS,
    Evidence,
    Finding,
    best_published,
    needed,
    parameters,
    read_evidence,
    verdict,
)
from glscl.study.published import FIVE, published
from glscl.study.rules import COMMON_SPACE
from tests import ROOT
from tests.study import made_up

PUBLISHED = published(ROOT / "results/published.csv")
BY_KEY = {claim.key: claim for claim in CLAIMS}
TIMED = [claim.key for claim in CLAIMS if claim.measured]
WEIGHTS = {"global interaction": 0, "temporal encoder": 12_000_000, "local interaction": 12_000_000}


@pytest.fixture
def evidence():
    """Evidence under which every claim is supported, on a corpus that is one of the five benchmarks."""
    table = PUBLISHED.copy()
    table.loc[(table["method"] == "GLSCL") & (table["direction"] == "t2v"), "r1"] += 10
    corpora = {"msrvtt": made_up.questions("MSR-VTT-1kA")}
    return Evidence(table, made_up.costs(), made_up.measured_costs(), dict(WEIGHTS), corpora)


def judge(key: str, evidence: Evidence) -> dict:
    return BY_KEY[key].judged(evidence)


def scores(table, method: str, points: float) -> None:
    table.loc[table["method"] == method, "r1"] = points


@pytest.mark.parametrize("key", BY_KEY)
def test_every_claim_is_supported_by_evidence_for_it(key, evidence):
    found = judge(key, evidence)
    assert found["verdict"] == "supported", [f for f in found["evidence"] if f["holds"] is False]
    assert "{" not in found["scope"]


def losses(evidence: Evidence) -> dict:
    return evidence.corpora["msrvtt"]["losses"]


def worse_losses(evidence: Evidence, ablation: str, p_holm: float = 0.01) -> None:
    for name in losses(evidence)["effects"]:
        if name.endswith(ablation):
            losses(evidence)["effects"][name] = made_up.effect(-4.0, p_holm)


def turn_concepts(evidence: Evidence, ablation: str) -> None:
    for variant in ("released", "described"):
        losses(evidence)["concept_effects"][f"{variant}/{ablation}"] = made_up.on_concepts(-0.4, 0.7)


def without_clip_leads(e):
    e.published.loc[e.published["backbone"] == "non-CLIP", "r1"] = 99.0
    for one in e.corpora["msrvtt"]["benchmarks"]["over_zero_shot"].values():
        one["R@1"] = made_up.effect(-5.0)


def one_kind_of_head(e):
    for head in e.costs["heads"].values():
        head["short"]["macs"]["pair"] = {"all": 512}
    e.corpora["msrvtt"]["benchmarks"]["over_zero_shot"]["clip4clip_seqTransf"]["R@1"] = made_up.effect(2.0, 0.2)


def cheap_searches(e):
    e.costs["clip"]["32 words"] = 10**15


def a_weight_in_the_global_score(e):
    e.parameters["global interaction"] = 512


def one_concept(e):
    for seed in e.corpora["msrvtt"]["concepts"]["seeds"].values():
        seed.update(matched=0.1, wrong_pair=0.4, rank_text=1.1, rank_video=1.0)
    worse_losses(e, "no local interaction")


def pulled_apart(e):
    turn_concepts(e, "no inter-consistency")
    worse_losses(e, "no inter-consistency")


def pushed_together(e):
    turn_concepts(e, "no intra-diversity")
    worse_losses(e, "no intra-diversity")


def beaten(e):
    scores(e.published, "GLSCL", 1.0)
    e.corpora["msrvtt"]["metrics"]["glscl_minus"]["x_clip"]["R@1"] = made_up.effect(-10.0)


def as_fast(e):
    e.costs["over_glscl"]["x_clip"] = made_up.counted_over_glscl(7.0, published=220.9)


def expensive(e):
    for head in e.costs["over_glscl"]:
        e.costs["over_glscl"][head] = made_up.counted_over_glscl(0.5, published=220.9)
    e.corpora["msrvtt"]["convergence"]["heads"]["glscl"]["macs_to_90"] = made_up.estimate(9e13, 1e12)


FLIPS = {
    "pretraining_leads": without_clip_leads,
    "rivals_are_expensive": cheap_searches,
    "global_interaction_is_free": a_weight_in_the_global_score,
    "queries_capture_concepts": one_concept,
    "consistency_aligns": pulled_apart,
    "diversity_discriminates": pushed_together,
    "best_on_five_benchmarks": beaten,
    "comparable_to_the_best": beaten,
    "faster_as_claimed": as_fast,
    "cheaper_than_rivals": expensive,
}


@pytest.mark.parametrize("key", FLIPS)
def test_evidence_against_a_claim_contradicts_it(key, evidence):
    FLIPS[key](evidence)
    assert judge(key, evidence)["verdict"] == "contradicted"


def test_measured_times_leave_every_verdict_as_it_is(evidence):
    times = made_up.measured_costs()
    for head in times["over_glscl"]:
        times["over_glscl"][head] = made_up.measured_over_glscl(1e6)
    times["clip"]["32 words"]["seconds"] = 1e6
    slow, none = (judged(evidence._replace(measured_costs=costs)) for costs in (times, {}))
    assert judged(evidence) == slow == none


def test_what_was_measured_is_context_and_says_so(evidence):
    found = measured_context(evidence)
    assert found["findings"].keys() == set(TIMED)
    assert found["hardware"] == "one core"
    findings = [finding for those in found["findings"].values() for finding in those]
    assert all(finding["holds"] is None and "time of" in finding["text"] for finding in findings)
    assert not any("time of" in f["text"] for claim in judged(evidence)["claims"] for f in claim["evidence"])
    assert measured_context(evidence._replace(measured_costs={}))["findings"] == {}


def test_a_measured_time_that_decides_is_refused(evidence):
    claim = BY_KEY[TIMED[0]]._replace(measured=lambda evidence: [Finding("time of x", 2.0, True, "costs.queries")])
    with pytest.raises(ValueError, match=r"no verdict may rest on a measured time, but 'time of x' of .* decides"):
        claim.context(evidence)


def test_both_parts_of_the_ledger_merge_in_the_order_of_the_claims(evidence):
    ledger, measured = judged(evidence), measured_context(evidence)
    mixed = ledger | {"claims": ledger["claims"][::-1]}
    found = merged(mixed, measured)
    assert [claim["key"] for claim in found["claims"]] == list(BY_KEY)
    assert found["measured_on"] == "one core"
    for claim, alone in zip(found["claims"], ledger["claims"], strict=True):
        kinds = [finding["measured"] for finding in claim["evidence"]]
        assert kinds == [False] * len(alone["evidence"]) + [True] * len(measured["findings"].get(claim["key"], []))
        assert claim["verdict"] == alone["verdict"]
        assert all(SHOWN[f["result"]][:2] == (f["page"], f["figure"]) for f in claim["evidence"])


def test_a_ledger_is_read_as_it_was_written(evidence, tmp_path):
    ledger, measured = judged(evidence), measured_context(evidence)
    assert "the stage ledger of profile dev" in read_ledger("dev", tmp_path)["answer"]
    same, timed = files("dev", tmp_path)
    write_json(same, ledger)
    assert not any(f["measured"] for claim in read_ledger("dev", tmp_path)["claims"] for f in claim["evidence"])
    write_json(timed, measured)
    found = read_ledger("dev", tmp_path)
    assert [claim["verdict"] for claim in found["claims"]] == [claim["verdict"] for claim in ledger["claims"]]
    assert sum(f["measured"] for claim in found["claims"] for f in claim["evidence"]) == sum(
        map(len, measured["findings"].values())
    )


def test_the_answer_is_short(evidence):
    found = judged(evidence._replace(corpora={"scenes": made_up.questions()}))
    assert found["answer"] == "Of 11 claims of the abstract: 10 supported, 1 needs the real benchmark."
    assert all(len(text.split()) <= 25 for text in [found["answer"], *found["details"]])


def test_heads_of_one_kind_leave_the_two_paradigms_supported_in_part(evidence):
    one_kind_of_head(evidence)
    assert judge("two_paradigms", evidence)["verdict"] == "supported in part"


@pytest.mark.parametrize("key", ["queries_capture_concepts", "consistency_aligns", "diversity_discriminates"])
def test_a_gain_that_fails_after_correction_supports_in_part(key, evidence):
    for name, effect in losses(evidence)["effects"].items():
        losses(evidence)["effects"][name] = effect | {"p_holm": 0.2}
    assert judge(key, evidence)["verdict"] == "supported in part"


def test_a_corpus_that_is_no_benchmark_leaves_the_five_open(evidence):
    drawn = evidence._replace(corpora={"scenes": made_up.questions()})
    found = judge("best_on_five_benchmarks", drawn)
    assert found["verdict"] == "needs the real benchmark"
    assert len(found["evidence"]) == 5
    assert judge("comparable_to_the_best", drawn)["verdict"] == "supported"


def test_without_a_retained_share_a_transfer_is_compared_with_clip(evidence):
    found = {f["result"]: f for f in judge("comparable_to_the_best", evidence)["evidence"] if f["holds"] is None}
    assert found["transfer.retained"]["value"] == 60.0
    assert found["transfer.over_clip"]["value"] == -3.0
    assert "from stories to scenes minus zero-shot CLIP" in found["transfer.over_clip"]["text"]


def test_the_scope_says_what_was_measured(evidence):
    evidence.corpora["scenes"] = made_up.questions()
    scope = judge("comparable_to_the_best", evidence)["scope"]
    assert "msrvtt (MSR-VTT-1kA, 1,000 texts, 500 videos, 2 seeds); scenes (no benchmark, 1,000 texts" in scope
    assert "measured on no corpus" in judge("comparable_to_the_best", evidence._replace(corpora={}))["scope"]


def test_a_search_that_was_extrapolated_says_so(evidence):
    found = measured_context(evidence)["findings"]
    for key, often in (("rivals_are_expensive", 2), ("faster_as_claimed", 1)):
        extrapolated = [f["text"] for f in found[key] if f["text"].endswith("(extrapolated)")]
        assert len(extrapolated) == often
        assert all("1,000,000 videos" in text for text in extrapolated)


@pytest.mark.parametrize(("late", "holds"), [(["x_clip"], True), (["glscl"], False), (["x_clip", "glscl"], None)])
def test_a_head_that_never_reaches_the_goal_counts(evidence, late, holds):
    for head in late:
        missed = {"macs_to_90": {"mean": None, "low": None, "high": None}, "reached": 1}
        evidence.corpora["msrvtt"]["convergence"]["heads"][head] = missed
    found = judge("cheaper_than_rivals", evidence)["evidence"][-1]
    assert found["holds"] is holds
    assert found["value"] == {True: 2, False: -2, None: 0}[holds]


def test_a_single_seed_tells_no_work_apart(evidence):
    for head in evidence.corpora["msrvtt"]["convergence"]["heads"].values():
        head["macs_to_90"] |= {"low": None, "high": None}
    found = [f for f in judge("cheaper_than_rivals", evidence)["evidence"] if f["result"] == "convergence.macs_to_90"]
    assert found
    assert [f["holds"] for f in found] == [None] * len(found)


@pytest.mark.parametrize("key", ["consistency_aligns", "diversity_discriminates"])
@pytest.mark.parametrize(("size", "half"), [(1e-6, 0.0), (0.4, 0.5)], ids=["too small", "not for new seeds"])
def test_a_change_that_cannot_be_seen_is_none(key, size, half, evidence):
    changes = losses(evidence)["concept_effects"]
    for name in changes:
        changes[name] = made_up.on_concepts(size, -size, half)
    changes = [f for f in judge(key, evidence)["evidence"] if "cosine" in f["text"]]
    assert [f["holds"] for f in changes] == [False] * len(changes)
    assert changes


@pytest.mark.parametrize(
    ("holds", "expected"),
    [
        ([True, None], "supported"),
        ([True, False], "supported in part"),
        ([False, None], "contradicted"),
        ([None], "needs the real benchmark"),
        ([], "needs the real benchmark"),
    ],
)
def test_how_findings_make_a_verdict(holds, expected):
    assert verdict([Finding("x", 1.0, hold, "costs.heads") for hold in holds]) == expected
    assert expected in VERDICTS


def test_weights_are_counted_where_the_global_score_depends_on_them(make_model, features):
    head = make_model(temporal_layers=1).head
    given = features["sentence"], features["frames"], features["frame_mask"]
    found = parameters(head, *given)
    assert found["global interaction"] == 0
    assert found["temporal encoder"] == sum(p.numel() for p in head.temporal.parameters())
    assert found["local interaction"] == sum(p.numel() for p in head.local.parameters())
    gate = torch.nn.Linear(32, 32)
    head.add_module("gate", gate)
    encode = head.encode_videos
    head.encode_videos = lambda frames, mask: encode(gate(frames), mask)
    assert parameters(head, *given)["global interaction"] == 32 * 33


def test_missing_results_name_the_stage_to_run(tmp_path):
    shutil.copy(ROOT / "results/published.csv", tmp_path)
    made_up.write(tmp_path / "dev", {"costs": made_up.costs()})
    made_up.write(tmp_path / "dev/scenes", made_up.questions())
    found = read_evidence("dev", {"scenes": ["metrics", "losses"]}, WEIGHTS, tmp_path)
    assert set(found.corpora["scenes"]) == {"metrics", "losses"}
    assert found.measured_costs == {}
    made_up.write(tmp_path / "measured/dev", {"costs": made_up.measured_costs()})
    assert read_evidence("dev", {}, WEIGHTS, tmp_path).measured_costs["hardware"] == "one core"
    for name, stage in (("losses", "losses of scenes"), ("metrics", "evaluate of scenes")):
        (tmp_path / f"dev/scenes/{name}.json").unlink()
        with pytest.raises(FileNotFoundError, match=rf"{name}\.json, which is absent; run the stage {stage}\."):
            read_evidence("dev", {"scenes": [name]}, WEIGHTS, tmp_path)
    (tmp_path / "dev/costs.json").unlink()
    with pytest.raises(FileNotFoundError, match="run the stage costs"):
        read_evidence("dev", {}, WEIGHTS, tmp_path)


def test_what_a_corpus_has_depends_on_what_was_trained_there():
    assert needed(["a", "b"], [], []) == {"a": ["metrics", "benchmarks"], "b": ["metrics", "benchmarks"]}
    assert set(needed(["a"], ["x_clip"], [])["a"]) == {"metrics", "benchmarks", "convergence", "transfer"}
    assert set(needed(["a"], ["glscl"], ["glscl"])["a"]) == set(made_up.questions())


def test_published_rows_are_listed_by_benchmark():
    found = best_published(PUBLISHED).set_index("benchmark")
    assert set(FIVE) < set(found.index)
    assert found.loc["MSR-VTT-1kA", "best other of its tables"].endswith("Prompt Switch")
    assert found.loc[list(FIVE), "GLSCL"].notna().all()


def test_the_common_space_holds_the_methods_that_pool_by_the_mean():
    methods = yaml.safe_load((ROOT / "params.yaml").read_text())["methods"]
    pooled = {name for name, settings in methods.items() if settings["head"] == "mean_pooling"}
    assert pooled == set(COMMON_SPACE)


def test_every_result_that_is_cited_has_a_place(evidence):
    found = merged(judged(evidence), measured_context(evidence))
    assert {finding["result"] for claim in found["claims"] for finding in claim["evidence"]} == SHOWN.keys()


@pytest.mark.parametrize("result", SHOWN)
def test_every_place_is_a_caption_of_its_page(result):
    place = SHOWN[result]
    cells = json.loads((ROOT / f"notebooks/{place.page}.ipynb").read_text(encoding="utf-8"))["cells"]
    text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    captions = [" ".join(caption.split()) for caption in re.findall(r"^\*((?:Figure|Table).*?)\*$", text, re.M | re.S)]
    named = [caption for caption in captions if names(caption, place.figure)]
    assert len(named) == 1, f"{place.page} should have one caption of {place.figure}, got {named}"
    assert place.caption in named[0], f"{place.figure} of {place.page} is about something else; correct SHOWN"


def names(caption: str, figure: str) -> bool:
    """Whether a caption, "Figure 1 and Table 4. ..." or "Tables 3 and 4. ...", is that of a figure or table."""
    kind, number = figure.split()
    return re.search(rf"\b{kind}s? (\d+ and )?{number}\b", caption.partition(".")[0]) is not None

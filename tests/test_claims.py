"""Claims and verdicts: a rule that is fed with other evidence comes to another verdict."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from glscl.claims import CLAIMS, COMMON_SPACE
from glscl.evidence import VERDICTS, Evidence, Finding, parameters, read_evidence, verdict
from glscl.published import published
from tests import made_up

ROOT = Path(__file__).parents[1]
PUBLISHED = published(ROOT / "results/published.csv")
BY_RULE = {claim.rule.__name__: claim for claim in CLAIMS}
WEIGHTS = {"global interaction": 0, "temporal encoder": 12_000_000, "local interaction": 12_000_000}


@pytest.fixture
def evidence():
    """Evidence under which every claim is supported, on a corpus that is one of the five benchmarks."""
    table = PUBLISHED.copy()
    table.loc[(table["method"] == "GLSCL") & (table["direction"] == "t2v"), "r1"] += 10
    return Evidence(table, made_up.costs(), dict(WEIGHTS), {"msrvtt": made_up.questions("MSR-VTT-1kA")})


def judged(rule: str, evidence: Evidence) -> dict:
    return BY_RULE[rule].judged(evidence)


def scores(table, method: str, points: float) -> None:
    table.loc[table["method"] == method, "r1"] = points


@pytest.mark.parametrize("rule", BY_RULE)
def test_every_claim_is_supported_by_evidence_for_it(rule, evidence):
    found = judged(rule, evidence)
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


def quick_searches(e):
    e.costs["clip"]["32 words"]["seconds"] = 1e6


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
    e.costs["over_glscl"]["x_clip"] = made_up.over_glscl(7.0, published=220.9)


def dear(e):
    for head in e.costs["over_glscl"]:
        e.costs["over_glscl"][head] = made_up.over_glscl(0.5, published=220.9)
    e.corpora["msrvtt"]["convergence"]["heads"]["glscl"]["macs_to_90"] = made_up.estimate(9e13, 1e12)


FLIPS = {
    "pretraining_leads": without_clip_leads,
    "rivals_are_dear": quick_searches,
    "global_interaction_is_free": a_weight_in_the_global_score,
    "queries_capture_concepts": one_concept,
    "consistency_aligns": pulled_apart,
    "diversity_discriminates": pushed_together,
    "best_on_five_benchmarks": beaten,
    "comparable_to_the_best": beaten,
    "faster_as_claimed": as_fast,
    "cheaper_than_rivals": dear,
}


@pytest.mark.parametrize("rule", FLIPS)
def test_evidence_against_a_claim_contradicts_it(rule, evidence):
    FLIPS[rule](evidence)
    assert judged(rule, evidence)["verdict"] == "contradicted"


def test_heads_of_one_kind_leave_the_two_paradigms_supported_in_part(evidence):
    one_kind_of_head(evidence)
    assert judged("two_paradigms", evidence)["verdict"] == "supported in part"


@pytest.mark.parametrize("rule", ["queries_capture_concepts", "consistency_aligns", "diversity_discriminates"])
def test_a_gain_that_fails_after_correction_supports_in_part(rule, evidence):
    for name, effect in losses(evidence)["effects"].items():
        losses(evidence)["effects"][name] = effect | {"p_holm": 0.2}
    assert judged(rule, evidence)["verdict"] == "supported in part"


def test_a_corpus_that_is_no_benchmark_leaves_the_five_open(evidence):
    drawn = evidence._replace(corpora={"scenes": made_up.questions()})
    found = judged("best_on_five_benchmarks", drawn)
    assert found["verdict"] == "needs the real benchmark"
    assert len(found["evidence"]) == 5
    assert judged("comparable_to_the_best", drawn)["verdict"] == "supported"


def test_the_scope_says_what_was_measured(evidence):
    evidence.corpora["scenes"] = made_up.questions()
    scope = judged("comparable_to_the_best", evidence)["scope"]
    assert "msrvtt (MSR-VTT-1kA, 1,000 texts, 500 videos, 2 seeds); scenes (no benchmark, 1,000 texts" in scope
    assert "measured on no corpus" in judged("comparable_to_the_best", evidence._replace(corpora={}))["scope"]


def test_a_search_that_was_extrapolated_says_so(evidence):
    found = {f["text"]: f["holds"] for f in judged("rivals_are_dear", evidence)["evidence"]}
    extrapolated = [text for text in found if text.endswith("(extrapolated)")]
    assert len(extrapolated) == 2
    assert all("1,000,000 videos" in text for text in extrapolated)


def test_a_thorough_run_stands_beside_and_decides_nothing(evidence):
    plain = judged("consistency_aligns", evidence)
    against = made_up.questions()["losses"]
    against["effects"] = {name: made_up.effect(-4.0) for name in against["effects"]}
    evidence.corpora["msrvtt"]["losses-thorough"] = against
    both = judged("consistency_aligns", evidence)
    assert both["verdict"] == plain["verdict"] == "supported"
    assert len(both["evidence"]) == 2 * len(plain["evidence"])
    assert sum("thorough run" in finding["text"] for finding in both["evidence"]) == len(plain["evidence"])


@pytest.mark.parametrize(("late", "holds"), [(["x_clip"], True), (["glscl"], False), (["x_clip", "glscl"], None)])
def test_a_head_that_never_reaches_the_goal_counts(evidence, late, holds):
    for head in late:
        missed = {"macs_to_90": {"mean": None, "low": None, "high": None}, "reached": 1}
        evidence.corpora["msrvtt"]["convergence"]["heads"][head] = missed
    found = judged("cheaper_than_rivals", evidence)["evidence"][-1]
    assert found["holds"] is holds
    assert found["value"] == {True: 2, False: -2, None: 0}[holds]


def test_a_single_seed_tells_no_work_apart(evidence):
    for head in evidence.corpora["msrvtt"]["convergence"]["heads"].values():
        head["macs_to_90"] |= {"low": None, "high": None}
    found = [f for f in judged("cheaper_than_rivals", evidence)["evidence"] if f["page"] == "10_convergence"]
    assert found
    assert [f["holds"] for f in found] == [None] * len(found)


@pytest.mark.parametrize("rule", ["consistency_aligns", "diversity_discriminates"])
@pytest.mark.parametrize(("size", "half"), [(1e-6, 0.0), (0.4, 0.5)], ids=["too small", "not for new seeds"])
def test_a_change_that_cannot_be_seen_is_none(rule, size, half, evidence):
    changes = losses(evidence)["concept_effects"]
    for name in changes:
        changes[name] = made_up.on_concepts(size, -size, half)
    changes = [f for f in judged(rule, evidence)["evidence"] if "cosine" in f["text"]]
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
    assert verdict([Finding("x", 1.0, hold, "page", "Table 1") for hold in holds]) == expected
    assert expected in VERDICTS


def test_weights_are_counted_where_the_global_score_depends_on_them(make_model, states):
    head = make_model(temporal_layers=1).head
    given = states["sentence"], states["frames"], states["frame_mask"]
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
    made_up.write(tmp_path, {"costs": made_up.costs()})
    made_up.write(tmp_path / "scenes", made_up.questions())
    needed = {"scenes": ["metrics", "losses"]}
    assert set(read_evidence(tmp_path, needed, WEIGHTS).corpora["scenes"]) == {"metrics", "losses"}
    made_up.write(tmp_path / "scenes", {"losses-thorough": {}})
    assert "losses-thorough" in read_evidence(tmp_path, needed, WEIGHTS).corpora["scenes"]
    for name, stage in (("losses", "losses of scenes"), ("metrics", "evaluate of scenes")):
        (tmp_path / f"scenes/{name}.json").unlink()
        with pytest.raises(FileNotFoundError, match=rf"{name}\.json, which is absent; run the stage {stage}\."):
            read_evidence(tmp_path, {"scenes": [name]}, WEIGHTS)
    (tmp_path / "costs.json").unlink()
    with pytest.raises(FileNotFoundError, match="run the stage costs"):
        read_evidence(tmp_path, {}, WEIGHTS)


def test_the_common_space_holds_the_methods_that_pool_by_the_mean():
    methods = yaml.safe_load((ROOT / "params.yaml").read_text())["methods"]
    pooled = {name for name, settings in methods.items() if settings["head"] == "mean_pooling"}
    assert pooled == set(COMMON_SPACE)


def test_every_finding_stands_in_a_figure_or_table_that_its_page_has(evidence):
    findings = [Finding(**f) for rule in BY_RULE for f in judged(rule, evidence)["evidence"]]
    assert findings
    for page, figure in {(finding.page, finding.figure) for finding in findings}:
        kind, number = figure.split()
        cells = json.loads((ROOT / f"notebooks/{page}.ipynb").read_text(encoding="utf-8"))["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        captions = re.findall(r"^\*((?:Figure|Table)[^.]*)\.", text, re.MULTILINE)
        assert any(re.search(rf"{kind}s? (\d+ and )?{number}\b", caption) for caption in captions), (page, figure)

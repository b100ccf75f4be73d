"""What is said of a transfer: shares and their intervals, families of tests, the answer, tables and figures."""

from types import SimpleNamespace

import numpy as np
import pytest

from glscl.evaluation.results import Run
from glscl.evaluation.statistics import mean_interval
from glscl.report.figures.transfer import gains, recalls
from glscl.report.names import name_of
from glscl.study import transfer_results
from glscl.study.transfer import STARTS, UNTRAINED, Evaluated
from glscl.study.transfer_results import LEAST_GAIN, Hits, answer, results_of, share_values, sign

QUERIES = 300


# --- shares


def hits(seed, share, runs=3, queries=400):
    return 100.0 * (np.random.default_rng(seed).random((runs, queries)) < share)


def test_a_share_is_the_ratio_of_the_gains():
    part, whole = hits(0, 0.2), hits(1, 0.5)
    assert share_values(part, whole).mean() == pytest.approx(100 * part.mean() / whole.mean())
    assert share_values(whole, whole) == pytest.approx(np.full(whole.shape, 100.0))
    assert share_values(-whole, whole).mean() == pytest.approx(-100)
    assert share_values(0 * whole, whole) == pytest.approx(np.zeros(whole.shape))


def test_the_interval_of_a_share_covers_it_as_often_as_it_says():
    covered = []
    for number in range(200):
        generator = np.random.default_rng(number)
        easy = generator.random(200)  # of queries, for all runs and both models
        whole = 100.0 * (generator.random((4, 200)) < 0.2 + 0.4 * easy)
        part = 100.0 * (generator.random((4, 200)) < 0.1 + 0.2 * easy)
        low, high = mean_interval(share_values(part, whole), np.arange(200))
        covered.append(low <= 50 <= high)
    assert 0.93 <= np.mean(covered) <= 1


# --- results of made-up runs, in which each start of a head finds such a share of the texts, and untrained CLIP 40 %


def found(**shares):
    """Results of two targets, `look` with these shares, and `length` with them in reverse order of the heads."""
    runs = []
    for number, (target, order) in enumerate({"look": [*shares], "length": [*shares][::-1]}.items()):
        generator = np.random.default_rng(number)

        def run(head, seed, start, share, target=target, generator=generator):
            rank = np.where(generator.permutation(QUERIES) < QUERIES * share, 0.0, 7.0)
            return Run(head, target, seed, start, {"t2v": {"rank": rank, "group": np.arange(QUERIES)}})

        for head, of in zip(shares, order, strict=True):
            runs += [run(head, seed, s, shares[of][i]) for seed in range(3) for i, s in enumerate(STARTS)]
        runs.append(run(UNTRAINED, None, UNTRAINED, 0.4))
    study = SimpleNamespace(
        dataset="facets",
        shifts={"look": {"look": 1}, "length": {"events": 6}},
        seeds=[0, 1, 2],
        heads=[*shares],
        few_videos=8,
        few_epochs=2,
        methods=lambda: {head: head.removesuffix("_temporal") for head in shares},
    )
    return results_of(study, Evaluated(runs, {"look": [], "length": []}, []))


# zero-shot, few-shot, few-shot from CLIP, in-domain
GOOD, FAIR, BAD, FAILED = (0.8, 0.8, 0.5, 0.9), (0.6, 0.7, 0.6, 0.8), (0.1, 0.5, 0.5, 0.8), (0.1, 0.1, 0.1, 0.42)


def test_differences_are_those_of_the_recalls_and_shares_those_of_the_gains():
    level = found(glscl=GOOD, x_clip=FAIR)["shifts"]["look"]["glscl"]
    assert {key: level[key]["mean"] for key in (UNTRAINED, *STARTS)} == pytest.approx(
        {UNTRAINED: 40, "zero_shot": 80, "few_shot": 80, "few_from_clip": 50, "in_domain": 90}
    )
    assert level["over_untrained"]["difference"] == pytest.approx(40)
    assert level["in_domain_over_untrained"]["difference"] == pytest.approx(50)
    assert level["source_adds"]["difference"] == pytest.approx(30)
    assert level["share"]["mean"] == pytest.approx(80)
    assert level["share"]["low"] < 80 < level["share"]["high"]


def test_there_is_no_share_where_the_in_domain_model_gains_little():
    results = found(glscl=FAILED, x_clip=GOOD)
    level = results["shifts"]["look"]["glscl"]
    assert level["in_domain_over_untrained"]["difference"] < LEAST_GAIN
    assert level["share"] is None
    table = transfer_results.levels_table(results).set_index(["target", "head"])["share of the in-domain gain"]
    assert table["look", "glscl"] == "no share: in-domain is +2.0 points over untrained CLIP"
    assert table["look", "x_clip"].startswith("80.0 [")


def test_a_share_below_zero_is_negative_transfer():
    assert found(glscl=BAD)["shifts"]["look"]["glscl"]["share"]["mean"] == pytest.approx(-75)


def test_tests_of_all_targets_and_heads_are_one_family():
    results = found(glscl=GOOD, x_clip=GOOD, x_pool=(0.45, 0.5, 0.5, 0.8))
    tests = [level["over_untrained"] for of in results["shifts"].values() for level in of.values()]
    p_values = sorted(test["p"] for test in tests)
    assert min(test["p_holm"] for test in tests) == pytest.approx(6 * p_values[0])
    assert all(test["p_holm"] >= test["p"] for test in tests)
    few = [level["over_untrained"]["detectable"] for level in found(glscl=GOOD)["shifts"]["look"].values()]
    assert tests[0]["detectable"] > few[0]  # a larger family leaves each test less


def test_the_sign_of_a_difference_is_that_after_correction():
    assert sign({"difference": -3.0, "p": 0.01, "p_holm": 0.04}) == -1
    assert sign({"difference": 3.0, "p": 0.01, "p_holm": 0.04}) == 1
    assert sign({"difference": 3.0, "p": 0.01, "p_holm": 0.06}) == 0


def test_the_answer_counts_what_survives_and_names_negative_transfer():
    results = found(glscl=GOOD, x_clip=BAD, x_pool=FAIR)
    # length: glscl is fair, x_clip bad, x_pool good
    assert results["answer"] == (
        "Zero-shot heads above untrained CLIP: look 2, length 2 of 3; negative transfer: look, length; "
        "GLSCL against attention: 3 better, 1 worse."
    )
    assert "look, negative transfer, significantly below untrained CLIP: X-CLIP." in results["details"]
    assert (
        "length, zero-shot: GLSCL finds significantly more than X-CLIP, and less than X-Pool, as published."
        in results["details"]
    )
    assert (
        "look, zero-shot: GLSCL keeps of its in-domain R@1 significantly more than X-CLIP, X-Pool, as published."
        in (results["details"])
    )


def test_the_difference_to_glscl_is_the_subjects_first():
    results = found(glscl=GOOD, x_clip=FAIR)
    assert results["glscl_minus"]["look"]["x_clip"]["difference"] == pytest.approx(20)
    assert results["glscl_keeps"]["look"]["x_clip"]["difference"] == pytest.approx(10)
    assert results["glscl_minus"]["length"]["x_clip"]["difference"] == pytest.approx(-20)


def test_a_head_that_did_not_train_enters_no_count():
    results = found(glscl=GOOD, x_clip=FAILED, drl=FAIR)
    assert results["did_not_train"] == {"look": ["x_clip"], "length": ["x_clip"]}
    assert "against attention" not in results["answer"]
    assert not [sentence for sentence in results["details"] if "GLSCL" in sentence and "X-CLIP" in sentence]
    table = transfer_results.rivals_table(results)
    assert table.loc[table["did not train"] == "X-CLIP", "head"].tolist() == ["x_clip", "x_clip"]


def test_without_glscl_heads_are_counted_alone():
    results = found(x_clip=GOOD, x_pool=GOOD)
    assert results["answer"] == "Zero-shot heads above untrained CLIP: look 2, length 2 of 2; negative transfer: none."
    assert results["glscl_minus"] == {"look": {}, "length": {}}
    assert transfer_results.rivals_table(results).empty


def test_without_a_target_there_is_nothing_to_show():
    study = SimpleNamespace(
        dataset="own", shifts={}, seeds=[0], heads=[], few_videos=8, few_epochs=2, methods=lambda: {}
    )
    results = results_of(study, Evaluated([], {}, []))
    assert results["answer"] == "own: no transfer; it needs trained heads, a frozen CLIP and another domain."
    assert results["shifts"] == results["glscl_minus"] == {}
    assert results["details"] == []
    assert transfer_results.about(results["scope"]) == "own: no transfer"
    for table in ("levels_table", "rivals_table", "source_table"):
        assert getattr(transfer_results, table)(results).empty
    assert transfer_results.domains_table([], {}).empty
    assert recalls(transfer_results.recall_rows(results)).data == ()
    assert gains(transfer_results.gain_rows(results)).data == ()


@pytest.mark.parametrize("heads", [["glscl"], ["glscl", "x_clip"], ["x_clip", "drl"]])
@pytest.mark.parametrize("share", [GOOD, BAD, FAILED])
def test_sentences_are_short(heads, share):
    results = found(**dict.fromkeys(heads, share))
    sentences = [results["answer"], *results["details"]]
    assert all(len(sentence.split()) <= 25 for sentence in sentences), sentences
    assert all(sentence.endswith(".") for sentence in sentences)


def test_the_longest_answer_has_25_words():
    results = found(glscl=BAD, x_clip=BAD)
    for part in ("shifts", "glscl_minus", "did_not_train"):
        results[part]["wording"] = results[part]["look"]
    assert len(answer(results).split()) <= 25


def test_runs_of_a_target_keep_the_order_of_seeds_and_queries():
    runs = [
        Run("one", "look", seed, start, {"t2v": {"rank": np.array([seed, 0.0]), "group": np.array([4, 9])}})
        for seed in (0, 1)
        for start in STARTS
    ]
    runs.append(Run(UNTRAINED, "look", None, UNTRAINED, {"t2v": {"rank": np.array([5, 0]), "group": np.array([4, 9])}}))
    of = Hits.of([*runs, runs[0]._replace(split="length")], "look")
    assert of.of_heads["one"]["few_shot"].tolist() == [[100, 100], [0, 100]]
    assert of.minus("one", "few_shot", UNTRAINED).tolist() == [[100, 0], [0, 0]]
    assert of.group.tolist() == [4, 9]


# --- figures


def test_the_main_figure_has_every_start_of_every_head_once():
    results = found(glscl=GOOD, x_clip=BAD)
    rows = transfer_results.recall_rows(results)
    figure = recalls(rows)
    drawn = {
        (trace.xaxis, head, trace.name, round(x, 6))
        for trace in figure.data
        for x, (head, *_) in zip(trace.x, trace.customdata, strict=True)
    }
    panels = {"look": "x", "length": "x2"}
    assert drawn == {
        (panels[row.target], name_of(row.head), row.start, round(row.mean, 6))
        for row in rows.itertuples()
        if row.start != UNTRAINED
    }
    lines = [shape.x0 for shape in figure.layout.shapes]
    assert lines == pytest.approx([results["shifts"][name]["glscl"][UNTRAINED]["mean"] for name in panels])
    heights = dict(zip(figure.layout.yaxis.ticktext, figure.layout.yaxis.tickvals, strict=True))
    assert all(
        y == heights[head] for trace in figure.data for y, (head, *_) in zip(trace.y, trace.customdata, strict=True)
    )
    assert sorted(trace.name for trace in figure.data if trace.showlegend) == sorted(STARTS.values())


def test_the_second_figure_fills_what_is_significant():
    results = found(glscl=GOOD, x_clip=(0.41, 0.5, 0.5, 0.8))
    figure = gains(transfer_results.gain_rows(results))
    shown = {(t.xaxis, head): t.marker.symbol for t in figure.data for head, *_ in t.customdata}
    assert shown["x", "GLSCL"] == shown["x2", "X-CLIP"] == "circle"
    assert shown["x", "X-CLIP"] == shown["x2", "GLSCL"] == "circle-open"
    for trace in figure.data:
        for x, plus, minus, (_, low, high) in zip(
            trace.x, trace.error_x.array, trace.error_x.arrayminus, trace.customdata, strict=True
        ):
            assert (x - minus, x + plus) == pytest.approx((low, high))
    assert {shape.x0 for shape in figure.layout.shapes} == {0}

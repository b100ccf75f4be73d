"""Made-up runs give the effects that were put into them, with the right sign, and sentences that are short."""

import json

import numpy as np
import pytest
import torch

from glscl.evaluation.collapse import HINGE
from glscl.files import write_json
from glscl.report.figures import losses as figures
from glscl.study import loss_tables
from glscl.study.loss_results import FACTORS, results_of
from glscl.study.losses import FREED, FULL, LOCAL, PARTS, Measured, conditions, without
from glscl.study.published import published, sweeps
from tests import ROOT
from tests.study.test_losses import DOSES, MODEL

TEXTS = 40
HELPS = {
    FULL: 30,
    "without both losses": 20,
    "without inter-consistency": 20,
    FREED: 36,
}  # texts that a condition finds; others 30


class Split:
    """The test split of `Made`: as many videos as texts."""

    video_of_text, videos = torch.arange(TEXTS), [str(number) for number in range(TEXTS)]


class Made:
    """A study whose runs are made up."""

    variants, seeds, parts = ["released", "described"], [0, 1, 2], list(PARTS)
    conditions = conditions(MODEL, variants, parts, DOSES, True)
    model = MODEL
    corpus = type("Corpus", (), {"split": staticmethod(lambda name: Split)})

    def model_of(self, condition):
        return MODEL | condition.changed

    def scope(self):
        about = {"dataset": "facets", "texts": TEXTS, "videos": TEXTS, "validation_texts": 9, "seeds": self.seeds}
        return about | {"variants": self.variants, "steps": 92, "batch_size": 128, "concepts": 8}


def made_up(condition, seed: int) -> Measured:
    """A run: ranks as `HELPS` says, concepts that span 1 direction, or 3 without what makes them collapse."""
    ranks = np.where(np.arange(TEXTS) < HELPS.get(condition.name, 30) - (seed == 2), 0.0, 5.0)
    wide, wet = condition.name == FREED, condition.changed.get("dropout", 0.1) > 0
    each = {"matched": 0.5, "wrong_pair": 0.1, "within_text": 0.9, "within_video": 0.9}
    each |= {"rank_text": 3.0 if wide else 1.0, "rank_video": 3.0 if wide else 1.2}
    if "inter" in condition.name:
        each["matched"] = 0.9
    items = {name: np.full(TEXTS, value + 0.01 * seed) for name, value in each.items()}
    seen = {"within_train": 0.88 if wet else 0.99, "within_eval": 0.99, "hinge_train": 0.0, "hinge_eval": 0.18}
    gradients = dict.fromkeys(("contrastive", "moments", "target", "diversity"), 0.5)
    followed = condition.name in (FULL, FREED)
    steps = [{"step": step, "rank_text": 2.0, "rank_video": 1.0 + seed} for step in (0, 92) if followed]
    return Measured(condition.label, seed, ranks, items, seen, gradients, gradients if followed else {}, steps)


@pytest.fixture(scope="module")
def papers():
    return published(ROOT / "results/published.csv")


@pytest.fixture(scope="module")
def results(papers):
    study = Made()
    runs = [made_up(condition, seed) for condition in study.conditions for seed in study.seeds]
    return results_of(study, runs, papers)


def test_an_effect_is_positive_where_the_part_helps(results):
    found = results["contrasts"]
    assert set(found) == {*PARTS}
    assert found["both losses"]["released"]["r1"]["difference"] == pytest.approx(25)
    assert found["intra-diversity"]["described"]["r1"]["difference"] == 0
    inter = found["inter-consistency"]["released"]
    assert inter["matched"]["difference"] == pytest.approx(-0.4)
    assert inter["rank_text"]["difference"] == 0
    assert set(found["local interaction"]["described"]) == {"r1"}
    tests = [entry["r1"] for by_variant in found.values() for entry in by_variant.values()]
    assert len(tests) == 10
    assert all(test["p"] <= test["p_holm"] for test in tests)
    assert min(test["p_holm"] for test in tests) == pytest.approx(10 * min(test["p"] for test in tests))


def test_a_dose_has_its_settings_its_outcomes_and_its_change(results):
    rows = {(row["variant"], row["name"]): row for row in results["doses"]}
    assert ("released", without(LOCAL)) not in rows
    assert ("released", "without text-conditioned pooling") not in rows
    freed = rows["released", FREED]
    assert (freed["alpha"], freed["beta"], freed["moment"], freed["dropout"]) == (100, 0, 0, 0)
    assert freed["over_full"]["difference"] == pytest.approx(15)
    assert freed["r1"]["mean"] == pytest.approx(100 * (36 * 3 - 1) / 120)
    assert freed["matched_minus_wrong"] == pytest.approx(freed["matched"] - freed["wrong_pair"])
    assert freed["first_gradients"]
    assert "over_full" not in rows["released", FULL]
    assert rows["described", "alpha 100"]["within_train"] == pytest.approx(0.88)
    assert rows["described", "alpha 100"]["first_gradients"] == {}


def test_the_highest_rank_is_found(results):
    best = results["uncollapsed"]
    assert (best["variant"], best["name"]) == ("released", FREED)
    assert best["rank"] == pytest.approx(3.01)
    assert best["r1"]["difference"] == pytest.approx(15)


def test_doses_of_one_knob_leave_all_else_as_in_the_full_model(results):
    rows = loss_tables.dose_rows(results)
    kinds = rows.groupby(["variant", "knob"])["dose"].apply(list)
    assert kinds["released", "alpha"] == [0, 1e-4, 1, 100]
    assert kinds["described", "beta"] == [0, 0.005, 0.5]
    assert kinds["released", "dropout"] == [0, 0.1]


def test_sentences_are_short_and_say_what_was_found(results, papers):
    assert results["answer"].startswith("On facets both losses change R@1 by 25.0 [")
    assert "significant; released concepts span 1.1 of 8 directions, 3.0 at best." in results["answer"]
    sentences = results["details"]
    assert max(len(sentence.split()) for sentence in (results["answer"], *sentences)) <= 25
    assert all(sentence.endswith(".") for sentence in sentences)
    said = " ".join(sentences)
    assert "0.88 in training and 0.99 in evaluation; the diversity loss acts above 0.9" in said
    assert (
        "At alpha 100 two concepts of a video have 0.88 in training, 0.99 in evaluation, and span 1.2 directions."
        in said
    )
    assert f"The highest rank, 3.0, is that of {FREED}; R@1 changes by 15.0" in said
    assert loss_tables.sweeps_caption(papers) == "40 points per direction as printed, of 36 settings"
    assert "near its headline of 48.1 have mean R@1 47.28, sd 0.40; chance alone would put the best at 48.1." in said


def test_results_can_be_written(results, tmp_path):
    write_json(tmp_path / "losses.json", results)
    assert json.loads((tmp_path / "losses.json").read_text())["uncollapsed"]["dropout"] == 0


def test_tables_have_a_row_per_condition(results):
    assert len(loss_tables.contrasts_table(results)) == 10
    assert len(loss_tables.doses_table(results)) == len(loss_tables.training_table(results)) == len(results["doses"])
    targets = loss_tables.doses_table(results).set_index(["variant", "beta"])["target"]
    assert targets["released", "0.5"] == "0.047"
    assert targets["described", "0.5"] == "0.750"
    assert len(loss_tables.published_table(results)) == len(FACTORS)
    steps = loss_tables.steps_lines(results)
    assert steps["name"].unique().tolist() == ["released", FREED, "described"]
    assert steps.loc[steps["step"] == 92, "rank_video"].tolist() == [2.0] * 3


def test_figures_show_every_condition(results, papers):
    steps = loss_tables.steps_lines(results)
    assert len(figures.rank_over_steps(steps, 8, 1.6).data) == 6
    frame = loss_tables.doses_frame(results)
    points = [trace for trace in figures.training_against_evaluation(frame, HINGE).data if trace.mode == "markers"]
    assert sum(len(trace.x) for trace in points) == len(results["doses"])
    doses = figures.dose_response(loss_tables.dose_rows(results))
    assert len(doses.data) == 2 * 3 * len(figures.OUTCOMES)
    assert list(doses.data[0].x) == ["0", "0.0001", "1", "100"]
    swept = figures.published_sweeps(sweeps(papers))
    assert sum(len(trace.x) for trace in swept.data) == 80
    assert sum((trace.marker.symbol == "star").sum() for trace in swept.data) == 10


def test_the_forest_has_a_point_for_every_effect_and_every_seed(results):
    figure = figures.effects(loss_tables.contrast_rows(results))
    marks = [trace for trace in figure.data if trace.mode == "markers"]
    assert [len(trace.x) for trace in marks if trace.name] == [5, 5]
    assert [len(trace.x) for trace in marks if not trace.name] == [3] * 10
    assert set(figure.layout.yaxis.ticktext) == {*PARTS}


def test_drawings_name_what_they_show(results, papers):
    drawn = loss_tables.headline_figure(papers).svg(alone=True)
    assert "headline 48.1" in drawn
    assert drawn.count("<circle") == results["published"]["settings"] + 1
    ranks = loss_tables.rank_figure(results).svg()
    assert ranks.count("<polyline") == 3
    assert 'class="hero-bar"' in ranks

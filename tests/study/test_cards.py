"""The small figure of each question, from the results of its stage."""

import pytest

from glscl.study.answers import QUESTIONS, Study
from glscl.study.cards import card_figure
from tests.study import made_up_profile as made_up

BY_STAGE = {question.stage: question for question in QUESTIONS}


@pytest.fixture
def study(tmp_path):
    made_up.write_profile(tmp_path, "quick")
    return Study.read("quick", root=tmp_path)


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("benchmarks", ["mAP@10", "X-CLIP 24.0", "zero-shot CLIP 11.0"]),
        ("costs", ["X-CLIP over GLSCL", "published 221", "work per pair 24", "search, 1,000 6", "query, 100,000 6"]),
        ("losses", ["R@1", "both losses 0.5", "inter-consistency 0.5", "text-conditioned pooling 0.5"]),
        ("convergence", ["R@1", "GLSCL ends at 24.0", "X-CLIP ends at 33.0"]),
        ("transfer", ["over CLIP", "GLSCL 4.0"]),
    ],
)
def test_a_figure_shows_what_its_stage_found(study, stage, words):
    drawing = card_figure(study, BY_STAGE[stage], "scenes")
    told = f"{drawing.title}; {drawing.description}"
    assert all(word in told for word in words), told
    assert drawing.svg().count("hero-text") > 1  # the style, and a name


@pytest.mark.parametrize("stage", BY_STAGE)
def test_a_stage_that_did_not_run_has_no_figure(study, stage):
    assert card_figure(study._replace(profile="full"), BY_STAGE[stage], "scenes") is None


def test_without_training_only_what_there_is_is_drawn(tmp_path):
    made_up.write_profile(tmp_path, "quick", [])
    study = Study.read("quick", root=tmp_path)
    drawn = {stage for stage, question in BY_STAGE.items() if card_figure(study, question, "scenes")}
    assert drawn >= {"benchmarks", "costs"}
    assert "convergence" not in drawn


def test_before_anything_was_measured_costs_show_what_is_counted(study):
    (study.results / "measured/quick/costs.json").unlink()
    drawing = card_figure(study, BY_STAGE["costs"], "scenes")
    assert "work per pair 24" in drawing.description
    assert "search" not in drawing.description

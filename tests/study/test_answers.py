"""What is read from results: answers, tables, the cost of a query, and the dots of the picture."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from glscl.study.answers import (
    GALLERY,
    MAIN,
    QUESTIONS,
    Study,
    answers,
    main_table,
    points,
    query_macs,
    short_table,
    untrained,
)
from tests import ROOT
from tests.study import made_up_profile as made_up


@pytest.fixture
def study(tmp_path):
    made_up.write_profile(tmp_path, "full")
    return Study.read("full", root=tmp_path)


def changed(file: Path, **entries) -> None:
    made_up.write(file, json.loads(file.read_text()) | entries)


def test_every_question_has_the_answer_of_its_stage(study):
    found = {question.stage: sentences for question, [sentences] in answers(study)}
    assert [question.stage for question, _ in answers(study)] == [question.stage for question in QUESTIONS]
    assert found["losses"].sentence == "The losses answer."
    assert found["benchmarks"].details == ["T-MASS has a detail."]
    assert not found["losses"].measured


def test_an_answer_with_measured_numbers_stands_with_those(study):
    found = next(answer for question, [answer] in answers(study) if question.stage == "costs")
    assert found.sentence == "On this machine X-CLIP takes longer."
    assert found.measured
    assert found.details == ["It is counted.", "It was timed."]


def test_an_absent_answer_names_its_stage(study):
    (study.results / "full/scenes/transfer.json").unlink()
    found = {question.stage: answer.sentence for question, [answer] in answers(study)}
    assert found["transfer"] == "Not answered here; the stage transfer of this profile would do it."


def test_answers_on_several_corpora_are_named(study):
    other = study.results / "full/stories"
    made_up.write(other / "losses.json", {"answer": "None.", "details": []})
    profile = study.settings["profiles"]["full"] | {"questions": ["scenes", "stories"]}
    settings = study.settings | {"profiles": {"full": profile}}
    both = study._replace(worlds={"features": ["stories"], "videos": ["scenes"]}, settings=settings)
    assert both.datasets == ["stories", "scenes"]
    found = {question.stage: [one.sentence for one in each] for question, each in answers(both)}
    assert found["losses"] == ["scenes: The losses answer.", "stories: None."]
    assert len(found["costs"]) == 1


def test_a_query_costs_the_text_and_every_pair(study):
    macs = query_macs(study, "scenes")
    assert macs["glscl"] == made_up.TEXT + GALLERY * made_up.PAIR["glscl"]
    assert macs["zero-shot CLIP"] == macs["clip4clip_seqTransf"] == GALLERY * made_up.PAIR["mean_pooling"]
    re_ranked = made_up.TEXT + made_up.DEPTH * made_up.PAIR["cross_encoder"]
    assert macs["cross_encoder_temporal"] == macs["zero-shot CLIP"] + re_ranked


def test_the_dots_are_the_heads_under_one_temporal_encoder(study):
    found = {point.name: point for point in points(study, "scenes")}
    assert list(found) == ["CLIP4Clip", "X-CLIP", "T-MASS", "cross-encoder, best 20", "GLSCL"]
    assert found["X-CLIP"][2:] == (24.0, 23.0, 25.0, False)
    assert found["GLSCL"].hero
    assert untrained(study, "scenes") == 11.0


def test_without_glscl_the_most_common_temporal_encoder_counts(tmp_path):
    made_up.write_profile(tmp_path, "full", ["x_pool", "x_clip", "t_mass_temporal"])
    study = Study.read("full", root=tmp_path)
    assert [point.name for point in points(study, "scenes")] == ["X-CLIP", "T-MASS"]
    assert not any(point.hero for point in points(study, "scenes"))


def test_without_training_there_are_no_dots(tmp_path):
    made_up.write_profile(tmp_path, "full", [])
    study = Study.read("full", root=tmp_path)
    assert points(study, "scenes") == []
    assert main_table(study, "scenes")["method"].tolist() == ["zero-shot CLIP", "chance"]
    assert short_table(study, "scenes")["method"].tolist() == ["zero-shot CLIP"]


def test_the_short_table_has_seven_rows_at_most_and_readable_names(study):
    table = short_table(study, "scenes")
    assert 5 < len(table) <= len(MAIN) == 7
    assert table["method"].tolist() == ["zero-shot CLIP", "CLIP4Clip", "X-CLIP", "T-MASS", "cross-encoder", "GLSCL"]
    own = table.set_index("method").loc["GLSCL"]
    assert own.tolist() == ["2 layers", "15.0 [14.0, 16.0]", "15.0", "15.0", "10.1"]


def test_other_methods_fill_a_short_table(tmp_path):
    made_up.write_profile(tmp_path, "full", ["x_pool"])
    assert short_table(Study.read("full", root=tmp_path), "scenes")["method"].tolist() == [
        "zero-shot CLIP",
        "X-Pool, as published",
    ]


def test_the_main_table_holds_results_alone(study):
    table = main_table(study, "scenes")
    assert table["method"].tolist() == [*made_up.METHODS, "zero-shot CLIP", "chance"]
    assert not pd.Series(table["R@1 \N{UPWARDS ARROW}"]).str.startswith(("30", "40")).any()


def test_what_a_study_is_about(study):
    assert study.about("scenes") == "scenes, 1,000 texts and 500 videos, 2 seeds"
    assert study.hardware() == made_up.HARDWARE
    assert study.exists()
    assert not study._replace(profile="quick").exists()


def test_every_question_has_its_notebook_and_stage():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for question in QUESTIONS:
        named = Path(question.page).stem
        assert (ROOT / f"notebooks/{named}.ipynb").exists(), named
        assert question.stage in stages

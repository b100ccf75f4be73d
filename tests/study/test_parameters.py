"""Sections of params.yaml as parameters: which value replaces which, and what is refused."""

import pytest

from glscl.study import parameters
from tests import ROOT
from tests.study.conftest import PARAMS

GENERAL = {"train": {"epochs": 5, "lr": 0.1}, "study.datasets": ["scenes"]}


def test_a_section_is_one_parameter():
    assert parameters.resolve({**GENERAL, "methods": {"mean": {"head": "mean"}}}) == {
        "train": {"epochs": 5, "lr": 0.1},
        "datasets": ["scenes"],
        "methods": {"mean": {"head": "mean"}},
    }


def test_profile_then_dataset_then_method_replace_the_general_values():
    levels = {
        "methods.glscl": {"head": "glscl", "train": {"epochs": 1}},
        "datasets.clips.train": {"epochs": 2, "lr": 0.2},
        "profiles.quick.train": {"epochs": 3, "lr": 0.3},
    }
    for kept, expected in ((0, (5, 0.1)), (1, (3, 0.3)), (2, (2, 0.2)), (3, (1, 0.2))):
        sections = dict(list(levels.items())[len(levels) - kept :])
        found = parameters.resolve({**sections, **GENERAL})
        assert found["train"] == {"epochs": expected[0], "lr": expected[1]}
    assert found["head"] == "glscl"


def test_a_profile_gives_lists_and_an_entry_of_datasets_is_the_target():
    entry = {"corpus": {"folder": "a"}, "inputs": {"frames": 2}}
    found = parameters.resolve({"profiles.quick.seeds": [0, 1], "datasets.stories": entry})
    assert found == {"seeds": [0, 1], "target_corpus": entry}


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"profiles.quick.train": {"epoch": 1}}, ["'profiles.quick.train'", "epochs, lr", "got epoch"]),
        ({"datasets.clips.train": {"lrr": 1}}, ["'datasets.clips.train'", "got lrr"]),
        (
            {"methods.glscl": {"head": "glscl", "trian": {}}},
            ["'methods.glscl'", "head, model, start, train", "got trian"],
        ),
        ({"datasets.clips": {"trian": {}}}, ["'datasets.clips'", "got trian"]),
    ],
)
def test_a_misspelt_key_is_refused(sections, words):
    with pytest.raises(ValueError, match="misspelt") as caught:
        parameters.resolve({**GENERAL, **sections})
    assert all(word in str(caught.value) for word in words), caught.value


def test_given_values_replace_whole_parameters_or_keys():
    before = {"train": {"lr": 0.1, "epochs": 2}, "seeds": [0]}
    found = parameters.assigned(before, ["train.lr=1e-7", "seeds=[1, 2]", "queries=[a red circle]"])
    assert found == {"train": {"lr": 1e-7, "epochs": 2}, "seeds": [1, 2], "queries": ["a red circle"]}
    assert before["train"]["lr"] == 0.1
    known = {"train": {"lr": 9}, "search": {"queries": [], "best": 3}}
    found = parameters.assigned(before, ["train.epochs=3", "search.queries=[a]"], known)
    assert found == {"train": {"lr": 0.1, "epochs": 3}, "seeds": [0], "search": {"queries": ["a"], "best": 3}}
    for wrong in ("lr", "a-b=1", "train.=1", "=2"):
        with pytest.raises(ValueError, match="expected key=value"):
            parameters.assigned({}, [wrong])


def test_a_matrix_stage_gets_what_it_declares(small):
    root, items = small(), {"dataset": "stories", "method": "glscl"}
    found = parameters.resolve(parameters.declared_by_stage(root, "train@stories-glscl", items))
    trained = PARAMS["train"] | PARAMS["methods"]["glscl"]["train"]
    inputs = PARAMS["datasets"]["stories"]["inputs"]
    assert found == {"train": trained, "inputs": inputs, "head": "glscl", "model": {}}
    with pytest.raises(ValueError, match=r"no stage 'trian'.*prepare.*train"):
        parameters.declared_by_stage(root, "trian@stories-glscl", items)


def test_the_recipe_of_the_method_has_the_last_word_and_may_add_settings():
    recipes = {
        "glscl": {"train": {"lr": 0.3, "betas": [0.9, 0.98]}, "not_done": ["crops"]},
        "mean": "the authors give none",
    }
    sections = {"recipes.clips": recipes, **GENERAL, "use_recipes": True}
    for method, train in (
        ("glscl", {"epochs": 1, "lr": 0.3, "betas": [0.9, 0.98]}),
        ("mean", {"epochs": 1, "lr": 0.1}),
    ):
        found = parameters.resolve(sections | {f"methods.{method}": {"head": "glscl", "train": {"epochs": 1}}})
        assert found["train"] == train
        assert found["recipe"] == parameters.recipe_of(recipes, method)
        assert not {"recipes", "use_recipes"} & found.keys()
    assert parameters.resolve(sections)["recipes"] == recipes


@pytest.mark.slow
def test_dvc_and_the_stage_read_the_same_parameters():
    from dvc.repo import Repo

    with Repo(str(ROOT)) as repo:
        stages = {stage.addressing: stage for stage in repo.index.stages if "@quick" in stage.addressing}
    for name, stage in stages.items():
        if "method" in stage.cmd and not name.endswith("-glscl"):
            continue
        items = {"profile": "quick", "dataset": "scenes" if "scenes" in name else "facets", "method": "glscl"}
        read = {key: value for params in stage.params for key, value in params.read_params().items()}
        assert parameters.declared_by_stage(ROOT, name, items) == read


def test_the_dataset_tells_its_world(small):
    params = {"study": {"features": ["facets"], "videos": ["scenes", "own"]}}
    assert [parameters.world_of(params, name) for name in ("facets", "own")] == ["features", "videos"]
    with pytest.raises(ValueError, match="should name stories"):
        parameters.world_of(params, "stories")


def test_sections_are_found_by_name(small):
    root = small()
    assert parameters.named_sections(root, ["use_recipes", "datasets.stories.inputs"]) == {
        "use_recipes": True,
        "datasets.stories.inputs": PARAMS["datasets"]["stories"]["inputs"],
    }
    with pytest.raises(ValueError, match=r"params.yaml has no 'sences'"):
        parameters.named_sections(root, ["datasets.sences"])


@pytest.mark.parametrize("broken", ["train: {epochs: 1, epochs: 2}", "train: [}", "a: b: c"])
def test_a_file_that_is_no_yaml_is_refused_with_the_line(tmp_path, broken):
    (tmp_path / "params.yaml").write_text(f"check: {{}}\n{broken}\n")
    with pytest.raises(ValueError, match=r"^params.yaml should be YAML .*line 2: .*; correct it.$"):
        parameters.load_params(tmp_path)


def test_defaults_are_the_literals_of_the_parameters_cell(small):
    root = small()
    assert parameters.defaults(root / "notebooks/train.ipynb")["train"] == PARAMS["train"]

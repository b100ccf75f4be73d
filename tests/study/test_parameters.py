"""Sections of params.yaml as parameters: which value replaces which, and what is refused."""

import copy
import re
import shutil
from functools import reduce
from operator import getitem
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import modify_yaml

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
    params = {"study": {"features": ["facets"], "videos": ["scenes"]}, "own": {"corpora": ["own"]}}
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


def leaves(entry, *place):
    """Place and value of everything that is no mapping."""
    for key, value in entry.items():
        yield from leaves(value, *place, key) if isinstance(value, dict) and value else [((*place, key), value)]


def set_all(path, values):
    """Write values into params.yaml as `dvc exp run -S` does, which sets every one of the file anew."""
    with modify_yaml(path) as data:
        for place, value in values:
            reduce(getitem, place[:-1], data)[place[-1]] = copy.deepcopy(value)


@pytest.fixture
def written(tmp_path):
    """A copy of params.yaml."""
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path))


def test_setting_any_value_to_itself_changes_no_byte(written):
    set_all(written, leaves(PARAMS))
    same = written.read_text() == (ROOT / "params.yaml").read_text()
    assert same, f"copy {written} over params.yaml, which DVC would write so, and mind that no comment follows a list"
    apply_overrides(written, ["train.lr_new=[3e-4,1e-3,3e-3,1e-2]", "train.keep_epochs=false", "train.lr_scale=null"])
    assert written.read_text() == (ROOT / "params.yaml").read_text()


def test_every_list_can_be_emptied_and_filled_again(written):
    lists = [(place, value) for place, value in leaves(PARAMS) if isinstance(value, list)]
    assert len(lists) > 100
    set_all(written, [(place, []) for place, _ in lists])
    assert all(reduce(getitem, place, parameters.load_params(written.parent)) == [] for place, _ in lists)
    set_all(written, lists)
    assert written.read_text() == (ROOT / "params.yaml").read_text()


def test_a_changed_value_changes_one_line(written):
    before = written.read_text().splitlines()
    apply_overrides(written, ["evaluate.bank_size=300"])
    after = written.read_text().splitlines()
    assert [line for line, was in zip(after, before, strict=True) if line != was] == ["  bank_size: 300"]


def test_comments_of_params_stand_on_lines_of_their_own():
    behind = [line for line in (ROOT / "params.yaml").read_text().splitlines() if re.search(r"\S.*\s#", line)]
    assert [line for line in behind if not line.lstrip().startswith("#")] == []

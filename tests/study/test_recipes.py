"""The authors' recipes in params.yaml: complete, of known settings, followed where they should be, and trainable."""

import dataclasses
import json

import pandas as pd
import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from glscl.data.dataset import Split
from glscl.methods import METHODS, settings_of
from glscl.study import parameters
from glscl.study.parameters import NO_RECIPE, recipe_of, require_prepared
from glscl.training.trainer import TrainSettings, train
from tests import ROOT
from tests.conftest import TINY_CLIP

PARAMS = parameters.load_params(ROOT)
BENCHMARKS = ("msrvtt", "msvd", "lsmdc", "didemo", "activitynet")
RELEASED = [name for name in PARAMS["methods"] if not name.endswith("_temporal")]
PAIRS = [
    (dataset, method)
    for dataset, recipes in PARAMS["recipes"].items()
    for method, recipe in recipes.items()
    if recipe != NO_RECIPE
]
FRAMES, WORDS, BATCH = 3, 8, 4  # of the made-up data


def recipe(dataset: str, method: str) -> dict:
    return recipe_of(PARAMS["recipes"][dataset], method)


def sections(dataset: str, method: str, **changed) -> dict:
    """What the stage that trains a method declares, with inputs as the recipe wants them."""
    own = PARAMS["datasets"][dataset]
    found = {name: PARAMS[name] for name in ("train", "model", "use_recipes")}
    found |= {f"datasets.{dataset}.{part}": own[part] for part in ("inputs", "train", "model")}
    found |= {f"methods.{method}": PARAMS["methods"][method], f"recipes.{dataset}": PARAMS["recipes"][dataset]}
    found[f"datasets.{dataset}.inputs"] = own["inputs"] | recipe(dataset, method).get("inputs", {})
    return found | changed


def test_every_dataset_has_an_entry_and_every_pair_of_benchmark_and_method_an_answer():
    assert PARAMS["recipes"].keys() == PARAMS["datasets"].keys()
    for dataset in BENCHMARKS:
        assert list(PARAMS["recipes"][dataset]) == RELEASED, dataset
    assert not any(PARAMS["recipes"][name] for name in ("facets", "scenes", "stories", "own"))


@pytest.mark.parametrize(("dataset", "method"), PAIRS)
def test_a_recipe_is_complete_and_every_setting_is_known(dataset, method):
    found, head = recipe(dataset, method), PARAMS["methods"][method]["head"]
    assert found.keys() == parameters.OF_RECIPES
    assert found["inputs"].keys() == {"frames", "words"}
    assert found["prepare"].keys() <= PARAMS["prepare"].keys()
    needed = {"epochs", "batch_size", "lr_new", "lr_clip", "weight_decay", "warmup", "clip_grad", "optimizer", "betas"}
    assert found["train"].keys() == needed <= {field.name for field in dataclasses.fields(TrainSettings)}
    assert "temporal_layers" in found["model"]
    assert settings_of(head, found["model"]) == found["model"], "a setting that the head lacks"
    assert found["source"]
    assert all(isinstance(sentence, str) for sentence in found["not_done"])


def test_the_recipe_has_the_last_word_in_what_a_stage_trains():
    for dataset, method in PAIRS:
        resolved = parameters.resolve(sections(dataset, method))
        found = resolved["recipe"]
        assert found == recipe(dataset, method)
        assert {**resolved["train"], **found["train"]} == resolved["train"]
        assert {**resolved["model"], **found["model"]} == resolved["model"]
    parameters.check_known(ROOT / "notebooks/03_train.ipynb", resolved)


def test_without_a_recipe_the_dataset_has_the_last_word():
    general = PARAMS["train"] | PARAMS["datasets"]["msrvtt"]["train"]
    for method, changed in (("ncl", {}), ("x_pool_temporal", {}), ("x_clip", {"use_recipes": False})):
        resolved = parameters.resolve(sections("msrvtt", method, **changed))
        assert resolved["recipe"] == {}
        assert resolved["train"] == general
        assert "use_recipes" not in resolved


def test_bundled_corpora_are_trained_as_without_recipes():
    for dataset in ("facets", "scenes", "stories"):
        given = sections(dataset, "glscl")
        resolved = parameters.resolve(given)
        assert resolved.pop("recipe") == {}
        assert resolved == parameters.resolve({k: v for k, v in given.items() if "recipes" not in k})


def test_a_corpus_that_a_recipe_does_not_fit_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"t_mass with -S datasets.didemo.inputs.frames=12") as caught:
        parameters.resolve(
            sections("didemo", "t_mass", **{"datasets.didemo.inputs": PARAMS["datasets"]["didemo"]["inputs"]})
        )
    assert "use_recipes=false" in str(caught.value)
    followed = {name: recipe("msrvtt", name) for name in ("x_clip", "glscl", "x_pool")}
    inputs, fps = PARAMS["datasets"]["msrvtt"]["inputs"], {"sampling": "fps", "fps": 1, "offsets": 1, "quality": 90}
    require_prepared("msrvtt", {name: followed[name] for name in ("x_clip", "glscl")}, inputs, fps)
    with pytest.raises(ValueError, match=r"run x_pool with -S .*words=77 -S .*msrvtt.prepare.sampling=uniform \("):
        require_prepared("msrvtt", followed, inputs, fps)
    with pytest.raises(ValueError, match=r"run x_clip, glscl with -S .*prepare.sampling=fps -S .*offsets=1; "):
        require_prepared("msrvtt", followed, inputs, PARAMS["prepare"])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [("none", "'the authors give none', got 'none'"), ({"trian": {}}, "got trian"), (None, "should be a mapping")],
)
def test_a_recipe_of_another_form_is_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        recipe_of({"glscl": wrong}, "glscl")


def made_up(seed: int) -> Split:
    """Four texts and their videos of random tokens and pixels; the first item of each is shorter."""
    draw = torch.Generator().manual_seed(seed)
    names = [f"clip{i}" for i in range(BATCH)]
    captions = pd.DataFrame({"caption_id": names, "video": names, "text": names})
    tokens = torch.randint(1, 48, (BATCH, WORDS), generator=draw)
    tokens[:, 0], tokens[:, -1] = 48, 49
    word_mask, frame_mask = torch.ones(BATCH, WORDS).long(), torch.ones(BATCH, FRAMES).long()
    tokens[0, 4:], word_mask[0, 5:], frame_mask[0, 2:] = 0, 0, 0
    tokens[0, 4] = 49
    size = TINY_CLIP["vision_config"]["image_size"]
    pixels = torch.randn(BATCH, FRAMES, 3, size, size, generator=draw) * frame_mask[..., None, None, None]
    return Split(captions, {"token_ids": tokens, "word_mask": word_mask}, {"pixels": pixels, "frame_mask": frame_mask})


DISTINCT = {
    json.dumps([PARAMS["methods"][method]["head"], recipe(dataset, method)["train"], recipe(dataset, method)["model"]])
    for dataset, method in PAIRS
}


@pytest.mark.parametrize("settings", sorted(DISTINCT))
def test_steps_of_a_recipe_on_made_up_data(settings, tmp_path):
    """Two steps: the released schedule begins with a rate of 0."""
    head, trained, model = json.loads(settings)
    torch.manual_seed(0)
    # The temporal encoder starts from the blocks of the text tower.
    blocks = {"text_config": TINY_CLIP["text_config"] | {"num_hidden_layers": 4}}
    clip = CLIPModel(CLIPConfig(**(TINY_CLIP | blocks)))
    built = METHODS[head].from_clip(clip, frames=FRAMES, words=WORDS, **model)
    before = {name: weight.clone() for name, weight in built.state_dict().items()}
    small = TrainSettings(**(trained | {"epochs": 2, "batch_size": BATCH}), backbone="finetuned")
    train(built, made_up(0), made_up(1), small, 0, tmp_path, progress=False)
    curve = pd.read_csv(tmp_path / "curve.csv")
    assert curve["step"].tolist() == [1, 2]
    # Rounding to float16 alone is no change.
    changed = {
        name
        for name, weight in built.state_dict().items()
        if not torch.equal(weight, before[name]) and not torch.equal(weight, before[name].half().float())
    }
    assert any(name.startswith("clip.text_model") for name in changed)
    assert any(name.startswith("clip.vision_model") for name in changed)
    assert all(torch.isfinite(weight).all() for weight in built.state_dict().values())

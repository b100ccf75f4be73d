"""What params.yaml may say: every wrong value is refused in one sentence before anything runs."""

import copy
import re
import time

import pytest

from glscl.study import schema
from glscl.study.parameters import load_params, load_stages
from tests import ROOT

PARAMS, STAGES = load_params(ROOT), load_stages(ROOT)


def changed(*pairs) -> dict:
    """params.yaml with values in place of others: key, value, key, value. A key is dotted."""
    params = copy.deepcopy(PARAMS)
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        *path, last = key.split(".") if isinstance(key, str) else [key]
        entry = params
        for name in path:
            entry = entry[name]
        entry[last] = value
    return params


def message(*pairs) -> str:
    """The sentence that refuses these changes of params.yaml."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        schema.check(changed(*pairs), STAGES)
    return str(caught.value)


def test_the_parameters_of_the_study_are_accepted_in_a_moment():
    began = time.process_time()
    schema.check(PARAMS, STAGES)
    assert time.process_time() - began < 5


MAPPING = {"a": 1}
QUICK, FULL = "profiles.quick", "profiles.full"
REFUSED = [  # key, value, what the sentence says beside the key
    # names
    ("trian", {}, '"trian"; it has study, .* did you mean train?'),
    ("study.sedes", [0], '"sedes"; it has features, videos'),
    (f"{QUICK}.sedes", [0], '"sedes"; it has .*'),
    (f"{QUICK}.features.seads", [0], '"seads"; it has .* did you mean seeds?'),
    (f"{QUICK}.features.train.epoch", 1, '"epoch"; it has .* did you mean epochs?'),
    (f"{QUICK}.losses.alpa", [0], '"alpa"; it has .* did you mean alpha?'),
    ("train.lr", 1e-3, '"lr"; it has .*lr_new'),
    ("train.backbone", "frozen", '"backbone"; it has '),
    ("model.num_querys", 8, "did you mean num_queries?"),
    ("check.max_mising", 0, "did you mean max_missing?"),
    ("methods.glscl.trian", {}, "did you mean train?"),
    ("methods.x_clip.model", {"num_queries": 4}, '"num_queries"; it has '),
    ("datasets.scenes.trian", {}, "did you mean train?"),
    ("datasets.scenes.inputs.frame", 8, "did you mean frames?"),
    ("datasets.scenes.corpus.seed", 0, '"seed"; it has folder'),
    ("datasets.facets.corpus.objcts", 1, "did you mean objects?"),
    ("datasets.facets.corpus.folder", "x", '"folder"; it has '),
    ("recipes.msrvtt.glscl.trian", {}, "did you mean train?"),
    ("recipes.msrvtt.glsl", {}, "did you mean glscl?"),
    ("recipes.msrvt", {}, "did you mean msrvtt?"),
    ("recipes.msrvtt.x_clip.model.num_queries", 8, '"num_queries"; it has '),
    ("worlds.changed.no order told.orderd", True, "did you mean ordered?"),
    ("worlds.changed.no order told.training", {"lr_scal": 1}, "did you mean lr_scale?"),
    ("transfer.shifts.look.lok", 0.5, "did you mean look?"),
    (1, {}, "1; it has study"),
    ("methods", {1: PARAMS["methods"]["glscl"]}, "methods.1 should be a text, got 1|must be one of 1, got"),
    # whole sections
    ("study", None, "a mapping, got null"),
    ("study", [], r"a mapping, got \[\]"),
    ("train", "fast", 'a mapping, got "fast"'),
    ("datasets", [], r"a mapping, got \[\]"),
    ("methods", {}, "of length 1 or more"),
    ("datasets.stories", None, "a mapping, got null"),
    ("datasets.scenes.train", None, "a mapping, got null"),
    ("methods.glscl", None, "a mapping, got null"),
    (f"{QUICK}.costs", None, "a mapping, got null"),
    (f"{QUICK}.worlds.changed", [], "a mapping"),
    ("recipes.msrvtt.glscl", "none", "a mapping or 'the authors give none', got \"none\""),
    # kinds of values
    ("train.keep_epochs", "no", 'true or false, got "no"; write true or false, without quotes'),
    ("train.keep_epochs", 1, "true or false, got 1"),
    ("use_recipes", "false", 'true or false, got "false"'),
    ("losses.combined", 0, "true or false, got 0"),
    ("model.reads_words", "yes", "true or false"),
    ("train.lr_new", "1e-3", r'train.lr_new\S* should be a number, got "1e-3"; write 1.0e-3, without quotes'),
    ("train.lr_new", [1e-3, "3E-3"], "write 3.0e-3"),
    ("train.lr_new", [], "of length 1 or more"),
    ("train.lr_new", 0, "above 0"),
    ("train.lr_new", True, "a number, got true"),
    ("train.lr_clip", "1e-7", "write 1.0e-7"),
    ("train.lr_clip", float("nan"), "a finite number, got NaN"),
    ("train.weight_decay", float("inf"), "a finite number"),
    ("train.epochs", 1.5, "a whole number, got 1.5"),
    ("train.epochs", "10", 'a whole number, got "10"; write 10, without quotes'),
    ("train.epochs", True, "a whole number, got true"),
    ("train.epochs", None, "a whole number, got null"),
    ("train.epochs", 0, "at least 1, got 0"),
    ("train.batch_size", 32.0, "a whole number, got 32.0"),
    ("train.batch_size", 1, "at least 2, got 1"),
    ("train.warmup", 1.0, "below 1"),
    ("train.betas", 0.9, "a list, got 0.9"),
    ("train.betas", [0.9], "of length 2 or more"),
    ("train.betas", [0.9, 1.2], "below 1"),
    ("train.optimizer", "sgd", "adamw, released, got 'sgd'"),
    ("train.compile", "yes", "true or false"),
    ("train.chunk", -1, "at least 0"),
    ("train.devices", [0.5], "a whole number"),
    ("train.devices", 0, "a list, got 0"),
    ("train.patience", -1, "at least 0, got -1"),
    (f"{QUICK}.features.train.epochs", 0, "at least 1"),
    ("methods.glscl.train.epochs", 1.5, "a whole number"),
    ("datasets.scenes.train.batch_size", 32.0, "a whole number"),
    ("datasets.msrvtt.train.lr_new", "1e-4", "write 1.0e-4"),
    ("recipes.msrvtt.glscl.train.epochs", 5.0, "a whole number"),
    ("model.variant", "relased", "released, described, got 'relased'; did you mean released?"),
    ("model.temporal_layers", 1.5, "a whole number"),
    ("model.temporal_layers", -1, "at least 0, got -1"),
    ("model.dropout", 1.0, "below 1"),
    ("model.negatives", 40, "got 40"),
    ("model.contrastive", "nlc", "infonce, ncl, got 'nlc'"),
    ("model.padding", "none", "masked, released"),
    ("methods.x_clip.head", "xclip", "did you mean x_clip?"),
    ("methods.ncl.model.contrastive", "nope", "infonce, ncl"),
    # seeds and other lists
    (f"{QUICK}.features.seeds", 3, "a list, got 3"),
    (f"{QUICK}.features.seeds", [-1], "at least 0, got -1"),
    (f"{QUICK}.features.seeds", [0.5], "a whole number, got 0.5"),
    (f"{QUICK}.features.seeds", ["a"], 'a whole number, got "a"'),
    (f"{QUICK}.features.seeds", [2**64], "below 4294967296"),
    (f"{QUICK}.features.seeds", [True], "a whole number, got true"),
    (f"{QUICK}.features.seeds", [], "of length 1 or more"),
    (f"{QUICK}.features.seeds", [0, 0], "each once, got 0 twice"),
    (f"{QUICK}.features.methods", ["glscl", "glscl"], 'each once, got "glscl" twice'),
    (f"{QUICK}.features.methods", ["gslcl"], 'got "gslcl"; did you mean glscl?'),
    (f"{QUICK}.features.methods", "glscl", 'a list, got "glscl"'),
    (f"{QUICK}.features.methods", None, "a list, got null"),
    (f"{QUICK}.features.concepts_of", ["x_clip"], "one of 'glscl'"),
    ("losses.seeds", [0], "of length 2 or more"),
    ("study.videos", ["nope"], 'got "nope"'),
    ("study.videos", ["facets"], "corpora of videos"),
    ("study.features", ["facets", "facets"], "each once"),
    (f"{QUICK}.questions", ["facts"], "did you mean facets?"),
    # inputs, corpora and their preparation
    ("datasets.scenes.inputs.backbone", "frozn", "frozen, finetuned, scratch, got 'frozn'; did you mean frozen?"),
    ("datasets.scenes.inputs.frames", 8.5, "a whole number, got 8.5"),
    ("datasets.scenes.inputs.frames", 0, "at least 1"),
    ("datasets.scenes.inputs.words", "x", 'a whole number, got "x"'),
    ("datasets.scenes.inputs.words", 2, "at least 3"),
    ("datasets.scenes.inputs.clip", "", "a text that is not empty"),
    ("datasets.scenes.corpus.folder", 3, "a text, got 3"),
    ("datasets.msrvtt.corpus.partition", "8k", "9k, 7k, full, mini"),
    ("datasets.own.corpus.seed", 0.5, "a whole number"),
    ("datasets.facets.inputs.words", 12, "inputs of a corpus of features must be"),
    ("datasets.facets.corpus.concepts", 4, "from 1 to 3 here, got 4"),
    ("datasets.facets.corpus.noise", -1, "at least 0"),
    ("datasets.facets.corpus.wording", 2, "0 or 1, got 2"),
    ("datasets.facets.corpus.train", 10.0, "a whole number"),
    ("check.max_missing", -1, "at least 0, got -1"),
    ("prepare.sampling", "unifrom", "uniform, head, fps, got 'unifrom'"),
    ("prepare.offsets", 2, "odd number"),
    ("prepare.fps", 0, "fps > 0"),
    ("prepare.quality", 96, "at most 95"),
    ("datasets.msrvtt.prepare.offsets", 2, "odd number"),
    # the other stages
    ("evaluate.bank_size", -1, "at least 1, got -1"),
    ("evaluate.rerank_depth", 0, "at least 1, got 0"),
    ("evaluate.first_stage", "nope", 'got "nope"'),
    ("evaluate.first_stage", "x_pool", "lacks x_pool, the evaluate.first_stage of its reranker"),
    ("concepts.pairs", 0, "at least 1"),
    ("concepts.perplexity", 0, "above 0"),
    ("concepts.perplexity", 5000, "below the 1280 points"),
    ("search.queries", "a red circle", "a list"),
    ("search.examples", 0, "a search needs sentences"),
    ("search.gallery", 0, "at least 1"),
    (f"{QUICK}.search.gallery", 2.5, "a whole number"),
    ("search.embed_mb", -1, "at least 0"),
    ("costs.galleries", [], "of length 1 or more"),
    ("costs.galleries", [100, 10], "must rise"),
    (f"{QUICK}.costs.blocks", 0, "at least 1, got 0"),
    ("costs.sizes", ["long"], "begin with short"),
    ("costs.sizes", ["shrt"], "did you mean short?"),
    ("costs.memory_gb", 0, "above 0"),
    ("costs.trained_on", "stories", "among study, facets, scenes, got stories"),
    ("costs.threads", 1.5, "a whole number"),
    ("worlds.heads", ["nope"], 'got "nope"'),
    (f"{FULL}.worlds.heads", ["x_pool"], "got x_pool"),
    ("worlds.changed", {"../up": {}}, "a name of letters"),
    ("worlds.changed.two objects in a frame", {"objects": 0}, "at least 1"),
    (f"{QUICK}.worlds.changed.logit scale 100.logit_scale", "20", "a number"),
    ("losses.variants", ["nope"], "released, described, got 'nope'"),
    ("losses.epochs", 0, "at least 1, got 0"),
    (f"{QUICK}.losses.epochs", 0, "at least 1, got 0"),
    ("losses.parts", ["both loses"], "did you mean both losses?"),
    ("losses.dropout", [1.0], "below 1"),
    ("losses.alpha", ["1e-4"], "write 1.0e-4"),
    (f"{QUICK}.convergence.heads", ["nope"], 'got "nope"'),
    (f"{QUICK}.convergence.heads", ["x_pool"], "got x_pool"),
    (f"{QUICK}.transfer.seeds", [7], "transfer.seeds of the profile quick must be among features.seeds"),
    ("transfer.target", "nope", 'got "nope"'),
    ("transfer.shifts.look.look", 2, "from 0 to 1"),
    ("transfer.few_shot_videos", 0, "at least 1"),
    ("methods.cross_encoder_temporal.start", "nope", 'got "nope"'),
    ("methods.glscl.start", "x_clip", "put it into rerankers"),
    ("profiles", {}, "of length 1 or more"),
    ("profiles.a/b", PARAMS["profiles"]["quick"], "a name of letters"),
]


@pytest.mark.parametrize(("key", "value", "words"), REFUSED, ids=lambda part: str(part)[:50])
def test_a_wrong_value_is_refused_in_one_sentence_with_its_key(key, value, words):
    said = message(key, value)
    assert said.startswith("params.yaml: ")
    assert not re.search(r"[.?][.?]$", said), said
    assert "\n" not in said
    assert re.search(words, said), said
    last = str(key).split(".")[-1]
    assert last in said, said


def test_a_second_corpus_of_ones_own_names_its_reader():
    def shop(**corpus):
        entry = PARAMS["datasets"]["own"] | {"corpus": {"reader": "own", "folder": "/videos/shop", "seed": 0} | corpus}
        return "datasets.shop", entry, "recipes.shop", {}, "own.corpora", ["own", "shop"]

    schema.check(changed(*shop()), STAGES)
    assert '"sed"; it has ' in message(*shop(sed=1))
    assert "got shop, one of your own; name it in own.corpora" in message(*shop(), "study.videos", ["shop"])
    assert "own.corpora must name entries with the reader own, got scenes" in message("own.corpora", ["scenes"])

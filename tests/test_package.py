"""The package: what users import and what it costs, models behind AutoModel, and no import cycle."""

import subprocess
import sys
from graphlib import TopologicalSorter

import pytest
import torch
from transformers import AutoConfig, AutoModel, CLIPConfig, CLIPModel

import glscl
from glscl.code_hash import imported
from glscl.methods import METHODS, settings_of
from tests import ROOT
from tests.conftest import TINY_CLIP


def test_what_users_need_is_imported_by_its_name():
    from glscl import GLSCL, METHODS, GLSCLConfig, Retriever, load_run

    assert METHODS["glscl"] is GLSCL
    assert GLSCL.config_class is GLSCLConfig
    assert callable(Retriever.from_pretrained)
    assert callable(load_run)
    assert dir(glscl) == sorted(glscl.__all__) == ["GLSCL", "GLSCLConfig", "METHODS", "Retriever", "load_run"]


def test_an_unknown_name_is_refused_and_the_known_ones_are_named():
    with pytest.raises(AttributeError, match=r"no attribute 'GLSLC'; it has GLSCL, GLSCLConfig, METHODS, Retriever, l"):
        glscl.GLSLC  # noqa: B018
    with pytest.raises(ImportError, match="GLSLC"):
        exec("from glscl import GLSLC")


def test_importing_the_package_alone_is_light():
    code = "import glscl, sys; dir(glscl); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert "glscl" in loaded.split()
    assert not {"torch", "transformers", "numpy", "pandas"} & set(loaded.split())


@pytest.mark.parametrize("name", METHODS)
def test_a_saved_model_is_found_by_automodel(name, tmp_path):
    clip = CLIPModel(CLIPConfig(**TINY_CLIP))
    model = METHODS[name].from_clip(clip, **settings_of(name, {"temporal_layers": 1, "decoder_heads": 4, "frames": 5}))
    model.save_pretrained(tmp_path)
    config, again = AutoConfig.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)
    assert type(config) is METHODS[name].config_class
    assert (config.model_type, config.frames, config.temporal_layers) == (model.config.model_type, 5, 1)
    assert type(again) is METHODS[name]
    for key, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], weight), key


FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "glscl").rglob("*.py"))
}
IMPORTS = {name: imported(path.read_text(encoding="utf-8"), name) for name, path in FILES.items()}


def layer(module: str) -> str:
    """`data` of glscl.data.corpora.msrvtt."""
    return module.split(".")[1]


def below(*layers: str) -> set[str]:
    """Layers that modules of these layers import, directly or not, themselves left out."""
    found, waiting = set(), [name for name in IMPORTS if name != "glscl" and layer(name) in layers]
    while waiting:
        for module in IMPORTS[waiting.pop()] - {"glscl"}:
            if layer(module) not in found:
                found.add(layer(module))
                waiting += [name for name in IMPORTS if name != "glscl" and layer(name) == layer(module)]
    return found - set(layers)


FOUNDATION = {"config", "losses", "metrics", "files", "locks", "child_process", "code_hash", "pretrained"}
MODELS = {"base", "model", "released", "rivals", "methods", "scoring"}
SEARCH = {"video_index", "milvus_index", "exact_search", "first_stage", "approximate_search"}
MAY_REACH = {
    "config": set(),
    "losses": set(),
    "metrics": set(),
    "files": set(),
    "locks": set(),
    "child_process": set(),
    "code_hash": set(),
    "released": set(),
    "pretrained": set(),
    "base": {"config", "losses", "pretrained", "released"},
    "scoring": {"base", "config", "losses", "pretrained", "released"},
    "model": {"base", "config", "losses", "pretrained", "released"},
    "rivals": {"base", "config", "losses", "pretrained", "released", "scoring"},
    "methods": {"base", "config", "losses", "model", "pretrained", "released", "rivals", "scoring"},
    "data": {"config", "child_process", "code_hash", "files", "locks", "pretrained"},  # it knows no model
    "encoding": {*FOUNDATION, "base", "data", "model", "released", "scoring"},
    "video_index": {"files", "locks"},
    "milvus_index": {"video_index", "files", "locks"},
    "exact_search": {"base", "config", "losses", "model", "pretrained", "released", "rivals", "scoring"},
    "first_stage": {"base", "config", "losses", "model", "pretrained", "released", "rivals", "scoring"},
    "approximate_search": MODELS - {"methods"}
    | {"config", "files", "losses", "pretrained", "exact_search", "first_stage"},
    "retriever": {*FOUNDATION, *MODELS, "data", *SEARCH},
    "cli": {*FOUNDATION, *MODELS, "data", "encoding", "evaluation", "report", "bundled", "retriever", *SEARCH},
    "mteb_search": {*FOUNDATION, *MODELS, "data", *SEARCH, "retriever"},
    "training": {*FOUNDATION, *MODELS, "data", "encoding"},
    "evaluation": {*FOUNDATION, *MODELS, "data", "encoding", "training", "bundled"},
    "report": {*FOUNDATION, *MODELS, "data", "encoding", "evaluation", "bundled"},
    "bundled": {*FOUNDATION, "data"},
}


@pytest.mark.parametrize("name", MAY_REACH)
def test_a_layer_reaches_the_layers_below_it_and_no_other(name):
    assert below(name) <= MAY_REACH[name]


def test_every_layer_but_the_study_has_its_rule_and_none_imports_the_study():
    assert {layer(name) for name in IMPORTS if name != "glscl"} == {*MAY_REACH, "study"}
    assert not IMPORTS["glscl"]  # it names its modules as text, and imports them when they are used


def test_no_imports_form_a_cycle():
    def holds(package, name):  # a module's packages are imported before it, which is no import of theirs
        return f"{name}.".startswith(f"{package}.")

    graph = {name: {module for module in used if not holds(module, name)} for name, used in IMPORTS.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)

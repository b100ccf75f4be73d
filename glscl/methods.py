"""The methods of the study by name. Every one is a `RetrievalModel`: the same encoders under another head."""

import dataclasses
from pathlib import Path

from transformers import AutoConfig, AutoModel

from glscl.base import RetrievalModel
from glscl.config import one_of
from glscl.model import GLSCL
from glscl.pretrained import model_type
from glscl.rivals.cross_encoder import CrossEncoder
from glscl.rivals.dicosa import DiCoSA
from glscl.rivals.drl import DRL
from glscl.rivals.glccl import GLCCL
from glscl.rivals.mean_pooling import MeanPooling
from glscl.rivals.t_mass import TMASS
from glscl.rivals.x_clip import XCLIP
from glscl.rivals.x_pool import XPool

METHODS: dict[str, type[RetrievalModel]] = {
    "cross_encoder": CrossEncoder,
    "dicosa": DiCoSA,
    "drl": DRL,
    "glccl": GLCCL,
    "glscl": GLSCL,
    "mean_pooling": MeanPooling,
    "t_mass": TMASS,
    "x_clip": XCLIP,
    "x_pool": XPool,
}
for _method in METHODS.values():
    AutoConfig.register(_method.config_class.model_type, _method.config_class)
    AutoModel.register(_method.config_class, _method)


def settings_of(method: str, settings: dict) -> dict:
    """The part of `settings` that `method` has; ValueError at an unknown method, or a setting that no method has."""
    one_of("method", method, tuple(METHODS))
    known = {name: {field.name for field in dataclasses.fields(m.config_class)} for name, m in METHODS.items()}
    if unknown := sorted(settings.keys() - set().union(*known.values())):
        raise ValueError(f"every setting must belong to a method, {', '.join(unknown)} to none; correct the spelling.")
    return {name: value for name, value in settings.items() if name in known[method]}


def load_trained(folder: str | Path) -> RetrievalModel:
    """The model in a folder that `glscl.training.runs.train_seeds` or `save_pretrained` wrote; ValueError elsewhere."""
    if (found := model_type(folder)) not in METHODS:
        raise ValueError(f"{folder} must hold one of {', '.join(METHODS)}, got a {found}; train one.")
    return METHODS[found].from_pretrained(folder)

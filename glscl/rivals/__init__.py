"""The methods of the study by name. Every one is a `RetrievalModel`: the same encoders under another head."""

import dataclasses

from transformers import AutoConfig

from glscl.config import one_of
from glscl.model import GLSCL, RetrievalModel
from glscl.rivals.mean_pooling import MeanPooling

METHODS: dict[str, type[RetrievalModel]] = {"glscl": GLSCL, "mean_pooling": MeanPooling}
for _method in METHODS.values():
    AutoConfig.register(_method.config_class.model_type, _method.config_class)


def settings_of(method: str, settings: dict) -> dict:
    """The part of `settings` that the configuration of `method` knows; an unknown method is a ValueError."""
    one_of("method", method, tuple(METHODS))
    known = {field.name for field in dataclasses.fields(METHODS[method].config_class)}
    return {name: value for name, value in settings.items() if name in known}

"""Small heads and a small CLIP whose costs are counted and timed in no time."""

import pytest
import torch
from transformers import CLIPConfig

from glscl.methods import METHODS
from glscl.study import costs, counting, formulas
from tests.conftest import TINY_CLIP

SMALL = {"frames": 3, "words": 7, "width": 48, "temporal_layers": 1}
TINY_TEXT = TINY_CLIP["text_config"] | {"max_position_embeddings": 64}
OWN = {"glscl": {"num_queries": 5, "decoder_layers": 2}, "cross_encoder": {"cross_layers": 3}}


def small(method: str, **settings):
    """A head of width 48, the same at every call."""
    torch.manual_seed(0)
    return counting.build(method, **SMALL | OWN.get(method, {}) | settings)


def small_clip():
    """A CLIP of width 32."""
    return counting.plain_clip(CLIPConfig(**TINY_CLIP | {"text_config": TINY_TEXT}))


def count_small(galleries: list[int]) -> dict:
    """What `count_costs` gives for small heads; formulas stand for the counter, which the tests compare with them."""

    def by_formula(head) -> dict[str, int]:
        method = next(name for name, kind in METHODS.items() if kind.head_class is type(head))
        totals = formulas.FORMULAS[method](head.config).totals()
        return {part: totals[part] for part in ("text", "video", "pair")}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "build", lambda head, frames, words: small(head))
        patch.setattr(costs, "plain_clip", small_clip)
        patch.setattr(costs, "count", by_formula)
        return costs.count_costs(galleries)

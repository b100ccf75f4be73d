"""The head of any rival, with weights that show in its scores."""

import pytest
import torch

from glscl.methods import METHODS


@pytest.fixture
def make_head(make_model):
    """make_head(method, spread=0.1, **settings) -> its head in evaluation mode; spread: of what its weights gain."""

    def make(method, spread=0.1, **settings):
        settings = {"temporal_layers": 1, "words": 11, "frames": 8} | settings
        head = METHODS[method].from_clip(make_model().clip, **settings).head
        torch.manual_seed(2)
        with torch.no_grad():
            for name, parameter in head.named_parameters():
                if not name.startswith(("temporal", "logit_scale")):
                    parameter += spread * torch.randn_like(parameter)
        return head

    return make

"""Memory of a training step: what is counted is what it takes, and one that does not fit is refused with a remedy."""

import sys
from contextlib import nullcontext

import pytest
import torch
from transformers import CLIPConfig

from glscl.methods import METHODS, settings_of
from glscl.study.timing import peak_memory
from glscl.training.bert_adam import prepare_clip
from glscl.training.memory import RESERVED, StepMemory, _kept, recomputed, require_memory, step_memory
from glscl.training.trainer import TrainSettings
from tests.conftest import TINY_CLIP

SETTINGS = {"epochs": 1, "batch_size": 16, "lr_new": 1e-3, "lr_clip": 1e-4, "weight_decay": 0.2}
SETTINGS |= {"warmup": 0.1, "clip_grad": 1.0, "backbone": "finetuned"}
LARGER = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4}
MEMORY = StepMemory(state=100, images=1, pixels=4, pair=120, lean=12, layer=10, loss=(6.0, 2.0, 1.0))


def settings(**changed) -> TrainSettings:
    return TrainSettings(**(SETTINGS | changed))


@pytest.fixture
def build():
    """build(method, frames, backbone, **sizes of the vision tower) -> a model as it is trained."""

    def make(method="glscl", frames=4, backbone="finetuned", **vision):
        torch.manual_seed(0)
        clip = CLIPConfig(**(TINY_CLIP | {"vision_config": TINY_CLIP["vision_config"] | vision}))
        given = settings_of(method, {"temporal_layers": 1, "decoder_heads": 4, "frames": frames, "words": 8})
        model = METHODS[method](METHODS[method].config_class(clip_config=clip, **given))
        model.clip.requires_grad_(backbone != "frozen")
        model.clip.logit_scale.requires_grad_(False)
        return model

    return make


def batch_of(model, pairs):
    """Random token ids, pixels and masks."""
    config, vision = model.config, model.config.clip_config.vision_config
    pixels = torch.randn(pairs, config.frames, 3, vision.image_size, vision.image_size)
    ids = torch.randint(1, 40, (pairs, config.words))
    return (ids, torch.ones_like(ids)), (pixels, torch.ones(pairs, config.frames, dtype=torch.long))


def loss_of(model, batch):
    texts, videos = batch
    return model.loss(model.encode_texts(*texts), model.encode_videos(*videos))["total"]


def test_what_autograd_keeps_is_counted_once_and_without_the_weights():
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Unflatten(1, (4, 4)))
    rows = torch.randn(10, 8)
    # the input of the linear layer and the output of tanh, of which the square keeps a view twice
    assert _kept(lambda: model(rows) * model[1](model[0](rows)).unflatten(1, (4, 4)).detach(), model) > 0
    assert _kept(lambda: model(rows).square(), model) == 4 * 10 * (8 + 16)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_few_items_tell_what_a_whole_batch_keeps(build, method, checkpointing):
    model = build(method)
    memory = step_memory(model, settings(), gpu=False)
    batch = batch_of(model, 13)
    model.train()
    with recomputed(model.clip) if checkpointing else nullcontext():
        whole = _kept(lambda: loss_of(model, batch), model)
    parts = 13 * (memory.lean if checkpointing else memory.pair) + sum(b * 13**n for n, b in enumerate(memory.loss))
    assert parts == pytest.approx(whole, rel=0.06)  # embeddings count twice where encoder and loss both keep them
    assert parts > 0.99 * whole


@pytest.mark.skipif(sys.platform != "linux", reason="the resident set of a process is read from /proc")
def test_a_step_takes_what_was_counted(build):
    model = build(frames=6, image_size=64, **LARGER)
    memory, batch = step_memory(model, settings(), gpu=False), batch_of(model, 16)
    model.train()
    loss_of(model, [[part[:2] for part in side] for side in batch]).backward()  # gradients and buffers are there
    taken = peak_memory(lambda: loss_of(model, batch).backward())
    counted = memory.peak(16) - memory.state - 16 * (2 * memory.images + memory.pixels)
    assert counted > 300e6
    assert counted == pytest.approx(taken, rel=0.15)


def test_half_precision_keeps_less_and_the_released_training_holds_half_weights(build):
    model = build(frames=8, image_size=64, **LARGER)
    full = step_memory(model, settings(), gpu=False)
    bfloat16 = step_memory(model, settings())
    assert 0.55 < bfloat16.pair / full.pair < 0.75  # LayerNorms keep their inputs in float32
    weights = sum(p.nbytes * (4 if p.requires_grad else 1) for p in model.parameters())
    assert full.state == pytest.approx(weights, rel=0.01)
    assert bfloat16.state > 1.05 * full.state  # with copies of the weights
    prepare_clip(model.clip)
    released = step_memory(model, settings(optimizer="released"))
    assert released.pair == pytest.approx(bfloat16.pair, rel=0.1)
    assert released.state < 0.75 * full.state


def test_a_frozen_clip_takes_its_weights_alone(build):
    small, large = build(backbone="frozen"), build(backbone="frozen", **LARGER)
    one, other = (step_memory(model, settings(backbone="frozen")) for model in (small, large))
    assert one.pair == other.pair == one.lean
    assert one.pixels == one.layer == 0
    clips = [sum(p.nbytes for p in model.clip.parameters()) for model in (small, large)]
    assert other.state - one.state == clips[1] - clips[0]


def test_the_peak_is_the_sum_of_its_parts():
    assert MEMORY.peak(8) == 100 + 16 + 8 * (4 + 120 + 10) + 6 + 16 + 64
    assert MEMORY.peak(8, checkpointing=True) == 100 + 16 + 8 * (4 + 12 + 20) + 6 + 16 + 64
    assert MEMORY.peak(8, chunk=2) == 100 + 16 + 2 * (4 + 120 + 10) + 6 + 16 + 64
    assert MEMORY.peak(8, chunk=99) == MEMORY.peak(8)
    assert MEMORY.peak(8, processes=4) == 100 + 4 + 2 * (4 + 120 + 10) + 6 + 16 + 64


@pytest.mark.parametrize(
    ("step", "found"),
    [
        ({}, {"checkpointing": False, "chunk": 0}),
        ({"checkpointing": True}, {"checkpointing": True, "chunk": 0}),
        ({"chunk": 2}, {"checkpointing": False, "chunk": 2}),
        ({"checkpointing": True, "chunk": 1}, {"checkpointing": True, "chunk": 1}),
    ],
)
def test_the_smallest_setting_is_the_cheapest_that_fits(step, found):
    capacity = (MEMORY.peak(8, **step) + 0.5) / (1 - RESERVED)
    assert MEMORY.smallest(capacity, 8) == found
    assert MEMORY.smallest(300 / (1 - RESERVED), 8, processes=8) is not None
    assert MEMORY.smallest(100, 8) is None


def test_training_that_does_not_fit_is_refused_with_a_setting_that_does(build):
    model = build(frames=8, image_size=64, **LARGER).eval()
    memory = step_memory(model, settings())
    enough = memory.peak(16) / (1 - RESERVED) + 1
    require_memory(model, settings(), enough)
    lean = memory.peak(16, checkpointing=True) / (1 - RESERVED) + 1
    assert lean < enough
    with pytest.raises(ValueError, match=r"^a step of 16 pairs should fit .*; set train.checkpointing=true\.$"):
        require_memory(model, settings(), lean)
    require_memory(model, settings(checkpointing=True), lean)
    with pytest.raises(ValueError, match=r"take a smaller train.batch_size or more GPUs\.$"):
        require_memory(model, settings(), 1000)
    require_memory(model, settings(), memory.peak(16, processes=2) / (1 - RESERVED) + 1, processes=2)
    assert not model.training
    assert not any("forward" in vars(layer) for layer in model.clip.vision_model.encoder.layers)

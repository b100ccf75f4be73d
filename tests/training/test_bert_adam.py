"""The released optimiser: the numbers of the release, closed forms, its schedule, and which weights are in float16."""

import math
import zlib

import numpy as np
import pytest
import torch

from glscl.training.bert_adam import (
    BertAdam,
    clamp_logit_scale,
    half_features,
    prepare_clip,
    released_learning_rate_factor,
)
from tests.released.reference import FOLDER

STEPS, ROWS, COLUMNS = 20, 12, 10
TYPES = {"float16": torch.float16, "float32": torch.float32}
RMS = (1e-5, 1e-3, 1e-1)
RATES = (1e-7, 1e-4)


def drawn(name: str, rms: float, shape: tuple[int, ...]) -> torch.Tensor:
    """Normal numbers (shape) of this root mean square, drawn by name, as float32."""
    values = rms * np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    return torch.tensor(values.astype(np.float32))


def problem(kind: str, rms: float) -> tuple[torch.nn.Parameter, torch.Tensor]:
    """A matrix (rows, columns) of rms 0.02 and its gradients (steps, rows, columns), both in the type `kind`."""
    weight = torch.nn.Parameter(drawn("weight", 0.02, (ROWS, COLUMNS)).to(TYPES[kind]))
    return weight, drawn(f"gradients {rms}", rms, (STEPS, ROWS, COLUMNS)).to(TYPES[kind])


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("rms", RMS)
@pytest.mark.parametrize("kind", TYPES)
def test_steps_are_those_of_the_release(kind, rms, rate):
    weight, gradients = problem(kind, rms)
    optimizer = BertAdam([weight], weight_decay=0.2)
    with np.load(FOLDER / "bert_adam.npz") as file:
        stored = {name: torch.tensor(file[f"{kind}.{rms}.{rate}.{name}"]) for name in ("weights", "mean", "square")}
    for step, gradient in enumerate(gradients):
        weight.grad = gradient.clone()
        optimizer.param_groups[0]["lr"] = rate * released_learning_rate_factor(step, STEPS, 0.1)
        optimizer.step()
        assert torch.equal(weight.detach(), stored["weights"][step]), step
    for name in ("mean", "square"):
        assert optimizer.state[weight][name].dtype == TYPES[kind]
        assert torch.equal(optimizer.state[weight][name], stored[name])


def test_squares_that_float16_loses_leave_descent_with_momentum_at_the_rate_lr_over_eps():
    weight, gradient = torch.nn.Parameter(torch.ones(5).half() / 16), torch.full((5,), 1e-3).half()
    optimizer = BertAdam([weight], lr=1e-4, eps=1e-6)
    for step in range(1, 4):
        before, weight.grad = weight.detach().clone(), gradient.clone()
        optimizer.step()
        assert (optimizer.state[weight]["square"] == 0).all()
        mean = 1e-3 * (1 - 0.9**step)
        moved = (before - weight.detach()).double()
        torch.testing.assert_close(moved, torch.full((5,), 1e-4 * mean / 1e-6).double(), rtol=0.03, atol=0)


def test_squares_that_are_kept_give_adam_without_bias_correction():
    weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = BertAdam([weight], lr=0.5, betas=(0.8, 0.95), eps=1e-3, max_norm=10.0)
    for step in range(1, 4):
        before, weight.grad = weight.detach().clone(), torch.full((3,), 0.3, dtype=torch.float64)
        optimizer.step()
        change = 0.5 * 0.3 * (1 - 0.8**step) / (0.3 * math.sqrt(1 - 0.95**step) + 1e-3)
        torch.testing.assert_close(before - weight.detach(), torch.full((3,), change, dtype=torch.float64))


def test_a_gradient_is_cut_to_its_norm_and_decay_acts_beside_it():
    weights = [torch.nn.Parameter(torch.tensor([2.0, 0.0])) for _ in range(2)]
    optimizer = BertAdam([{"params": weights[:1], "weight_decay": 0.2}, {"params": weights[1:]}], lr=0.1, max_norm=0.5)
    weights[0].grad = torch.tensor([0.0, 50.0])
    optimizer.step()
    assert weights[0].grad.norm().item() == pytest.approx(0.5)
    assert weights[0][0].item() == pytest.approx(2.0 - 0.1 * 0.2 * 2.0)
    assert weights[0][1].item() == pytest.approx(-0.1 * 0.1 / math.sqrt(0.02), rel=1e-4)
    assert weights[1].tolist() == [2.0, 0.0]  # no gradient, no step


def test_the_schedule_starts_at_zero_and_its_cosine_at_the_first_step():
    factors = [released_learning_rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[0] == 0.0
    assert factors[5] == pytest.approx(0.5)
    assert factors[9] == pytest.approx(0.9)
    assert factors[10] == max(factors) == pytest.approx(0.5 + 0.5 * math.cos(0.1 * math.pi))
    assert factors[50] == pytest.approx(0.5)
    assert released_learning_rate_factor(0, 100, 0.0) == 1.0


def test_linear_layers_of_clip_are_in_float16_and_the_patches_frozen(make_model):
    model = make_model()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    prepare_clip(model.clip)
    half = {name for name, weight in model.named_parameters() if weight.dtype == torch.float16}
    towers = [name for name in half if ".encoder.layers." in name and not name.startswith("head.")]
    assert len(towers) == 3 * (4 + 2) * 2  # layers, matrices of each, weight and bias
    assert half - set(towers) == {"clip.text_projection.weight", "clip.visual_projection.weight"}
    frozen = {name for name, weight in model.clip.named_parameters() if not weight.requires_grad}
    assert frozen == {"logit_scale", "vision_model.embeddings.patch_embedding.weight"}
    model.clip.float()
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name].half().float() if name in half else before[name]), name


def test_features_in_float16_are_near_those_in_float32_and_keep_gradients(make_model):
    model = make_model()
    generator = torch.Generator().manual_seed(0)
    batch = {
        "token_ids": torch.randint(1, 48, (3, 8), generator=generator),
        "word_mask": (torch.arange(8) < torch.tensor([8, 3, 5])[:, None]).long(),
        "pixels": torch.randn(3, 2, 3, 16, 16, generator=generator),
        "frame_mask": torch.tensor([[1, 1], [1, 0], [1, 1]]),
    }
    sentence, words = model.text_features(batch["token_ids"], batch["word_mask"])
    expected = {
        "sentence": sentence,
        "words": words,
        "frames": model.frame_features(batch["pixels"], batch["frame_mask"]),
    }
    prepare_clip(model.clip)
    found = half_features(model, batch)
    assert found.keys() == {"sentence", "words", "frames", "word_mask", "frame_mask"}
    for name, features in expected.items():
        assert found[name].dtype == torch.float32
        assert 0 < (found[name] - features).abs().max() < 5e-3 * features.abs().max()
    found["words"].sum().backward()
    assert model.clip.text_projection.weight.grad.dtype == torch.float16


def test_the_logit_scale_is_held_where_the_loss_still_moves_it(make_model):
    model = make_model()
    model.head.logit_scale.data.fill_(5.0)
    clamp_logit_scale(model)
    assert 99.9999 < model.head.logit_scale.exp().item() < 100
    model.head.logit_scale.data.fill_(2.0)
    clamp_logit_scale(model)
    assert model.head.logit_scale.item() == 2.0


@pytest.mark.parametrize(("rms", "times"), [(8e-5, 48), (3e-4, 277)])
def test_weights_in_float16_move_far_further_than_under_adamw_at_the_same_rate(rms, times):
    """rms: of the gradients, as those of a finetuned CLIP; times: how much further, after 300 steps at 1e-7."""
    start = drawn("weight", 0.02, (32, 32)).half()
    gradients = drawn(f"gradients {rms}", rms, (300, 32, 32))
    released, plain = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.float())
    optimizers = (
        BertAdam([released], lr=1e-7, weight_decay=0.2),
        torch.optim.AdamW([plain], lr=1e-7, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2),
    )
    for gradient in gradients:
        released.grad, plain.grad = gradient.half(), gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    far, near = ((weight.detach().float() - start.float()).square().mean().sqrt() for weight in (released, plain))
    assert times / 2 < far / near < 2 * times

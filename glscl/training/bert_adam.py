"""Training as the releases of the CLIP4Clip family do it: their optimiser, their schedule and their float16 weights.

CLIP4Clip, X-CLIP, DRL, DiCoSA, GLSCL and others hold the matrices of CLIP in float16 and train them without a copy in
float32. In float16 the square of a gradient below about 1e-3 is lost, so that the second moment stays 0 and Adam turns
into gradient descent with momentum, at the rate lr / eps: "1e-7" acts as 0.1. Sources: `optimization.py`,
`module_clip.py` and `main_retrieval.py` of the release of GLSCL. docs/differences.md names what is not reproduced.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from transformers import CLIPModel

from glscl.base import RetrievalModel

# ln 100, one step of float32 lower: exp of the float32 next to ln 100 is just above 100, where the limit of the loss
# would take the gradient of the logit scale away, which the releases keep.
LARGEST_LOGIT_SCALE = 4.6051697


class BertAdam(Optimizer):
    """Adam without bias correction, in the precision of each parameter.

    With gradient g: m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, and the parameter p loses
    lr (m / (sqrt(v) + eps) + weight_decay p). Moments have the type of their parameter, and every result is rounded to
    it. A parameter without a gradient is left alone.

    params: parameters or groups; a group may have its own values of what follows. lr: learning rate of the next step;
    it follows no schedule by itself. betas: b1, b2. max_norm: the gradient of each parameter is scaled down to this
    norm first, in place.
    """

    def __init__(self, params, lr=0.0, betas=(0.9, 0.98), eps=1e-6, max_norm=1.0, weight_decay=0.0):
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "max_norm": max_norm, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure=None) -> Tensor | None:
        """One step; the loss that `closure` returns, if there is one."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            rise, keep = group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                clip_grad_norm_(weight, group["max_norm"])
                state = self.state[weight]
                if not state:
                    state["mean"], state["square"] = torch.zeros_like(weight), torch.zeros_like(weight)
                # The order of the operations is that of the release: in float16 each of them rounds.
                mean = state["mean"].mul_(rise).add_(weight.grad, alpha=1 - rise)
                square = state["square"].mul_(keep).addcmul_(weight.grad, weight.grad, value=1 - keep)
                change = mean / square.sqrt().add_(group["eps"])
                if group["weight_decay"]:
                    change += group["weight_decay"] * weight
                weight -= group["lr"] * change
        return loss


def released_learning_rate_factor(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at a step of `steps`, counted from 0: so the first step changes nothing.

    A linear rise over the share `warmup` of all steps, then a cosine that began at step 0: right after the rise the
    rate drops, to 0.976 of its peak for a warmup of 0.1.
    """
    progress = step / steps
    return progress / warmup if progress < warmup else (1 + math.cos(math.pi * progress)) / 2


def prepare_clip(clip: CLIPModel) -> None:
    """Freeze what the releases freeze, the projection of the patches, and convert what they train in float16."""
    clip.vision_model.embeddings.patch_embedding.requires_grad_(False)
    to_half(clip)


def to_half(clip: CLIPModel) -> None:
    """Convert matrices and biases of CLIP's linear layers to float16, in place; `clip.float()` is the way back.

    LayerNorms, embeddings, positions, the class embedding and the logit scale stay in float32, as in the releases. The
    frozen projection of the patches stays too: under autocast it is rounded at each use, to the same numbers.
    """
    for module in clip.modules():
        if isinstance(module, nn.Linear):
            module.half()


def half_features(model: RetrievalModel, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The batch with features of a CLIP in float16 in the place of tokens and pixels; the features are float32.

    batch: token_ids, word_mask (pairs, words), pixels (pairs, frames, 3, height, width), frame_mask (pairs, frames).
    Returns sentence (pairs, width), words (pairs, words, width), frames (pairs, frames, width) and both masks.
    """
    with torch.autocast(model.device.type, torch.float16):
        sentence, words = model.text_features(batch["token_ids"], batch["word_mask"])
        frames = model.frame_features(batch["pixels"], batch["frame_mask"])
    features = {"sentence": sentence.float(), "words": words.float(), "frames": frames.float()}
    return features | {name: batch[name] for name in ("word_mask", "frame_mask")}


def clamp_logit_scale(model: RetrievalModel) -> None:
    """Hold the head's logit scale to at most ln 100, as the releases do after every step."""
    with torch.no_grad():
        model.head.logit_scale.clamp_(max=LARGEST_LOGIT_SCALE)

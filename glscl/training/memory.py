"""How much memory a training step takes, counted on a few items, so that a run is refused before it starts.

A step holds weights, gradients and moments; the images of its batch and of the next one; what autograd keeps of the
encoders for the gradient, in proportion to the pairs that are encoded at a time; and what it keeps of the loss.
Autograd shows every tensor that it keeps. So one and two texts, frames and videos are encoded, the loss of three small
batches is computed, and the rest is arithmetic.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint
from transformers import CLIPModel

from glscl.base import RetrievalModel, detached

RESERVED = 0.08  # of a device's memory: the driver, buffers of libraries, gaps between tensors
LOSS_OF = (10, 12, 14)  # pairs of the batches whose loss is counted: more than a cross-encoder draws negatives for


class StepMemory(NamedTuple):
    """Bytes of one training step.

    state: weights, gradients, moments, and copies of weights in half precision, whatever the batch. images: of a pair,
    uint8. pixels: of a pair, float32. pair: what autograd keeps of a text and its video, CLIP and head. lean: the same
    with checkpointing. layer: of a pair, of one layer of CLIP's vision tower. loss: of a batch, by power of its pairs.
    """

    state: int
    images: int
    pixels: int
    pair: int
    lean: int
    layer: int
    loss: tuple[float, float, float]

    def peak(self, batch: int, checkpointing: bool = False, chunk: int = 0, processes: int = 1) -> float:
        """Bytes at the peak of a step of `batch` pairs on one of the devices; settings as in `TrainSettings`.

        At the peak the gradients of one layer are under way, which take about as much as the layer; with checkpointing
        that layer has been computed again besides.
        """
        share = -(-batch // processes)
        encoded = min(chunk or share, share)
        kept = self.lean + 2 * self.layer if checkpointing else self.pair + self.layer
        loss = sum(bytes_ * batch**power for power, bytes_ in enumerate(self.loss))
        return self.state + 2 * share * self.images + encoded * (self.pixels + kept) + loss

    def fits(self, capacity: float, *step, **settings) -> bool:
        """Whether a step, see `peak`, fits a device of `capacity` bytes."""
        return self.peak(*step, **settings) <= (1 - RESERVED) * capacity

    def smallest(self, capacity: float, batch: int, processes: int = 1) -> dict | None:
        """The settings that cost least with which a step fits a device of `capacity` bytes; None where none do.

        Checkpointing and chunks both cost one more pass through the encoders: first checkpointing, which changes no
        random number, then the largest chunk, a power of two, and last both.
        """
        return next(
            (step for step in _settings(batch) if self.fits(capacity, batch, **step, processes=processes)), None
        )


def _settings(batch: int) -> Iterator[dict]:
    chunks = [2**power for power in range((batch - 1).bit_length())][::-1]
    for checkpointing in (False, True):
        yield {"checkpointing": checkpointing, "chunk": 0}
    for checkpointing in (False, True):
        yield from ({"checkpointing": checkpointing, "chunk": chunk} for chunk in chunks)


def require_memory(model: RetrievalModel, settings, capacity: float, processes: int = 1) -> None:
    """Raise a ValueError where a step does not fit a GPU of `capacity` bytes; it names settings with which it does.

    model: as it will be trained, on its device: what is trained requires a gradient and has its precision.
    settings: the `TrainSettings` of the run.
    """
    memory, batch = step_memory(model, settings), settings.batch_size
    given = {"checkpointing": settings.checkpointing, "chunk": settings.chunk}
    if memory.fits(capacity, batch, **given, processes=processes):
        return
    needed, found = memory.peak(batch, **given, processes=processes), memory.smallest(capacity, batch, processes)
    raise ValueError(
        f"a step of {batch} pairs should fit the GPU, got {needed / 2**30:.0f} GB for one of {capacity / 2**30:.0f}, "
        f"of which {RESERVED:.0%} are reserved; {remedy(found)}."
    )


def remedy(settings: dict | None) -> str:
    """What to set, as a clause: `settings` of `StepMemory.smallest`."""
    if settings is None:
        return "take a smaller train.batch_size or more GPUs"
    changed = [f"train.{name}={str(value).lower()}" for name, value in settings.items() if value]
    return f"set {' and '.join(changed)}" if changed else "change nothing"


def step_memory(model: RetrievalModel, settings, gpu: bool = True) -> StepMemory:
    """Count what a step of this model holds, for the frames and words of its configuration.

    model, settings: as `require_memory` takes them. gpu: in the precision that `train` has on a GPU, wherever the model
    lies; False: that on a processor.
    """
    config, was_training = model.config, model.training
    vision, text = config.clip_config.vision_config, config.clip_config.text_config
    bfloat16 = torch.bfloat16 if gpu and settings.optimizer == "adamw" else None
    of_clip = torch.float16 if settings.half else bfloat16
    finetuned = settings.backbone != "frozen"

    def ones(*shape: int) -> Tensor:
        return torch.ones(shape, dtype=torch.long, device=model.device)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, device=model.device)

    def frames_of_clip(frames: int):
        return model.frame_features(random(1, frames, 3, vision.image_size, vision.image_size), ones(1, frames))

    def words_of_clip(texts: int):
        ids = torch.randint(text.vocab_size, (texts, config.words), device=model.device)
        return model.text_features(ids, ones(texts, config.words))

    def of_head(pairs: int):
        sentence, words, frames = (
            random(pairs, *size, config.width).requires_grad_(finetuned)
            for size in ((), (config.words,), (config.frames,))
        )
        texts = model.head.encode_texts(sentence, words, ones(pairs, config.words))
        return texts, model.head.encode_videos(frames, ones(pairs, config.frames))

    def of_loss(pairs: int) -> int:
        with torch.no_grad():
            embeddings = [detached(side) for side in of_head(pairs)]
        for tensor in (tensor for side in embeddings for tensor in side if tensor.is_floating_point()):
            tensor.requires_grad_()
        return _kept(lambda: model.head.loss(*embeddings), model)

    model.train()
    head, copies = _growth(of_head, model, bfloat16)
    video, lean_video, text_, lean_text = (0,) * 4
    if finetuned:
        video, of_vision = _growth(frames_of_clip, model, of_clip)
        text_, of_text = _growth(words_of_clip, model, of_clip)
        copies += of_vision + of_text
        with recomputed(model.clip):
            lean_video, lean_text = (_growth(part, model, of_clip)[0] for part in (frames_of_clip, words_of_clip))
    side = vision.image_size if finetuned else 0
    features = 0 if finetuned else 4 * config.width * (1 + config.words + config.frames)
    powers = np.polynomial.polynomial.polyfit(LOSS_OF, [of_loss(pairs) for pairs in LOSS_OF], 2)
    model.train(was_training)
    return StepMemory(
        state=copies + sum(p.nbytes * (4 if p.requires_grad else 1) for p in model.parameters()),
        images=config.frames * 3 * side**2 + features,
        pixels=4 * config.frames * 3 * side**2,
        pair=head + text_ + config.frames * video,
        lean=head + lean_text + config.frames * lean_video,
        layer=config.frames * video // vision.num_hidden_layers,
        loss=tuple(powers.tolist()),
    )


@contextmanager
def recomputed(clip: CLIPModel) -> Iterator[None]:
    """Context in which autograd keeps the input of every layer of CLIP alone, and computes the rest again."""
    layers = [*clip.text_model.encoder.layers, *clip.vision_model.encoder.layers]
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _growth(call: Callable[[int], object], model: RetrievalModel, dtype: torch.dtype | None) -> tuple[int, int]:
    """Bytes that autograd keeps of call(n) for each of n items, and whatever n."""

    def kept(items: int) -> int:
        with torch.autocast(model.device.type, dtype, enabled=dtype is not None):
            return _kept(lambda: call(items), model)

    one, two = kept(1), kept(2)
    return two - one, 2 * one - two


def _kept(call: Callable[[], object], model: RetrievalModel) -> int:
    """Bytes that autograd keeps of call() for its gradient, without the weights; views of a tensor count once."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)  # held, so that its address is not used again
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        call()
    return sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in weights)

"""A model and a split: embeddings, each item encoded once; ranks of every query; the features of a frozen CLIP."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import CLIPModel

from glscl.base import RetrievalModel, joined
from glscl.data.dataset import Split
from glscl.data.frame_store import CORES
from glscl.files import replacing
from glscl.metrics import per_query
from glscl.model import GLSCL
from glscl.scoring import encode_all, on_cpu, similarity_matrix


def encode_texts(model: RetrievalModel, batch: dict[str, Tensor]):
    """The head's embeddings of texts, from tokens or from cached features."""
    if "sentence" in batch:
        return model.head.encode_texts(batch["sentence"], batch["words"], batch["word_mask"])
    return model.encode_texts(batch["token_ids"], batch["word_mask"])


def encode_videos(model: RetrievalModel, batch: dict[str, Tensor]):
    """The head's embeddings of videos, from pixels or from cached features."""
    if "frames" in batch:
        return model.head.encode_videos(batch["frames"], batch["frame_mask"])
    return model.encode_videos(batch["pixels"], batch["frame_mask"])


class _Videos:
    """Videos of a split by their rows, for a loader."""

    def __init__(self, split: Split, rows: Tensor):
        self._split, self._rows = split, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, places: Tensor) -> dict[str, Tensor]:
        return self._split.video_batch(self._rows[places])


def loader_of(data, split: Split, device: torch.device, batches, generator: torch.Generator) -> DataLoader:
    """A loader of `data`, which reads from the split; for a GPU other processes read frames ahead.

    data: its `__getitems__` returns the batch of some items. batches: the items of every batch. generator: a loader
    draws a number from it when it starts.
    """
    workers = reading_processes(device) if split.reads_frames else 0
    feed = {"num_workers": workers, "pin_memory": device.type == "cuda"}
    if workers:
        feed["prefetch_factor"] = 1  # each holds one batch, hundreds of megabytes, and there are many of them
    return DataLoader(data, batch_sampler=batches, collate_fn=_as_it_is, generator=generator, **feed)


def reading_processes(device: torch.device) -> int:
    """Processes that read and decode frames for a device: the cores that fall to a GPU, less one; none for a CPU."""
    return max(1, CORES // torch.cuda.device_count() - 1) if device.type == "cuda" else 0


def _as_it_is(batch):
    return batch


def on_device(batches: Iterable[dict], device: torch.device) -> Iterator[dict[str, Tensor]]:
    """The batches on the device; on a GPU each is copied while the one before it is computed."""
    if device.type != "cuda":
        yield from batches
        return
    copies, ahead = torch.cuda.Stream(device), None

    def ready(batch):
        torch.cuda.current_stream(device).wait_stream(copies)
        for tensor in batch.values():
            tensor.record_stream(torch.cuda.current_stream(device))
        return batch

    for batch in batches:
        if ahead is not None:
            yield ready(ahead)
        with torch.cuda.stream(copies):
            ahead = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
    if ahead is not None:
        yield ready(ahead)


def video_batches(split: Split, rows: Tensor, device: torch.device, batch_size: int) -> Iterator[dict[str, Tensor]]:
    """Batches of these videos on the device, ready for `encode_videos`."""
    batches = torch.arange(len(rows)).split(batch_size)
    loader = loader_of(_Videos(split, rows), split, device, batches, torch.Generator())
    return (split.normalised(batch) for batch in on_device(loader, device))


@torch.inference_mode()
def encode_split(model: RetrievalModel, split: Split, batch_size: int = 256):
    """The embeddings of every text and of every video of a split, each encoded once: (texts, videos), on the CPU."""
    model.eval()
    device = model.device

    def run(index):
        return encode_texts(model, {name: tensor.to(device) for name, tensor in split.text_batch(index).items()})

    texts = encode_all(run, len(split), batch_size)
    videos = video_batches(split, torch.arange(len(split.videos)), device, batch_size)
    return texts, joined([on_cpu(encode_videos(model, batch)) for batch in videos])


@torch.inference_mode()
def save_features(
    split: Split, clip: CLIPModel, file: str | Path, known: dict[str, Tensor] | None = None, batch_size: int = 64
) -> dict[str, tuple[int, ...]]:
    """Write CLIP's features of a split made by `Split.from_store`, as float16; return the shapes written.

    known: frame features (frames, width) of videos that other splits had, which are not encoded again; those of this
    one are added.

    Keys: sentence (texts, width), words (texts, words, width), word_mask (texts, words), frames (videos, frames,
    width), frame_mask (videos, frames).
    """
    known = {} if known is None else known
    model = GLSCL.from_clip(clip, temporal_layers=0, decoder_heads=1).eval()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    features: dict[str, list[Tensor]] = {
        name: [] for name in ("sentence", "words", "word_mask", "frames", "frame_mask")
    }

    def keep(**tensors):
        for name, tensor in tensors.items():
            features[name].append(tensor.half().cpu() if tensor.is_floating_point() else tensor)

    for index in tqdm(torch.arange(len(split)).split(batch_size), desc="texts", unit="batch"):
        batch = split.text_batch(index)
        sentence, words = model.text_features(batch["token_ids"].to(device), batch["word_mask"].to(device))
        keep(sentence=sentence, words=words, word_mask=batch["word_mask"])
    new = torch.tensor([row for row, video in enumerate(split.videos) if video not in known], dtype=torch.long)
    batches = video_batches(split, new, device, batch_size) if len(new) else []
    names = iter(split.videos[row] for row in new)
    for batch in tqdm(batches, desc="videos", unit="batch", total=math.ceil(len(new) / batch_size)):
        frames = model.frame_features(batch["pixels"], batch["frame_mask"]).half().cpu()
        known |= {name: features for features, name in zip(frames, names, strict=False)}
    keep(frames=torch.stack([known[video] for video in split.videos]), frame_mask=split.frame_mask)
    joined = {name: torch.cat(parts) for name, parts in features.items()}
    for name, tensor in joined.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} must be finite in float16, got NaN or infinity; check the weights of CLIP.")
    with replacing(file, sum(tensor.nbytes for tensor in joined.values())) as partial:
        save_file(joined, partial)
    return {name: tuple(tensor.shape) for name, tensor in joined.items()}


def evaluate(model, split: Split) -> dict[str, dict[str, np.ndarray]]:
    """Ranks of every query of a split, both directions; each text and video is encoded once."""
    return per_query(similarity_matrix(model, *encode_split(model, split)).numpy(), split.video_of_text.numpy())

"""A model and a split: embeddings, each item encoded once; ranks of every query; the features of a frozen CLIP."""

import os
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPModel

from glscl.base import RetrievalModel
from glscl.data.dataset import Split
from glscl.metrics import per_query
from glscl.model import GLSCL
from glscl.scoring import encode_all, similarity_matrix


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


def encode_split(model: RetrievalModel, split: Split, batch_size: int = 256):
    """The embeddings of every text and of every video of a split, each encoded once: (texts, videos)."""

    def run(encode, batch):
        return encode(model, split.normalised({name: tensor.to(model.device) for name, tensor in batch.items()}))

    model.eval()
    texts = encode_all(lambda index: run(encode_texts, split.text_batch(index)), len(split), batch_size)
    videos = encode_all(lambda index: run(encode_videos, split.video_batch(index)), len(split.videos), batch_size)
    return texts, videos


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
    for index in tqdm(new.split(batch_size) if len(new) else [], desc="videos", unit="batch"):
        batch = split.normalised({name: tensor.to(device) for name, tensor in split.video_batch(index).items()})
        frames = model.frame_features(batch["pixels"], batch["frame_mask"]).half().cpu()
        known |= dict(zip([split.videos[row] for row in index], frames, strict=True))
    keep(frames=torch.stack([known[video] for video in split.videos]), frame_mask=split.frame_mask)
    joined = {name: torch.cat(parts) for name, parts in features.items()}
    for name, tensor in joined.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} must be finite in float16, got NaN or infinity; check the weights of CLIP.")
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    save_file(joined, partial)
    os.replace(partial, file)
    return {name: tuple(tensor.shape) for name, tensor in joined.items()}


def evaluate(model, split: Split) -> dict[str, dict[str, np.ndarray]]:
    """Ranks of every query of a split, both directions; each text and video is encoded once."""
    return per_query(similarity_matrix(model, *encode_split(model, split)).numpy(), split.video_of_text.numpy())

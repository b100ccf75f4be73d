"""A made-up corpus at the size of a benchmark: frames of a drawn video, texts of random tokens, a random CLIP.

Neither time nor memory depends on what frames show, texts say, or CLIP has learned.
"""

from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

from benchmarks.frames import copies, draw_video
from glscl.base import RetrievalModel
from glscl.data.dataset import Split
from glscl.data.decoding import Sampling
from glscl.data.frame_store import FrameStore, write_store
from glscl.data.processor import Processor
from glscl.methods import METHODS
from glscl.study.timing import device

# Of a CLIP that computes in moments what ViT-B/32 takes a GPU for.
TINY = {
    "projection_dim": 32,
    "text_config": {
        "vocab_size": 100,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "bos_token_id": 98,
        "eos_token_id": 99,
        "pad_token_id": 0,
    },
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 16,
    },
}


def clip_config(name: str) -> CLIPConfig:
    """The sizes of a CLIP: of a folder, or of `openai/clip-vit-base-patch32` or `-patch16` without a download.

    Raises ValueError for another name.
    """
    if Path(name).is_dir():
        return CLIPConfig.from_pretrained(name)
    for patch in (32, 16):
        if name == f"openai/clip-vit-base-patch{patch}":
            return CLIPConfig(vision_config={"patch_size": patch})
    raise ValueError(f"the sizes of {name} should be known without a download; name a folder with this CLIP.")


def random_model(method: str, clip: CLIPConfig, **settings) -> RetrievalModel:
    """A model with random weights, drawn by seed 0, around a CLIP of these sizes."""
    torch.manual_seed(0)
    return METHODS[method].from_clip(CLIPModel(clip), **settings)


def make_store(folder: Path, videos: int, sampling: Sampling, size: int) -> FrameStore:
    """Write a store of copies of one drawn video that is long enough for all frames, and open it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "video.mp4"
    draw_video(path, sampling.frames / sampling.fps, rate=2)
    few = videos * sampling.frames < 4000  # other processes take seconds to start
    write_store(folder / "frames", copies(path, videos), sampling, size, workers=1 if few else None, progress=False)
    return FrameStore(folder / "frames")


def make_split(store: FrameStore, clip: CLIPConfig, words: int, texts: int, first: int = 0) -> Split:
    """`texts` texts of random tokens; their videos are those of the store over and over, from the number `first` on."""
    names = [store.videos[(first + number) % len(store.videos)] for number in range(texts)]
    captions = pd.DataFrame({"caption_id": range(texts), "video": names, "text": "made up"})
    rows = [store.row[video] for video in dict.fromkeys(names)]
    generator = torch.Generator().manual_seed(first)
    ids = torch.randint(1, clip.text_config.vocab_size, (texts, words), generator=generator)
    size = {"height": store.size, "width": store.size}
    processor = Processor(None, CLIPImageProcessorPil(size={"shortest_edge": store.size}, crop_size=size), words)
    masks = torch.ones_like(ids), torch.as_tensor(store.mask[rows]).long()
    return Split(
        captions, {"token_ids": ids, "word_mask": masks[0]}, {"frame_mask": masks[1]}, (store, rows, processor)
    )


def on_device(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The batch on the GPU if there is one."""
    return {name: tensor.to(device()) for name, tensor in batch.items()}

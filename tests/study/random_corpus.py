"""A prepared corpus of random features that is written in no time: texts lie near their videos."""

from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import save_file

from glscl.files import write_table

NOISE = 4.0  # at which heads find some texts and miss others


def write(folder: Path, width: int, frames: int, words: int, sizes: dict[str, int], captions: int = 1) -> None:
    """Write `captions.parquet` and `features` into `folder`; sizes: videos by split, with so many captions each."""
    generator, rows = torch.Generator().manual_seed(len(folder.name)), []
    (folder / "features").mkdir(parents=True)
    for split, videos in sizes.items():
        centre = torch.randn(videos, 1, width, generator=generator)
        of_video = torch.arange(videos).repeat_interleave(captions)
        near = {"frames": (videos, frames), "words": (videos * captions, words), "sentence": (videos * captions, 1)}
        noise = {name: NOISE * torch.randn(*shape, width, generator=generator) for name, shape in near.items()}
        tensors = {name: centre + noise[name] if name == "frames" else centre[of_video] + noise[name] for name in near}
        tensors["sentence"] = tensors["sentence"][:, 0].contiguous()
        masks = {"frame_mask": torch.ones(videos, frames), "word_mask": torch.ones(videos * captions, words)}
        tensors = {name: tensor.half() for name, tensor in tensors.items()}
        save_file(
            tensors | {name: mask.long() for name, mask in masks.items()}, folder / f"features/{split}.safetensors"
        )
        rows += [{"split": split, "video": f"{split} {v}", "text": f"a red circle {i}"} for i, v in enumerate(of_video)]
    write_table(folder / "captions.parquet", pd.DataFrame(rows).assign(caption_id=range(len(rows))))

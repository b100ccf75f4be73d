"""A prepared corpus with fewer training captions: short epochs, after each of which a training run validates."""

import os
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from glscl.config import at_least

OF_TEXTS = ("sentence", "words", "word_mask")  # the tensors of a states file with one row per caption


def fewer_captions(
    work: str | Path, captions: pd.DataFrame, per_video: int, folder: str | Path, backbone: str
) -> pd.DataFrame:
    """Keep the first `per_video` captions of each training video; all of them where it is 0.

    work, captions: a prepared corpus, as `glscl.splits.open_split` takes it, with columns `video`, `text`, `split`.
    Writes into `folder` what `glscl.runs.train_seeds` needs as its `work`, and returns its captions. Splits other
    than `train` stay as they are. Of a frozen backbone the states of `train` are cut, and those of the other splits
    are links; else the frame store is a link. No training video is lost. Raises ValueError where `per_video` is
    negative, where `folder` is `work`, or where the states are not those of the captions.
    """
    at_least("captions_per_video", per_video, 0)
    work, folder = Path(work).resolve(), Path(folder).resolve()
    if folder == work:
        raise ValueError(f"folder must not be the corpus itself, got {folder} for both; name another folder.")
    training = captions["split"] == "train"
    kept = (captions.groupby(["split", "video"]).cumcount() < per_video) | ~training | (per_video == 0)
    if backbone != "frozen":
        _link(work / "frames", folder / "frames")
        return captions[kept]
    for name in captions["split"].unique():
        source, target = (place / f"states/{name}.safetensors" for place in (work, folder))
        if name != "train" or kept.all():
            _link(source, target)
            continue
        states = load_file(source)
        if len(states["sentence"]) != training.sum():
            raise ValueError(
                f"{source} must hold a text for each of {training.sum()} training captions, got "
                f"{len(states['sentence'])}; run the encode stage again."
            )
        rows = torch.tensor(kept[training].tolist())
        cut = {key: tensor[rows] if key in OF_TEXTS else tensor for key, tensor in states.items()}
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        save_file(cut, partial)
        os.replace(partial, target)
    return captions[kept]


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.symlink_to(source)

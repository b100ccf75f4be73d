"""One corpus from annotation files and videos to what models are trained on: captions, frames, features of a CLIP."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from glscl.base import load_backbone
from glscl.data.corpora import read_corpus
from glscl.data.dataset import PreparedCorpus, Split
from glscl.data.decoding import Sampling, of_frames
from glscl.data.frame_store import FrameStore, write_store
from glscl.data.processor import Processor
from glscl.data.video_files import relative_to
from glscl.encoding import save_features
from glscl.files import replacing, write_table
from glscl.pretrained import require_clip


class Prepared(NamedTuple):
    """What `prepare` wrote into a folder, and what it left out.

    captions: one row per text, the columns of `glscl.data.corpora.read_corpus` and `tokens`, the length of the whole
    text. words: tokens per text that a model sees. store: the frames. report: as
    `glscl.data.frame_store.write_store` returns it, with the missing videos and the reason of each.
    """

    captions: pd.DataFrame
    words: int
    store: FrameStore
    report: dict

    def splits(self) -> pd.DataFrame:
        """One row per split, which is the index: captions, videos, tokens (median), and `cut`, the texts too long."""
        table = self.captions.assign(cut=self.captions["tokens"] > self.words).groupby("split", sort=False)
        return table.agg(
            captions=("text", "size"), videos=("video", "nunique"), tokens=("tokens", "median"), cut=("cut", "sum")
        )

    def summary(self) -> dict:
        """Counts per split, missing videos, and how frames were sampled: the content of `data.json`."""
        sampling = self.store.sampling
        mode = sampling.mode if sampling.mode == "uniform" else f"{sampling.mode} at {sampling.fps:g} per second"
        return {
            "splits": self.splits().to_dict("index"),
            "missing": len(self.report["missing"]),
            "missing_videos": self.report["missing"],
            "frames": sampling.frames,
            "frame_size": self.store.size,
            "sampling": mode,
            "offsets": sampling.offsets,
            "quality": self.store.quality,
        }

    def work(self) -> str:
        """What decoding took on this machine, and each video that was left out or is damaged, one a line."""
        took = "On this machine {decoded:,} videos were decoded in {seconds:.0f} s; {frames:,} frames take".format(
            **self.report
        )
        lost = [f"{video}: {reason}" for video, reason in self.report["missing"]]
        used = [f"{video} is used and damaged: {of_frames(share)}" for video, share in self.report["damaged"]]
        return "\n".join([f"{took} {self.report['bytes'] / 1e6:,.1f} MB.", *lost, *used])

    def answer(self) -> str:
        """Whether every video decodes, in one sentence."""
        stored, missing = len(self.store.videos), len(self.report["missing"])
        found = f"All {stored:,}" if missing == 0 else f"{stored:,} of {stored + missing:,}"
        queries = int((self.captions["split"] == "test").sum())
        return f"{found} videos decode; of their {len(self.captions):,} captions {queries:,} are test queries."


def prepare(
    dataset: str,
    corpus: dict,
    inputs: dict,
    folder: str | Path,
    *,
    sampling: str = "uniform",
    fps: float = 1.0,
    offsets: int = 3,
    quality: int = 90,
    max_missing: int = 0,
    progress: bool = True,
) -> Prepared:
    """Read the captions of a corpus, decode each video once, and write `captions.parquet` and `frames` into `folder`.

    corpus: its `folder`, and the settings of its reader. inputs: `clip` (folder or name; its tokenizer and image
    settings are read), `backbone`, `frames` and `words`. sampling, fps, offsets: see
    `glscl.data.decoding.Sampling`; features of a frozen CLIP know the middle sample position alone, so no other is kept
    for it. quality: of the JPEGs. max_missing: videos that may be absent or unreadable; their captions are left out.
    A run that was stopped goes on where it stopped. Raises what `glscl.data.corpora.read_corpus` and
    `glscl.data.frame_store.write_store` raise, and ValueError where CLIP is not whole, before anything is decoded.
    """
    folder = Path(folder)
    captions = read_corpus(dataset, **corpus)
    if inputs["backbone"] != "scratch":
        require_clip(inputs["clip"])
    processor = Processor.from_pretrained(inputs["clip"], inputs["words"])
    load_backbone(inputs["clip"], inputs["backbone"], processor)  # a CLIP that is not whole costs no decoding
    kept = Sampling(inputs["frames"], sampling, fps, 1 if inputs["backbone"] == "frozen" else offsets)
    videos = captions.drop_duplicates("video")
    report = write_store(folder / "frames", videos, kept, processor.size, quality, max_missing, progress=progress)
    report["missing"] = [[video, relative_to(corpus["folder"], reason)] for video, reason in report["missing"]]
    store = FrameStore(folder / "frames")
    captions = captions[captions["video"].isin(store.videos)].reset_index(drop=True)
    write_table(folder / "captions.parquet", captions.drop(columns="path"))
    captions["tokens"] = [len(ids) for ids in processor.tokenizer(captions["text"].tolist()).input_ids]
    return Prepared(captions, inputs["words"], store, report)


class Encoded(NamedTuple):
    """What `encode` made of a prepared corpus.

    corpus: the prepared corpus, ready for training. parameters: of CLIP. shapes: one row per split, the shape of each
    kind of features as text; without rows where CLIP is trained.
    """

    corpus: PreparedCorpus
    parameters: int
    shapes: pd.DataFrame

    def scale(self) -> dict[str, float] | None:
        """Mean norms of sentence and frame features, and the mean spread of their products over the frames of a video.

        Over the true pairs of the validation split, or of the test split where there is none. The spread is the
        standard deviation over frames. None where CLIP is trained.
        """
        if self.corpus.backbone != "frozen":
            return None
        split = self.corpus.split("val" if "val" in set(self.corpus.captions["split"]) else "test")
        batch = split.__getitems__(list(range(len(split))))
        products = torch.einsum("pd,pfd->pf", batch["sentence"], batch["frames"])
        return {
            "sentence norm": batch["sentence"].norm(dim=-1).mean().item(),
            "frame norm": batch["frames"].norm(dim=-1).mean().item(),
            "spread over frames": products.std(dim=1).mean().item(),
            "pairs": len(split),
        }

    def answer(self) -> str:
        """What CLIP does to the corpus, in one sentence."""
        scale = self.scale()
        if scale is None:
            return (
                f"A {self.corpus.backbone} CLIP of {self.parameters:,} parameters is trained with the head; "
                "no features are stored."
            )
        return (
            f"Mean norms are {scale['sentence norm']:.1f} (sentences) and {scale['frame norm']:.1f} (frames); over the "
            f"frames of a video their products spread by {scale['spread over frames']:.1f}."
        )


def encode(folder: str | Path, inputs: dict) -> Encoded:
    """Write CLIP's features of every split of a prepared corpus to `folder/features/<split>.safetensors`.

    folder: as `prepare` leaves it. inputs: as given to `prepare`. `features` is replaced as a whole once all splits are
    encoded. Where CLIP is trained there are no features, and `features` holds an empty file `.keep` alone.
    """
    folder = Path(folder)
    corpus = PreparedCorpus.open(folder, inputs["clip"], inputs["backbone"], inputs["words"])
    torch.manual_seed(0)
    clip = load_backbone(inputs["clip"], inputs["backbone"], corpus.processor)
    parameters = sum(weights.numel() for weights in clip.parameters())
    shapes = []
    with replacing(folder / "features") as partial:
        partial.mkdir()
        if corpus.backbone == "frozen":
            store = FrameStore(folder / "frames")
            known: dict[str, torch.Tensor] = {}
            last = corpus.captions.groupby("video")["split"].last()
            for name, captions in corpus.captions.groupby("split", sort=False):
                split = Split.from_store(captions, store, corpus.processor)
                found = save_features(split, clip, partial / f"{name}.safetensors", known)
                known = {video: frames for video, frames in known.items() if last[video] != name}
                shapes.append({"split": name} | {kind: " x ".join(map(str, shape)) for kind, shape in found.items()})
        else:
            (partial / ".keep").touch()
    return Encoded(corpus, parameters, pd.DataFrame(shapes))

"""One split of a corpus, ready for a model: frames and tokens, or the features that a frozen CLIP made of them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from safetensors import safe_open
from torch import Tensor

from glscl.config import at_least
from glscl.data.frame_store import FrameStore
from glscl.data.processor import Processor


class Split:
    """Texts and videos of one split, in batches, and which video each text belongs to.

    captions: table with columns `caption_id`, `video`, `text`, one row per text. videos: ids in gallery order.
    video_of_text: (texts,), positions in `videos`. Tensors of texts have `texts` rows, tensors of videos `videos` rows.
    A batch holds `token_ids` and uint8 `images`, which `normalised` turns into `pixels` for the whole model, or
    `sentence`, `words` and `frames` for a head alone.
    draw: None, or (seed, epoch), with which `__getitems__` takes other frames of the store than evaluation does; see
        `glscl.data.decoding.Sampling.choose`. Cached features know the frames of evaluation alone.
    """

    def __init__(self, captions: pd.DataFrame, texts: dict[str, Tensor], videos: dict[str, Tensor], store=None):
        self.captions = captions.reset_index(drop=True)
        self.videos = list(dict.fromkeys(self.captions["video"]))
        self.video_of_text = torch.tensor(self.captions["video"].map({v: i for i, v in enumerate(self.videos)}).values)
        self._texts, self._videos, self._store = texts, videos, store
        self.draw: tuple[int, int] | None = None

    @classmethod
    def from_store(cls, captions: pd.DataFrame, store: FrameStore, processor: Processor) -> "Split":
        """A split whose batches hold tokens and images, read from the frame store."""
        _require_captions(captions)
        token_ids, word_mask = processor.tokenise(captions["text"].tolist())
        if absent := sorted(set(captions["video"]) - store.row.keys()):
            raise ValueError(
                f"the frame store must hold every video, {absent[0]!r} is absent; run the prepare stage again."
            )
        rows = [store.row[video] for video in dict.fromkeys(captions["video"])]
        frame_mask = torch.as_tensor(store.mask[rows]).long()
        texts, videos = {"token_ids": token_ids, "word_mask": word_mask}, {"frame_mask": frame_mask}
        return cls(captions, texts, videos, (store, rows, processor))

    @classmethod
    def from_features(cls, captions: pd.DataFrame, file: str | Path) -> "Split":
        """A split whose batches hold the features of a frozen CLIP, written by `save_features`."""
        _require_captions(captions)
        with safe_open(file, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118, not a dictionary
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{name} in {file} must be finite, got NaN or infinity; run the encode stage again.")
        wanted, given = (len(captions), captions["video"].nunique()), (len(tensors["sentence"]), len(tensors["frames"]))
        if wanted != given:
            raise ValueError(f"{file} must hold {wanted} texts and videos, got {given}; run the encode stage again.")
        videos = {name: tensors.pop(name) for name in ("frames", "frame_mask")}
        return cls(captions, tensors, videos)

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.captions)

    def __getitems__(self, texts: list[int]) -> dict[str, Tensor]:
        """The batch of these texts and the video of each, whose frames `draw` chooses."""
        index = torch.as_tensor(texts)
        return self.text_batch(index) | self.video_batch(self.video_of_text[index], self.draw)

    @property
    def reads_frames(self) -> bool:
        """Whether batches are read from a frame store, and not held in memory."""
        return self._store is not None

    @property
    def frame_mask(self) -> Tensor:
        """Which frames are real, (videos, frames), those of evaluation."""
        return self._videos["frame_mask"]

    @property
    def frames(self) -> int:
        """Frames per video, absent ones included."""
        return self.frame_mask.shape[1]

    def fingerprint(self) -> str:
        """Hash of captions and tensors, so that no run resumes from a checkpoint made of other data."""
        digest = hashlib.sha256(pd.util.hash_pandas_object(self.captions[["video", "text"]]).values.tobytes())
        for tensor in (*self._texts.values(), *self._videos.values()):
            digest.update(tensor.numpy().tobytes())
        if self._store:
            digest.update("".join(self._store[0].hashes).encode())
        return digest.hexdigest()

    def sample(self, videos: int, seed: int = 0) -> "Split":
        """At most this many of the videos, drawn by seed, with one caption each."""
        drawn = self.captions.sample(frac=1, random_state=seed).drop_duplicates("video").index[:videos]
        rows = self.video_of_text[drawn]
        store = self._store and (self._store[0], [self._store[1][row] for row in rows], self._store[2])
        return Split(
            self.captions.loc[drawn],
            {name: tensor[drawn] for name, tensor in self._texts.items()},
            {name: tensor[rows] for name, tensor in self._videos.items()},
            store,
        )

    def first_captions(self, per_video: int) -> "Split":
        """All videos, with the first `per_video` captions of each."""
        kept = self.captions.groupby("video").cumcount() < per_video
        texts = {name: tensor[torch.tensor(kept.tolist())] for name, tensor in self._texts.items()}
        return Split(self.captions[kept], texts, self._videos, self._store)

    def text_batch(self, index: Tensor) -> dict[str, Tensor]:
        """Tensors of these texts."""
        return {name: _full(tensor[index]) for name, tensor in self._texts.items()}

    def video_batch(self, index: Tensor, draw: tuple[int, int] | None = None) -> dict[str, Tensor]:
        """Tensors of these videos; from a store, those of the evaluation sample unless drawn by (seed, epoch)."""
        batch = {name: _full(tensor[index]) for name, tensor in self._videos.items()}
        if self._store:
            store, rows, _ = self._store
            images, mask = store.read([rows[i] for i in index], draw)
            batch |= {"images": torch.as_tensor(images), "frame_mask": torch.as_tensor(mask).long()}
        return batch

    def normalised(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The batch with `pixels` in the place of `images`, computed where the images are: bytes travel faster."""
        if "images" not in batch:
            return batch
        others = {name: tensor for name, tensor in batch.items() if name != "images"}
        return others | {"pixels": self._store[2].normalise(batch["images"], batch["frame_mask"])}


@dataclass(frozen=True)
class PreparedCorpus:
    """A corpus as the stages prepare and encode leave it in a folder, and the CLIP that it is prepared for.

    folder: holds `captions.parquet`, and the frame store in `frames` or CLIP's features in `features`.
    captions: columns `caption_id`, `video`, `text`, `split`, one row per text. clip: folder or name of the CLIP.
    backbone: `frozen`, `finetuned` or `scratch`. captions_per_video: of each training video, the first ones, so that an
    epoch is short; 0 keeps all.
    """

    folder: Path
    captions: pd.DataFrame
    processor: Processor
    clip: str
    backbone: str
    captions_per_video: int = 0

    def __post_init__(self):
        at_least("captions_per_video", self.captions_per_video, 0)

    @classmethod
    def open(
        cls, folder: str | Path, clip: str, backbone: str, words: int, captions_per_video: int = 0
    ) -> "PreparedCorpus":
        """Open the corpus in `folder`; words: tokens per text."""
        captions = pd.read_parquet(Path(folder) / "captions.parquet")
        return cls(Path(folder), captions, Processor.from_pretrained(clip, words), clip, backbone, captions_per_video)

    def split(self, name: str) -> Split:
        """The split `name`: CLIP's features where it is frozen, tokens and pixels where it is trained."""
        captions = self.captions[self.captions["split"] == name]
        if self.backbone == "frozen":
            split = Split.from_features(captions, self.folder / "features" / f"{name}.safetensors")
        else:
            split = Split.from_store(captions, FrameStore(self.folder / "frames"), self.processor)
        return split.first_captions(self.captions_per_video) if name == "train" and self.captions_per_video else split


def _require_captions(captions: pd.DataFrame) -> None:
    if captions.empty:
        raise ValueError("expected a split with captions, got none; check the annotations and the split's name.")


def _full(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.float16 else tensor

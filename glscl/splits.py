"""One split of a corpus, ready for a model: frames and tokens, or the states that a frozen CLIP made of them."""

import hashlib
import os
from pathlib import Path

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPModel

from glscl.inputs import Inputs
from glscl.model import GLSCL, RetrievalModel
from glscl.scoring import encode_all
from glscl.video import FrameStore


class Split:
    """Texts and videos of one split, in batches, and which video each text belongs to.

    captions: table with columns `caption_id`, `video`, `text`, one row per text. videos: ids in gallery order.
    video_of_text: (texts,), positions in `videos`. Tensors of texts have `texts` rows, tensors of videos `videos` rows.
    A batch holds `token_ids` and `pixels` for the whole model, or `sentence`, `words` and `frames` for a head alone.
    draw: None, or (seed, epoch), with which `__getitems__` takes other frames of the store than evaluation does; see
        `glscl.decoding.Sampling.choose`. Cached states know the frames of evaluation alone.
    """

    def __init__(self, captions: pd.DataFrame, texts: dict[str, Tensor], videos: dict[str, Tensor], store=None):
        self.captions = captions.reset_index(drop=True)
        self.videos = list(dict.fromkeys(self.captions["video"]))
        self.video_of_text = torch.tensor(self.captions["video"].map({v: i for i, v in enumerate(self.videos)}).values)
        self._texts, self._videos, self._store = texts, videos, store
        self.draw: tuple[int, int] | None = None

    @classmethod
    def from_store(cls, captions: pd.DataFrame, store: FrameStore, inputs: Inputs) -> "Split":
        """A split whose batches hold tokens and normalised pixels, read from the frame store."""
        _require_captions(captions)
        token_ids, word_mask = inputs.tokenise(captions["text"].tolist())
        if absent := sorted(set(captions["video"]) - store.row.keys()):
            raise ValueError(
                f"the frame store must hold every video, {absent[0]!r} is absent; run the prepare stage again."
            )
        rows = [store.row[video] for video in dict.fromkeys(captions["video"])]
        frame_mask = torch.as_tensor(store.mask[rows]).long()
        texts, videos = {"token_ids": token_ids, "word_mask": word_mask}, {"frame_mask": frame_mask}
        return cls(captions, texts, videos, (store, rows, inputs))

    @classmethod
    def from_states(cls, captions: pd.DataFrame, file: str | Path) -> "Split":
        """A split whose batches hold the states of a frozen CLIP, written by `save_states`."""
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
    def frames(self) -> int:
        """Frames per video, absent ones included."""
        return self._videos["frame_mask"].shape[1]

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

    def text_batch(self, index: Tensor) -> dict[str, Tensor]:
        """Tensors of these texts."""
        return {name: _full(tensor[index]) for name, tensor in self._texts.items()}

    def video_batch(self, index: Tensor, draw: tuple[int, int] | None = None) -> dict[str, Tensor]:
        """Tensors of these videos; from a store, those of the evaluation sample unless drawn by (seed, epoch)."""
        batch = {name: _full(tensor[index]) for name, tensor in self._videos.items()}
        if self._store:
            store, rows, inputs = self._store
            frames, mask = store.read([rows[i] for i in index], draw)
            batch["frame_mask"] = torch.as_tensor(mask).long()
            batch["pixels"] = inputs.normalise(frames) * batch["frame_mask"][..., None, None, None]
        return batch

    def encode(self, model: RetrievalModel, batch_size: int = 256):
        """What the model's head keeps of every text and of every video, each encoded once: (texts, videos)."""

        def run(encode, batch):
            return encode(model, {name: tensor.to(model.device) for name, tensor in batch.items()})

        model.eval()
        texts = encode_all(lambda index: run(encode_texts, self.text_batch(index)), len(self), batch_size)
        videos = encode_all(lambda index: run(encode_videos, self.video_batch(index)), len(self.videos), batch_size)
        return texts, videos


def open_split(work: str | Path, captions: pd.DataFrame, name: str, inputs: Inputs, backbone: str) -> Split:
    """The split `name` of a prepared corpus in the folder `work`, as the kind of backbone wants it."""
    captions = captions[captions["split"] == name]
    if backbone == "frozen":
        return Split.from_states(captions, Path(work) / "states" / f"{name}.safetensors")
    return Split.from_store(captions, FrameStore(Path(work) / "frames"), inputs)


def _require_captions(captions: pd.DataFrame) -> None:
    if captions.empty:
        raise ValueError("expected a split with captions, got none; check the annotations and the split's name.")


def _full(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.float16 else tensor


def encode_texts(model: RetrievalModel, batch: dict[str, Tensor]):
    """What the head keeps per text, from tokens or from cached states."""
    if "sentence" in batch:
        return model.head.encode_texts(batch["sentence"], batch["words"], batch["word_mask"])
    return model.encode_texts(batch["token_ids"], batch["word_mask"])


def encode_videos(model: RetrievalModel, batch: dict[str, Tensor]):
    """What the head keeps per video, from pixels or from cached states."""
    if "frames" in batch:
        return model.head.encode_videos(batch["frames"], batch["frame_mask"])
    return model.encode_videos(batch["pixels"], batch["frame_mask"])


@torch.inference_mode()
def save_states(split: Split, clip: CLIPModel, file: str | Path, batch_size: int = 64) -> dict[str, tuple[int, ...]]:
    """Write CLIP's states of a split made by `Split.from_store`, as float16; return the shapes written.

    Keys: sentence (texts, width), words (texts, words, width), word_mask (texts, words), frames (videos, frames,
    width), frame_mask (videos, frames).
    """
    model = GLSCL.from_clip(clip, temporal_layers=0, decoder_heads=1).eval()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    states: dict[str, list[Tensor]] = {name: [] for name in ("sentence", "words", "word_mask", "frames", "frame_mask")}

    def keep(**tensors):
        for name, tensor in tensors.items():
            states[name].append(tensor.half().cpu() if tensor.is_floating_point() else tensor)

    for index in tqdm(torch.arange(len(split)).split(batch_size), desc="texts", unit="batch"):
        batch = split.text_batch(index)
        sentence, words = model.text_states(batch["token_ids"].to(device), batch["word_mask"].to(device))
        keep(sentence=sentence, words=words, word_mask=batch["word_mask"])
    for index in tqdm(torch.arange(len(split.videos)).split(batch_size), desc="videos", unit="batch"):
        batch = split.video_batch(index)
        frames = model.frame_states(batch["pixels"].to(device), batch["frame_mask"].to(device))
        keep(frames=frames, frame_mask=batch["frame_mask"])
    joined = {name: torch.cat(parts) for name, parts in states.items()}
    for name, tensor in joined.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} must be finite in float16, got NaN or infinity; check the weights of CLIP.")
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    save_file(joined, partial)
    os.replace(partial, file)
    return {name: tuple(tensor.shape) for name, tensor in joined.items()}

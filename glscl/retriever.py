"""For people who just want to use a trained model: sentences and files in, embeddings and search out."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoConfig

from glscl.base import RetrievalModel, joined, load_backbone
from glscl.config import at_least
from glscl.data.decoding import VideoError, decode_frames
from glscl.data.processor import Processor
from glscl.methods import METHODS
from glscl.scoring import encode_all, top_k

BATCH = 32  # videos that are decoded side by side and encoded together


class Retriever:
    """A model with its tokenizer and image settings, and the videos indexed so far.

    retriever = Retriever.from_pretrained("work/quick/scenes/train/glscl/seed-0")
    retriever.index(["a.mp4", "b.mp4"])
    retriever.search("a red circle moves to the left", k=1)  # [("a.mp4", 0.61)]

    paths: the files that are indexed. unreadable: the files that could not be, each with the reason.
    """

    def __init__(self, model: RetrievalModel, processor: Processor):
        self.model, self.processor = model.eval().to("cuda" if torch.cuda.is_available() else "cpu"), processor
        self.paths: list[Path] = []
        self.unreadable: dict[Path, str] = {}
        self._videos = None

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Retriever":
        """Load a folder that `train` wrote: weights, configuration, tokenizer and image settings."""
        config = AutoConfig.from_pretrained(folder)
        known = {method.config_class.model_type: method for method in METHODS.values()}
        if config.model_type not in known:
            raise ValueError(f"{folder} must hold one of {', '.join(known)}, got a {config.model_type!r}; train one.")
        return cls(known[config.model_type].from_pretrained(folder), Processor.from_pretrained(folder, config.words))

    @classmethod
    def from_clip(cls, clip: str | Path, frames: int = 12, words: int = 32) -> "Retriever":
        """CLIP as it is, from a folder or by name, without training: the cosine of a sentence with the mean frame."""
        processor = Processor.from_pretrained(clip, words)
        backbone = load_backbone(clip, "frozen", processor)
        model = METHODS["mean_pooling"].from_clip(backbone, temporal_layers=0, frames=frames, words=words)
        return cls(model, processor)

    def embed_texts(self, sentences: list[str]):
        """Embeddings of sentences, for GLSCL `glscl.model.Texts`, on the CPU."""
        ids, mask = (tensor.to(self.model.device) for tensor in self.processor.tokenise(sentences))
        return encode_all(lambda index: self.model.encode_texts(ids[index], mask[index]), len(sentences))

    def embed_videos(self, paths: list[str | Path]):
        """Embeddings of video files, for GLSCL `glscl.model.Videos`, on the CPU.

        Each file is decoded once. Raises `glscl.data.decoding.VideoError` at a file that cannot be read.
        """
        videos, unreadable = self._encode_readable(paths)
        for reason in unreadable.values():
            raise VideoError(reason)
        return videos

    def index(self, paths: list[str | Path]) -> None:
        """Embed these files and add them to what `search` looks through.

        A file that cannot be read is left out, named in a warning and kept in `unreadable`. Raises VideoError where no
        file can be read, and ValueError without files.
        """
        videos, unreadable = self._encode_readable(paths)
        self.unreadable |= unreadable
        if unreadable:
            reasons = "; ".join(unreadable.values())
            told = f"{len(unreadable)} of {len(paths)} files cannot be read and are not indexed: {reasons}"
            if videos is None:
                raise VideoError(told)
            warnings.warn(told, stacklevel=2)
        self._videos = videos if self._videos is None else joined([self._videos, videos])
        self.paths += [path for path in map(Path, paths) if path not in unreadable]

    def search(self, text: str, k: int = 5) -> list[tuple[Path, float]]:
        """The k best indexed files for a sentence, best first, with their scores.

        Raises ValueError at an empty sentence, at k below 1 or above the number of indexed files.
        """
        at_least("k", k, 1)
        if k > len(self.paths):
            raise ValueError(f"k must be at most the {len(self.paths)} indexed videos, got {k}; index more or lower k.")
        scores, indices = top_k(self.model, self.embed_texts([text]), self._videos, k)
        return [(self.paths[i], score) for i, score in zip(indices[0].tolist(), scores[0].tolist(), strict=True)]

    def _encode_readable(self, paths: list[str | Path]) -> tuple[tuple | None, dict[Path, str]]:
        """Embeddings of the files that can be read, None where none can, and the others with the reason."""
        if not paths:
            raise ValueError("expected at least one video file, got none; check the folder.")
        parts, unreadable = [], {}
        with ThreadPoolExecutor() as pool, tqdm(total=len(paths), desc="index", unit="file") as bar:
            for start in range(0, len(paths), BATCH):
                batch, frames = [Path(path) for path in paths[start : start + BATCH]], []
                for path, decoded in zip(batch, pool.map(self._decode, batch), strict=True):
                    if isinstance(decoded, VideoError):
                        unreadable[path] = str(decoded)
                    else:
                        frames.append(decoded)
                if frames:
                    parts.append(self._encode_frames(frames))
                bar.update(len(batch))
        return joined(parts) if parts else None, unreadable

    def _decode(self, path: Path) -> np.ndarray | VideoError:
        try:
            return decode_frames(path, self.model.config.frames, self.processor.size)
        except VideoError as error:
            return error

    def _encode_frames(self, decoded: list[np.ndarray]):
        shape = (len(decoded), self.model.config.frames, self.processor.size, self.processor.size, 3)
        frames, mask = torch.zeros(shape, dtype=torch.uint8), torch.zeros(shape[:2], dtype=torch.long)
        for row, found in enumerate(map(torch.from_numpy, decoded)):
            frames[row, : len(found)], mask[row, : len(found)] = found, 1

        def encode(index):
            pixels = self.processor.normalise(frames[index]) * mask[index][..., None, None, None]
            return self.model.encode_videos(pixels.to(self.model.device), mask[index].to(self.model.device))

        return encode_all(encode, len(decoded))

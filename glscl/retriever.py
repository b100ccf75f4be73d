"""For people who just want to use a trained model: sentences and files in, embeddings and search out."""

from pathlib import Path

import torch
from transformers import AutoConfig

from glscl.config import at_least
from glscl.head import joined
from glscl.inputs import Inputs
from glscl.model import RetrievalModel
from glscl.rivals import METHODS
from glscl.scoring import encode_all, top_k
from glscl.video import decode_frames


class Retriever:
    """A trained model with its tokenizer and image settings, and the videos indexed so far.

    retriever = Retriever.from_pretrained("work/scenes/train/glscl/seed-0")
    retriever.index(["a.mp4", "b.mp4"])
    retriever.search("a red circle moves to the left", k=1)  # [("a.mp4", 0.61)]
    """

    def __init__(self, model: RetrievalModel, inputs: Inputs):
        self.model, self.inputs = model.eval(), inputs
        self.paths: list[Path] = []
        self._videos = None

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Retriever":
        """Load a folder that `train` wrote: weights, configuration, tokenizer and image settings."""
        config = AutoConfig.from_pretrained(folder)
        known = {method.config_class.model_type: method for method in METHODS.values()}
        if config.model_type not in known:
            raise ValueError(f"{folder} must hold one of {', '.join(known)}, got a {config.model_type!r}; train one.")
        model = known[config.model_type].from_pretrained(folder)
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        return cls(model, Inputs.from_pretrained(folder, config.words))

    def embed_texts(self, sentences: list[str]):
        """What the model keeps per sentence, for GLSCL `glscl.model.Texts`, on the CPU."""
        ids, mask = (tensor.to(self.model.device) for tensor in self.inputs.tokenise(sentences))
        return encode_all(lambda index: self.model.encode_texts(ids[index], mask[index]), len(sentences))

    def embed_videos(self, paths: list[str | Path]):
        """What the model keeps per video file, for GLSCL `glscl.model.Videos`, on the CPU.

        Each file is decoded once. Raises `glscl.video.VideoError` at a file that cannot be read.
        """

        def encode(index):
            shape = (len(index), self.model.config.frames, self.inputs.size, self.inputs.size, 3)
            frames, mask = torch.zeros(shape, dtype=torch.uint8), torch.zeros(shape[:2], dtype=torch.long)
            for row, path in enumerate(paths[i] for i in index):
                found = torch.from_numpy(decode_frames(path, self.model.config.frames, self.inputs.size))
                frames[row, : len(found)], mask[row, : len(found)] = found, 1
            pixels = self.inputs.normalise(frames) * mask[..., None, None, None]
            return self.model.encode_videos(pixels.to(self.model.device), mask.to(self.model.device))

        return encode_all(encode, len(paths), batch_size=32)

    def index(self, paths: list[str | Path]) -> None:
        """Embed these files and add them to what `search` looks through."""
        videos = self.embed_videos(paths)
        if self._videos is not None:
            videos = joined([self._videos, videos])
        self._videos = videos
        self.paths += [Path(path) for path in paths]

    def search(self, text: str, k: int = 5) -> list[tuple[Path, float]]:
        """The k best indexed files for a sentence, best first, with their scores.

        Raises ValueError at an empty sentence, at k below 1 or above the number of indexed files.
        """
        at_least("k", k, 1)
        if k > len(self.paths):
            raise ValueError(f"k must be at most the {len(self.paths)} indexed videos, got {k}; index more or lower k.")
        scores, indices = top_k(self.model, self.embed_texts([text]), self._videos, k)
        return [(self.paths[i], score) for i, score in zip(indices[0].tolist(), scores[0].tolist(), strict=True)]

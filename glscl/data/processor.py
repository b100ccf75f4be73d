"""Sentences and decoded frames -> what the encoders take, with the tokenizer and image settings of a CLIP."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPTokenizer

from glscl.config import SCRATCH


@dataclass(frozen=True)
class Processor:
    """The tokenizer and the image settings that travel with a CLIP, in the folder of its weights.

    words: tokens per text, start and end included. size: side of a frame in pixels.
    """

    tokenizer: CLIPTokenizer
    images: CLIPImageProcessorPil
    words: int

    @classmethod
    def from_pretrained(cls, folder: str | Path, words: int) -> "Processor":
        """Read tokenizer and image settings from a folder or, where a hub is reachable, by name.

        A folder with a tokenizer alone, for a backbone trained from scratch, gets small frames.
        """
        tokenizer = CLIPTokenizer.from_pretrained(folder)
        if Path(folder).is_dir() and not (Path(folder) / "preprocessor_config.json").exists():
            size = SCRATCH["vision_config"]["image_size"]
            images = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
        else:
            images = CLIPImageProcessorPil.from_pretrained(folder)
        return cls(tokenizer, images, words)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write tokenizer and image settings beside a model's weights."""
        self.tokenizer.save_pretrained(folder)
        self.images.save_pretrained(folder)

    @property
    def size(self) -> int:
        """Side of a square frame, pixels."""
        return self.images.crop_size["height"]

    def tokenise(self, sentences: list[str]) -> tuple[Tensor, Tensor]:
        """Token ids and mask, both (texts, words); longer texts keep their first words and the end token.

        Raises ValueError at an empty sentence, or without sentences. Absent words have id 0, as in the release, whose
        local interaction sees them; CLIP's tokenizer would pad with the end token.
        """
        if not sentences:
            raise ValueError("expected at least one sentence, got none; give a list of texts.")
        for number, sentence in enumerate(sentences):
            if not sentence.strip():
                raise ValueError(f"expected words, got an empty sentence at position {number}; remove or fill it.")
        encoded = self.tokenizer(
            list(sentences), padding="max_length", truncation=True, max_length=self.words, return_tensors="pt"
        )
        return encoded.input_ids * encoded.attention_mask, encoded.attention_mask

    def normalise(self, frames: Tensor, mask: Tensor) -> Tensor:
        """frames uint8 (videos, frames, height, width, 3) -> pixels (videos, frames, 3, height, width), float32.

        mask: (videos, frames), 1 for real frames; the pixels of others are 0. Computed on the device of the frames.
        """
        pixels = frames.permute(0, 1, 4, 2, 3).float() / 255
        mean, std = (
            torch.tensor(v, device=frames.device).view(3, 1, 1) for v in (self.images.image_mean, self.images.image_std)
        )
        return (pixels - mean) / std * mask[..., None, None, None]

"""Sentences and decoded frames -> what the encoders take, with the tokenizer and image settings of a CLIP."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPTokenizer

from glscl.config import SCRATCH
from glscl.pretrained import located

PADDED = 128  # a vocabulary may be filled up to a multiple of this, for speed


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
        """Read tokenizer and image settings from a folder or, where a hub or the local cache has it, by name.

        A folder with a tokenizer alone, for a backbone trained from scratch, gets small frames. Raises ValueError where
        there is no tokenizer, or a model without image settings.
        """
        source = located(folder)
        return cls(_tokenizer(source), _images(source), words)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write tokenizer and image settings beside a model's weights."""
        self.tokenizer.save_pretrained(folder)
        self.images.save_pretrained(folder)

    @property
    def size(self) -> int:
        """Side of a square frame, pixels."""
        return self.images.crop_size["height"]

    def require_fit(self, config: CLIPConfig) -> None:
        """Raise a ValueError unless a CLIP of this configuration takes these tokens, so many words and these frames."""
        text = config.text_config
        if not 0 <= text.vocab_size - len(self.tokenizer) < PADDED:
            raise ValueError(
                f"CLIP's vocabulary has {text.vocab_size} tokens, got a tokenizer with {len(self.tokenizer)}; put the "
                "tokenizer that CLIP was trained with into its folder."
            )
        if self.words > text.max_position_embeddings:
            raise ValueError(
                f"CLIP reads at most {text.max_position_embeddings} tokens of a text, got words = {self.words}; lower "
                "words."
            )
        if self.size != config.vision_config.image_size:
            raise ValueError(
                f"CLIP takes frames of {config.vision_config.image_size} pixels, got image settings with a crop_size "
                f"of {self.size}; put the preprocessor_config.json that belongs to CLIP into its folder."
            )

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


def images_of(size: int) -> CLIPImageProcessorPil:
    """CLIP's own image settings for square frames of another size, in pixels."""
    return CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})


def _tokenizer(source: str) -> CLIPTokenizer:
    try:
        found = CLIPTokenizer.from_pretrained(source)
    except Exception as error:  # tokenizers raises plain ones
        raise ValueError(f"the tokenizer in {source} cannot be read ({error}); copy or download it again.") from error
    if len(found) <= len(set(found.all_special_tokens)):  # transformers makes one without words where there is no file
        raise ValueError(
            f"{source} must hold CLIP's tokenizer (tokenizer.json, or vocab.json with merges.txt), got none; add it."
        )
    return found


def _images(source: str) -> CLIPImageProcessorPil:
    folder = Path(source)
    if folder.is_dir() and not any((folder / f"{name}_config.json").exists() for name in ("preprocessor", "processor")):
        if (folder / "config.json").exists():
            raise ValueError(
                f"{source} must state the size and the statistics of its frames (preprocessor_config.json), got a "
                "model alone; save the CLIPImageProcessor that belongs to it there."
            )
        return images_of(SCRATCH["vision_config"]["image_size"])
    try:
        return CLIPImageProcessorPil.from_pretrained(source)
    except OSError as error:
        raise ValueError(f"the image settings of {source} cannot be read ({error}); save them again.") from error

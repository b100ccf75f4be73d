"""Mean pooling: the cosine of a sentence with the mean of a video's unit-length frame vectors.

CLIP4Clip (arXiv 2104.08860; ArrowLuo/CLIP4Clip, modules/modeling.py): its meanP where `temporal_layers` is 0, its
seqTransf with the temporal encoder. With 0 layers and no training it is zero-shot CLIP.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from glscl.base import MatchingHead, RetrievalModel, require_features
from glscl.config import RetrievalConfig
from glscl.released import Names


class Texts(NamedTuple):
    """Unit-length sentence vectors (texts, width)."""

    sentence: Tensor


class Videos(NamedTuple):
    """Unit-length video vectors (videos, width)."""

    video: Tensor


class MeanPoolingHead(MatchingHead):
    """Temporal encoder, unit-length frames, masked mean, cosine."""

    embedding_types = Texts, Videos

    def encode_texts(self, sentence: Tensor, words: Tensor, mask: Tensor) -> Texts:
        """sentence (texts, width), words (texts, words, width), mask (texts, words); the words are not used."""
        require_features(words, mask, self.config.width, "word")
        return Texts(F.normalize(sentence.float(), dim=-1))

    def encode_videos(self, frames: Tensor, mask: Tensor) -> Videos:
        """frames (videos, frames, width), mask (videos, frames) -> the unit-length mean of real frames."""
        require_features(frames, mask, self.config.width, "frame")
        frames = F.normalize(self.temporal(frames, mask).float(), dim=-1)
        return Videos(F.normalize((frames * mask.unsqueeze(-1)).sum(1), dim=-1))

    def similarity(self, texts: Texts, videos: Videos) -> Tensor:
        """Cosines (texts, videos)."""
        self.require_embeddings(texts, videos)
        return texts.sentence @ videos.video.T


class MeanPoolingConfig(RetrievalConfig):
    """Settings of mean pooling: CLIP's own and `temporal_layers`."""

    model_type = "mean_pooling"


class MeanPooling(RetrievalModel):
    """CLIP's encoders under the mean-pooling head."""

    config_class = MeanPoolingConfig
    head_class = MeanPoolingHead
    released_names = Names()

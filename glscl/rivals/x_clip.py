"""X-CLIP: sentence and words against video and frames, four scores of a pair at two grains each, averaged.

X-CLIP (arXiv 2207.07285; xuguohai/X-CLIP, modules/modeling_xclip.py, `_loose_similarity` with seqTransf). The video
vector is the mean of the frames after the temporal encoder; the two scores of single frames take CLIP's own, unless
`frames_with_context` says otherwise: other heads with a temporal encoder read all frames after it. Where the release
differs: it masks neither words nor frames in its softmaxes, so that padding takes part, as with the setting
`padding: released`; and it trains with a batch of 300.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glscl.base import MatchingHead, RetrievalModel, full_precision, require_features
from glscl.config import PaddingConfig
from glscl.released import Names

INVERSE_TEMPERATURE = 100.0  # of the softmax over scores; the release divides by a temperature of 0.01


class Texts(NamedTuple):
    """Per text:

    unit-length sentence (texts, width) and words (texts, words, width), zero at padding; the same under the learnable
    matrices, mapped_sentence (texts, width) and mapped_words (texts, words, width); mask (texts, words).
    """

    sentence: Tensor
    words: Tensor
    mapped_sentence: Tensor
    mapped_words: Tensor
    mask: Tensor


class Videos(NamedTuple):
    """Unit-length video (videos, width) and frames (videos, frames, width), zero if absent; mask (videos, frames)."""

    video: Tensor
    frames: Tensor
    mask: Tensor


class ScoreAttention(nn.Module):
    """Attention over a similarity matrix (AOSM): its scores, summed with weights that come from the scores themselves.

    The weights are a softmax of the scores, times a learnable square matrix that starts as the identity.
    """

    def __init__(self, positions: int):
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(positions))

    def forward(self, scores: Tensor, absent: Tensor) -> Tensor:
        """scores (..., positions, rest), 0 where absent (..., positions, rest) is -1e9 and not 0 -> (..., rest).

        Fewer positions than the matrix has are as good as padding. Raises ValueError for more.
        """
        count, limit = scores.shape[-2], len(self.matrix)
        if count > limit:
            raise ValueError(
                f"this head was built for at most {limit} words or frames per item, got {count}; cut the inputs, or "
                "build it with that number."
            )
        weights = torch.add(absent, scores, alpha=INVERSE_TEMPERATURE).softmax(-2)
        # Expanded over the leading axes, it multiplies `scores` as they lie in memory, without a copy.
        matrix = self.matrix[:count, :count].expand(*scores.shape[:-2], -1, -1)
        return (weights * (matrix @ scores)).sum(-2)


class XCLIPHead(MatchingHead):
    """Temporal encoder, four scores, attention over the scores of words and of frames."""

    embedding_types = Texts, Videos

    def __init__(self, config: PaddingConfig):
        super().__init__(config)
        self.video_sentence = nn.Parameter(torch.eye(config.width))
        self.frame_word = nn.Parameter(torch.eye(config.width))
        self.over_words = ScoreAttention(config.words)  # of video-word
        self.over_frames = ScoreAttention(config.frames)  # of sentence-frame
        self.words_first, self.frames_second = ScoreAttention(config.words), ScoreAttention(config.frames)
        self.frames_first, self.words_second = ScoreAttention(config.frames), ScoreAttention(config.words)

    @property
    def numbers_per_pair(self) -> int:
        """Of the matrix of words and frames."""
        return self.config.words * self.config.frames

    def encode_texts(self, sentence: Tensor, words: Tensor, mask: Tensor) -> Texts:
        """sentence (texts, width), words (texts, words, width), mask (texts, words) -> the text embeddings."""
        require_features(words, mask, self.config.width, "word")
        mask = self.read(mask)
        sentence, words = F.normalize(sentence.float(), dim=-1), F.normalize(words.float(), dim=-1) * mask[..., None]
        with full_precision(sentence):
            return Texts(sentence, words, sentence @ self.video_sentence, words @ self.frame_word, mask)

    def encode_videos(self, frames: Tensor, mask: Tensor) -> Videos:
        """frames (videos, frames, width), mask (videos, frames) -> the video embeddings."""
        require_features(frames, mask, self.config.width, "frame")
        context = self.temporal(frames, mask).float()
        video = F.normalize((F.normalize(context, dim=-1) * mask[..., None]).sum(1), dim=-1)
        mask = self.read(mask)
        own = context if self.config.frames_with_context else frames.float()
        return Videos(video, F.normalize(own, dim=-1) * mask[..., None], mask)

    def read(self, mask: Tensor) -> Tensor:
        """Which words or frames the softmaxes read, (items, positions): the real ones, or all of them as released."""
        return torch.ones_like(mask) if self.config.padding == "released" else mask

    def similarity(self, texts: Texts, videos: Videos) -> Tensor:
        """Mean of the four scores, (texts, videos)."""
        self.require_embeddings(texts, videos)
        # Axes are (videos, frames, words, texts): texts last, so that every step runs along contiguous memory.
        grid = *videos.mask.shape, *texts.mask.T.shape
        words, mapped = (side.transpose(0, 1).flatten(0, 1).T for side in (texts.words, texts.mapped_words))
        no_word, no_frame = ((1 - mask.float()) * -1e9 for mask in (texts.mask.T, videos.mask[..., None]))

        video_sentence = videos.video @ texts.mapped_sentence.T
        video_word = self.over_words((videos.video @ words).unflatten(1, grid[2:]), no_word)
        sentence_frame = self.over_frames(videos.frames @ texts.sentence.T, no_frame)
        frame_word = (videos.frames.flatten(0, 1) @ mapped).view(grid)
        return (video_sentence + video_word + sentence_frame + self.both_orders(frame_word, no_frame, no_word)).T / 4

    def both_orders(self, scores: Tensor, no_frame: Tensor, no_word: Tensor) -> Tensor:
        """Scores (videos, frames, words, texts) attended in both orders; the mean, (videos, texts)."""
        by_frame = self.words_first(scores, no_word)  # (videos, frames, texts)
        by_word = self.frames_first(scores.flatten(2), no_frame).unflatten(1, scores.shape[2:])
        return (self.frames_second(by_frame, no_frame) + self.words_second(by_word, no_word)) / 2


class XClipConfig(PaddingConfig):
    """Settings of X-CLIP: CLIP's own, `temporal_layers`, `padding`, and an item's most `words` and `frames`.

    frames_with_context: the two scores of single frames read them after the temporal encoder; the release reads CLIP's.
    """

    model_type = "x_clip"

    frames_with_context: bool = False


class XCLIP(RetrievalModel):
    """CLIP's encoders under the head of X-CLIP."""

    config_class = XClipConfig
    head_class = XCLIPHead
    released_names = Names(
        renamed=(
            (r"^global_mat_weight$", "head.video_sentence"),
            (r"^local_mat_weight$", "head.frame_word"),
            (r"^word_logit_weight$", "head.over_words.matrix"),
            (r"^frame_logit_weight$", "head.over_frames.matrix"),
            (r"^word_mat_weight$", "head.words_first.matrix"),
            (r"^frame_mat_weight2$", "head.frames_second.matrix"),
            (r"^frame_mat_weight$", "head.frames_first.matrix"),
            (r"^word_mat_weight2$", "head.words_second.matrix"),
        ),
        sizes=lambda weights: {
            "words": len(weights["word_logit_weight"]),
            "frames": len(weights["frame_logit_weight"]),
        },
        settings={"padding": "released"},
    )

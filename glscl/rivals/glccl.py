"""GLCCL: sentence and words against the video and the frames that each of them gathers, four scores made to agree.

GLCCL (arXiv 2605.17959, JingXiaolun/GLCCL; its code derives from X-CLIP's): every sentence pools the frames of every
video, and so does every word (GLIM, no parameters); scores of words and of word-conditioned frames are summed by
X-CLIP's attention; the consistency score calibration (CSC) makes the four scores of a matching pair agree and those of
other pairs disagree. This is the release's modules/modeling_glccl.py with text_guided_flag, interaction_type attn and
seqTransf. Where the release differs: it masks neither words nor frames in its softmaxes, so that padding takes part, as
with the setting `padding: released`; and it makes a vector of every pair and word. Its README weighs the consistency
loss with 0.5; its code has another default, 0.1.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glscl.base import MatchingHead, RetrievalModel, full_precision, gram, pooled_length, require_features
from glscl.config import PaddingConfig, at_least
from glscl.released import Names
from glscl.rivals.x_clip import ScoreAttention
from glscl.scoring import NUMBERS


class Texts(NamedTuple):
    """Per text:

    sentence (texts, width), and the unit-length one under a learnable matrix, mapped (texts, width); unit-length words
    (texts, words, width), zero at padding, the lengths they had (texts, words) and their mask (texts, words).
    """

    sentence: Tensor
    mapped: Tensor
    words: Tensor
    lengths: Tensor
    mask: Tensor


class Videos(NamedTuple):
    """Per video:

    frames after the temporal encoder, and the same under a learnable matrix, mapped, both (videos, frames, width);
    mask (videos, frames), and the Gram matrix of the frames gram (videos, frames, frames).
    """

    frames: Tensor
    mapped: Tensor
    mask: Tensor
    gram: Tensor


class GLCCLHead(MatchingHead):
    """Temporal encoder, frames pooled by sentence and by every word, four scores, consistency loss."""

    embedding_types = Texts, Videos

    def __init__(self, config: PaddingConfig):
        super().__init__(config)
        self.sentence_video = nn.Parameter(torch.eye(config.width))
        self.word_frame = nn.Parameter(torch.eye(config.width))
        # A word-conditioned frame stands at the place of its word, so that these attend over words, all six.
        self.over_words, self.over_frames = ScoreAttention(config.words), ScoreAttention(config.words)
        self.words_first, self.frames_second = ScoreAttention(config.words), ScoreAttention(config.words)
        self.frames_first, self.words_second = ScoreAttention(config.words), ScoreAttention(config.words)

    @property
    def numbers_per_pair(self) -> int:
        """Of the matrix of words and frames; that of words and word-conditioned frames is made in parts."""
        return self.config.words * self.config.frames

    def encode_texts(self, sentence: Tensor, words: Tensor, mask: Tensor) -> Texts:
        """sentence (texts, width), words (texts, words, width), mask (texts, words) -> the text embeddings."""
        require_features(words, mask, self.config.width, "word")
        mask = self.read(mask)
        sentence, words = sentence.float(), words.float()
        with full_precision(sentence):
            mapped = F.normalize(sentence, dim=-1) @ self.sentence_video
        return Texts(sentence, mapped, F.normalize(words, dim=-1) * mask[..., None], words.norm(dim=-1), mask)

    def encode_videos(self, frames: Tensor, mask: Tensor) -> Videos:
        """frames (videos, frames, width), mask (videos, frames) -> the video embeddings."""
        require_features(frames, mask, self.config.width, "frame")
        frames = self.temporal(frames, mask).float()
        with full_precision(frames):
            return Videos(frames, frames @ self.word_frame.T, self.read(mask), gram(frames))

    def read(self, mask: Tensor) -> Tensor:
        """Which words or frames the softmaxes read, (items, positions): the real ones, or all of them as released."""
        return torch.ones_like(mask) if self.config.padding == "released" else mask

    def similarity(self, texts: Texts, videos: Videos) -> Tensor:
        """Mean of the four scores, (texts, videos)."""
        return self.scores(texts, videos).mean(0)

    def scores(self, texts: Texts, videos: Videos) -> Tensor:
        """Sentence-video, word-video, sentence-frame and word-frame scores, (4, texts, videos).

        Pooled vectors never exist: as weighted sums of frames, their products and lengths follow from the products of
        the frames and their Gram matrix.
        """
        self.require_embeddings(texts, videos)
        # Axes are (videos, frames, words, texts): texts last, so that every step runs along contiguous memory.
        words_texts = texts.mask.T.shape
        no_word, no_frame = ((1 - mask.float()) * -1e9 for mask in (texts.mask.T, videos.mask[..., None]))
        words, lengths = texts.words.transpose(0, 1).flatten(0, 1).T, texts.lengths.T.flatten()
        inverse_temperature = 1 / self.config.pooling_temperature

        of_sentence = videos.frames @ texts.sentence.T  # products, (videos, frames, texts)
        weights = torch.add(no_frame, of_sentence, alpha=inverse_temperature).softmax(1)
        length = pooled_length(videos.gram, weights)  # (videos, texts)
        sentence_video = (weights * (videos.frames @ texts.mapped.T)).sum(1) / length

        of_words = videos.frames @ words  # (videos, frames, words x texts)
        word_video = (weights[:, :, None] * of_words.unflatten(2, words_texts)).sum(1) / length[:, None]
        word_video = self.over_words(word_video, no_word)

        weights = torch.addcmul(no_frame, of_words, inverse_temperature * lengths).softmax(1)
        # Divided by their length the word-conditioned frames are unit vectors; those of padding become zero.
        weights = weights * (texts.mask.T.flatten() / pooled_length(videos.gram, weights))[:, None]
        weights = weights.unflatten(2, words_texts)
        sentence_frame = (weights * of_sentence[:, :, None]).sum(1) / texts.sentence.norm(dim=-1).clamp(min=1e-6)
        sentence_frame = self.over_frames(sentence_frame, no_word)

        of_words = (videos.mapped @ words).unflatten(2, words_texts)
        # In parts that stay in the cache: for a batch the scores of words and word-conditioned frames are large.
        size = max(1, NUMBERS[words.device.type] // (words_texts[0] * words.shape[1]))
        parts = zip(of_words.split(size), weights.split(size), strict=True)
        word_frame = torch.cat([self.both_orders(*part, no_word) for part in parts])
        return torch.stack([sentence_video, word_video, sentence_frame, word_frame]).transpose(1, 2)

    def both_orders(self, products: Tensor, weights: Tensor, no_word: Tensor) -> Tensor:
        """Scores of words with word-conditioned frames, attended in both orders; the mean, (videos, texts).

        products, weights (videos, frames, words, texts): of words with frames, and of frames in word-conditioned ones.
        """
        scores = torch.einsum("vfkt,vflt->vtkl", products, weights).permute(0, 2, 3, 1).contiguous()
        no_word_of_all = no_word[:, None].expand(scores.shape[1:]).flatten(1)
        by_frame = self.words_first(scores.flatten(2), no_word_of_all).unflatten(1, no_word.shape)
        by_word = self.frames_first(scores, no_word)
        return (self.frames_second(by_frame, no_word) + self.words_second(by_word, no_word)) / 2

    def loss(self, texts: Texts, videos: Videos) -> dict[str, Tensor]:
        """The contrastive and the consistency loss of a batch whose text i belongs to video i."""
        with full_precision(texts.sentence):
            scores = self.scores(texts, videos)
            terms = {
                "contrastive": self.contrastive(texts, videos, scores.mean(0)),
                "consistency": self.config.score_consistency_weight * consistency_loss(scores),
            }
        return terms | {"total": sum(terms.values())}


def consistency_loss(scores: Tensor) -> Tensor:
    """How much the scores of a matching pair differ, relative to those of other pairs (CSC).

    scores: (scores, texts, videos), pair i being text i with video i. With the variance over the scores, U: the mean of
    its diagonal over the sum of the rest divided by texts x videos. Raises ValueError for fewer than two pairs.
    """
    if scores.shape[1] < 2:
        raise ValueError(
            f"the consistency loss compares matching with other pairs, got {scores.shape[1]} pair; give more."
        )
    spread = scores.var(0)
    matching = spread.diagonal()
    return matching.mean() / ((spread.sum() - matching.sum()) / spread.numel())


class GLCCLConfig(PaddingConfig):
    """Settings of GLCCL: CLIP's own, `temporal_layers`, `padding`, how many `words` a text has at most, and its own.

    pooling_temperature: of the softmax over frames, on unnormalised products. score_consistency_weight: of the
    consistency loss. Their names are not those of GLSCL, so that a study's values for GLSCL do not reach them.
    """

    model_type = "glccl"

    pooling_temperature: float = 5.0
    score_consistency_weight: float = 0.5

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        at_least("pooling_temperature", self.pooling_temperature, 0)
        at_least("score_consistency_weight", self.score_consistency_weight, 0)
        if not self.pooling_temperature > 0:
            raise ValueError(
                f"pooling_temperature must be above 0, got {self.pooling_temperature}; the release uses 5."
            )


class GLCCL(RetrievalModel):
    """CLIP's encoders under the head of GLCCL."""

    config_class = GLCCLConfig
    head_class = GLCCLHead
    released_names = Names(
        renamed=(
            (r"^global_mat_weight$", "head.sentence_video"),
            (r"^local_mat_weight$", "head.word_frame"),
            (r"^word_logit_weight$", "head.over_words.matrix"),
            (r"^word_frame_logit_weight$", "head.over_frames.matrix"),
            (r"^word_mat_weight$", "head.words_first.matrix"),
            (r"^word_frame_mat_weight2$", "head.frames_second.matrix"),
            (r"^word_frame_mat_weight$", "head.frames_first.matrix"),
            (r"^word_mat_weight2$", "head.words_second.matrix"),
        ),
        unused=r"^visual_logit_weight$",
        sizes=lambda weights: {"words": len(weights["word_logit_weight"])},
        settings={"padding": "released"},
    )

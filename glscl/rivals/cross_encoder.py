"""Cross-encoder: one transformer reads the words of a text and the frames of a video together and scores the pair.

The reference of true cross-attention: nothing of a pair can be computed before the pair is known, so a transformer runs
for every pair, and a large gallery is searched in two stages: mean pooling finds candidates, `rerank` orders them.
Sources: UNITER (arXiv 1909.11740), a single stream of word and image features; CLIP4Clip's tight type (arXiv
2104.08860; ArrowLuo/CLIP4Clip, modules/modeling.py, module_cross.py), whose form this is: blocks of CLIP's text tower,
copied from its first ones, over the sentence state at the FIRST position and the frames; a logit is read from that
position by LayerNorm, a layer with QuickGELU and a layer to one number.

`reads_words=False, adds_cosine=False, temporal_layers=0` is the tight type, number for number. Departures besides:

* `reads_words`: between sentence and frames stand the words, as in UNITER. Then type embeddings are added, as paper and
  UNITER have them (the release comments them out), and words and frames count their positions apart, so that padding
  cannot move a frame.
* `adds_cosine`: the score is the first stage's, scale * cosine, plus the transformer's logit, which starts at 0. It is
  what a re-ranker of a second stage is for: it begins as the first stage and learns what that one lacks. Alone, the
  transformer would first have to learn again what the cosine knows, and on a small corpus it does not get so far.
* `init_from` copies a trained bi-encoder, whose temporal encoder goes on learning. The release starts from CLIP.
* The release scores every pair of a batch, in both directions. Here a text meets its own video and `negatives` others
  of the batch, drawn in favour of those that the first stage finds similar, text to video only.
* No dropout; the release drops 10 % of the embedded features. No pretraining, which UNITER has.
"""

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel
from transformers.activations import QuickGELUActivation
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from glscl.base import MatchingHead, RetrievalModel, full_precision, require_features, take
from glscl.config import RetrievalConfig, at_least
from glscl.released import Names, Weights
from glscl.rivals.mean_pooling import MeanPoolingHead

PAIRS = {"cpu": 64, "cuda": 2048}  # that the transformer reads at a time: the processor's cache, a busy GPU
MOST_NEGATIVES = 16
NEGATIVE_TEMPERATURE = 0.05  # of the cosines that negatives are drawn by


class Texts(NamedTuple):
    """CLIP's features: sentence (texts, width), words (texts, words, width) and their mask (texts, words)."""

    sentence: Tensor
    words: Tensor
    mask: Tensor


class Videos(NamedTuple):
    """Frames after the temporal encoder (videos, frames, width), their mask (videos, frames), and their pooled vector.

    pooled: (videos, width), the unit-length mean of unit-length real frames, as the first stage has it.
    """

    frames: Tensor
    mask: Tensor
    pooled: Tensor


class CrossEncoderHead(MatchingHead):
    """Embeddings of type and position, `cross_layers` blocks, and a score from the first position."""

    embedding_types = Texts, Videos
    numbers_per_pair = 1  # the transformer works in chunks of its own; `similarity` holds a few numbers per pair

    def __init__(self, config: RetrievalConfig):
        super().__init__(config)
        self.logit_scale.requires_grad_(False)  # part of the first stage
        blocks = copy.deepcopy(config.clip_config.text_config)
        blocks.hidden_size, blocks._attn_implementation = config.width, "sdpa"
        blocks.layer_norm_eps = config.layer_norm_eps
        self.types = nn.Embedding(3, config.width)  # sentence, word, frame
        self.positions = nn.Embedding(blocks.max_position_embeddings, config.width)
        for table in (self.types, self.positions):
            nn.init.normal_(table.weight, std=0.02)
        self.blocks = nn.ModuleList(CLIPEncoderLayer(blocks) for _ in range(config.cross_layers))
        self.score = nn.Sequential(
            nn.LayerNorm(config.width, config.layer_norm_eps),
            nn.Linear(config.width, config.width),
            QuickGELUActivation(),
            nn.Linear(config.width, 1),
        )
        if config.adds_cosine:
            nn.init.zeros_(self.score[-1].weight)
            nn.init.zeros_(self.score[-1].bias)

    def init_from(self, head: MeanPoolingHead) -> None:
        """Take the temporal encoder and the scale of a trained bi-encoder, the first stage.

        Raises ValueError where the bi-encoder is of another width or has other temporal layers.
        """
        given, own = (side.temporal.state_dict() for side in (head, self))
        if {name: w.shape for name, w in given.items()} != {name: w.shape for name, w in own.items()}:
            raise ValueError(
                f"the cross-encoder with {self.config.temporal_layers} temporal layers of width {self.config.width} "
                f"starts from a bi-encoder with the same, got {head.config.temporal_layers} of width "
                f"{head.config.width}; name the matching method as its start."
            )
        self.temporal.load_state_dict(given)
        self.logit_scale.data.copy_(head.logit_scale.data)

    def init_from_clip(self, clip: CLIPModel) -> None:
        """Copy CLIP's text positions and its first text blocks, as the release does; further blocks stay random."""
        text = clip.text_model
        if clip.config.text_config.hidden_size != self.config.width:
            raise ValueError(
                f"the cross-encoder of width {self.config.width} is initialised from CLIP's text blocks, got blocks of "
                f"width {clip.config.text_config.hidden_size}; use a CLIP whose text tower has the joint width."
            )
        for block, text_block in zip(self.blocks, text.encoder.layers, strict=False):
            block.load_state_dict(text_block.state_dict())
        self.positions.load_state_dict(text.embeddings.position_embedding.state_dict())

    def encode_texts(self, sentence: Tensor, words: Tensor, mask: Tensor) -> Texts:
        """sentence (texts, width), words (texts, words, width), mask (texts, words) -> the same."""
        require_features(words, mask, self.config.width, "word")
        self._require_positions(words.shape[1], "words")
        return Texts(sentence.float(), words.float(), mask)

    def encode_videos(self, frames: Tensor, mask: Tensor) -> Videos:
        """frames (videos, frames, width) of CLIP, mask (videos, frames) -> frames after the temporal encoder."""
        require_features(frames, mask, self.config.width, "frame")
        if self.config.reads_words:
            self._require_positions(frames.shape[1], "frames")
        else:
            self._require_positions(1 + frames.shape[1], "positions of sentence and frames")
        frames = self.temporal(frames, mask).float()
        unit = F.normalize(frames, dim=-1) * mask.unsqueeze(-1)
        return Videos(frames, mask, F.normalize(unit.sum(1), dim=-1))

    def cosines(self, texts: Texts, videos: Videos) -> Tensor:
        """Cosines (texts, videos) of mean pooling over this head's own frames; before training, the first stage's."""
        self.require_embeddings(texts, videos)
        return F.normalize(texts.sentence, dim=-1) @ videos.pooled.T

    def _require_positions(self, count: int, what: str) -> None:
        if count > self.positions.num_embeddings:
            raise ValueError(
                f"the cross-encoder has {self.positions.num_embeddings} positions, got {count} {what}; give "
                "fewer per item."
            )

    def similarity(self, texts: Texts, videos: Videos) -> Tensor:
        """Scores of ALL pairs (texts, videos), a transformer for each; `rerank` scores the best of a cheap method."""
        self.require_embeddings(texts, videos)
        gallery = len(videos[0])
        pairs = torch.arange(len(texts[0]) * gallery, device=texts.mask.device)
        return self.score_pairs(texts, videos, pairs // gallery, pairs % gallery).unflatten(0, (-1, gallery))

    def score_pairs(self, texts: Texts, videos: Videos, rows: Tensor, columns: Tensor) -> Tensor:
        """Scores (pairs,) of text rows[i] with video columns[i], in chunks of `PAIRS` pairs of similar length."""
        device = self.types.weight.device
        words, frames = lengths(texts.mask)[rows], lengths(videos.mask)[columns]
        order = (words * (1 + videos.mask.shape[1]) + frames).argsort()
        chunks = order.split(PAIRS[device.type])
        scores = [
            self._score(take(texts, rows[chunk], device), take(videos, columns[chunk], device)) for chunk in chunks
        ]
        return torch.cat(scores)[order.argsort()]

    def _score(self, texts: Texts, videos: Videos) -> Tensor:
        """Scores (pairs,) of text i with video i."""
        logits = self._read(texts, videos).float()
        if not self.config.adds_cosine:
            return logits
        with full_precision(logits):
            cosine = (F.normalize(texts.sentence, dim=-1) * videos.pooled).sum(-1)
            return logits + self.logit_scale.exp().clamp(max=100) * cosine

    def _read(self, texts: Texts, videos: Videos) -> Tensor:
        """The transformer's logits (pairs,) of text i with video i, without positions that are absent in every item."""
        real = [side.mask[:, : lengths(side.mask).max()] for side in (texts, videos)]
        first = torch.ones_like(real[0][:, :1])
        sentence, frames = texts.sentence.unsqueeze(1), videos.frames[:, : real[1].shape[1]]
        if self.config.reads_words:
            of_sentence, of_word, of_frame = self.types.weight
            words = texts.words[:, : real[0].shape[1]]
            words = words + self.positions.weight[: words.shape[1]] + of_word
            frames = frames + self.positions.weight[: frames.shape[1]] + of_frame
            features, mask = torch.cat([sentence + of_sentence, words, frames], 1), torch.cat([first, *real], 1)
        else:
            features, mask = torch.cat([sentence, frames], 1), torch.cat([first, real[1]], 1)
            features = features + self.positions.weight[: features.shape[1]]
        present = mask.bool()[:, None, None]
        *blocks, last = self.blocks
        for block in blocks:
            features = block(features, present)
        return self.score(first_position(last, features, present)).squeeze(1)

    def loss(self, texts: Texts, videos: Videos) -> dict[str, Tensor]:
        """Cross entropy of text i with video i against its negatives in the batch, as `contrastive` and `total`.

        Raises ValueError unless there is one video per text.
        """
        self.require_embeddings(texts, videos)
        negatives, found = hard_negatives(self.cosines(texts, videos), videos, self.config.negatives)
        own = torch.arange(len(negatives), device=negatives.device)
        candidates = torch.cat([own[:, None], negatives], 1)
        rows = own.repeat_interleave(candidates.shape[1])
        scores = self.score_pairs(texts, videos, rows, candidates.flatten()).view_as(candidates)
        with full_precision(scores):
            logits = scores.masked_fill(F.pad(~found, (1, 0)), -torch.inf)
            contrastive = F.cross_entropy(logits, torch.zeros_like(own))
        return {"contrastive": contrastive, "total": contrastive}


def lengths(mask: Tensor) -> Tensor:
    """Positions up to the last real one of mask (items, positions) -> (items,)."""
    return ((mask > 0) * torch.arange(1, 1 + mask.shape[1], device=mask.device)).amax(1)


def first_position(block: CLIPEncoderLayer, features: Tensor, present: Tensor) -> Tensor:
    """What `block` makes of the first position alone; the others serve as keys and values.

    features (pairs, positions, width), present (pairs, 1, 1, positions), True for real -> (pairs, width).
    """
    attention = block.self_attn

    def heads(vectors: Tensor) -> Tensor:
        return vectors.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)

    normed = block.layer_norm1(features)
    mixed = F.scaled_dot_product_attention(
        heads(attention.q_proj(normed[:, :1])),
        heads(attention.k_proj(normed)),
        heads(attention.v_proj(normed)),
        attn_mask=present,
    )
    first = features[:, 0] + attention.out_proj(mixed.flatten(1))
    return first + block.mlp(block.layer_norm2(first))


@torch.no_grad()
def hard_negatives(cosine: Tensor, videos: Videos, count: int) -> tuple[Tensor, Tensor]:
    """Other videos of a batch, drawn without replacement with probability exp(cosine / `NEGATIVE_TEMPERATURE`).

    cosine: (texts, videos), of the first stage. Text i belongs to video i, and so does every video with exactly the
    same frames: captions of one video in a batch are no negatives of each other. count: per text; a small batch has
    fewer.
    Returns indices (texts, negatives), and which are negatives at all: a text may lack other videos.
    Raises ValueError unless there is one video per text.
    """
    if len(cosine) != len(videos.frames):
        raise ValueError(
            f"the loss expects as many texts as videos, text i with video i, got {len(cosine)} and "
            f"{len(videos.frames)}; give one video per text."
        )
    frames = videos.frames * videos.mask.unsqueeze(-1)
    video = torch.cat([frames.flatten(1), videos.mask], 1).unique(dim=0, return_inverse=True)[1]
    # The largest of logits with Gumbel noise are a sample of their softmax.
    noise = -torch.empty_like(cosine).exponential_().log()
    drawn = (cosine / NEGATIVE_TEMPERATURE + noise).masked_fill(video[:, None] == video, -torch.inf)
    best = drawn.topk(min(count, len(cosine) - 1))
    return best.indices, best.values > -torch.inf


@torch.inference_mode()
def rerank(head: CrossEncoderHead, texts: Texts, videos: Videos, first: Tensor, k: int = 50) -> Tensor:
    """Scores (texts, videos), float64, in which the cross-encoder orders the `k` best videos of each text by `first`.

    first: (texts, videos), scores of a cheap method such as mean pooling. A pair that the cross-encoder reads has its
    score, the same as in `similarity`. All other pairs have `first` minus one number for the whole matrix, so that the
    best of them lies 1 below the worst pair that was read: their order stays, along rows and down columns.
    Video to text reads the same matrix by columns: first the texts that had the video among their `k` best, by the
    cross-encoder, then the other texts by `first`; it is no reranking of the `k` best texts of a video.
    Raises ValueError for embeddings of another head, `first` of another shape or not finite, a k that is not from 1 to
    the size of the gallery, and scores that are not finite.
    """
    head.require_embeddings(texts, videos)
    shape = len(texts[0]), len(videos[0])
    if first.shape != shape:
        raise ValueError(f"first must hold a score of every pair, {shape}, got {tuple(first.shape)}; give all scores.")
    if not 1 <= k <= shape[1]:
        raise ValueError(f"k must be from 1 to the {shape[1]} videos of the gallery, got {k}; ask for fewer.")
    _require_finite("first", first)
    columns = first.topk(k).indices.flatten().to(texts.mask.device)
    rows = torch.arange(shape[0], device=columns.device).repeat_interleave(k)
    scores = head.score_pairs(texts, videos, rows, columns).to(first.device, torch.float64)
    _require_finite("scores of the cross-encoder", scores)
    merged = first.double()  # in float32 the shift could make equal what `first` tells apart
    merged = merged - (merged.max() - scores.min() + 1)
    merged[rows, columns] = scores
    return merged


def _require_finite(what: str, scores: Tensor) -> None:
    if not torch.isfinite(scores).all():
        raise ValueError(f"{what} must be finite, got NaN or infinity; look for damaged embeddings or weights.")


class CrossEncoderConfig(RetrievalConfig):
    """Settings of the cross-encoder.

    cross_layers: blocks over the words and frames of a pair. negatives: other videos per text in training, 1 to 16.
    reads_words: the transformer reads words beside sentence and frames. adds_cosine: the score has the first stage's.
    The normalised contrastive loss is refused: it needs the scores of all pairs of recent batches.
    """

    model_type = "cross_encoder"

    cross_layers: int = 4
    negatives: int = 8
    reads_words: bool = True
    adds_cosine: bool = True

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        at_least("cross_layers", self.cross_layers, 1)
        if self.negatives not in range(1, MOST_NEGATIVES + 1):
            raise ValueError(
                f"negatives must be a whole number from 1 to {MOST_NEGATIVES}, got {self.negatives!r}; each costs a "
                "transformer per text."
            )
        if self.contrastive != "infonce":
            raise ValueError(
                f"the cross-encoder trains on hard negatives with contrastive infonce, got {self.contrastive!r}, which "
                "needs the scores of all pairs; set infonce."
            )


def _released_sizes(weights: Weights) -> dict:
    weights["cross.embeddings.position_embeddings.weight"]  # only the tight type has them
    return {"cross_layers": weights.layers("cross.transformer.resblocks.")}


class CrossEncoder(RetrievalModel):
    """CLIP's encoders under the cross-encoder."""

    config_class = CrossEncoderConfig
    head_class = CrossEncoderHead
    released_names = Names(
        renamed=(
            (r"^cross\.transformer\.resblocks\.", "head.blocks."),
            (r"^cross\.embeddings\.position_embeddings\.", "head.positions."),
            (r"^cross\.pooler\.ln_pool\.", "head.score.0."),
            (r"^cross\.pooler\.dense\.", "head.score.1."),
            (r"^similarity_dense\.", "head.score.3."),
        ),
        sizes=_released_sizes,
        unread=("head.types.weight",),
        settings={"reads_words": False, "adds_cosine": False},
    )

    @classmethod
    def from_clip(cls, clip: str | CLIPModel, **settings):
        """As `RetrievalModel.from_clip`, with the cross-encoder's first blocks and positions copied from CLIP too."""
        model = super().from_clip(clip, **settings)
        model.head.init_from_clip(model.clip)
        return model

"""T-MASS: a text is a region around its sentence vector, whose radius depends on the video that it is compared with.

"Text Is MASS", arXiv 2403.17998, Jiamian-Wang/T-MASS-text-video-retrieval: a video is pooled by the text as in X-Pool,
and the score of a pair is the largest cosine of the pooled video with 20 points drawn from the region of the text.

The evaluation of the release leaks. Its tensor of drawn texts is indexed (video, text), the code reads it as (text,
video), and every video of the gallery ends up pooled by ITS OWN caption instead of the query: public as issue 7 of the
release and patrick-0817/T-MASS-dataleakage, and what its code computes. `similarity` pools by the query. The setting
`released_evaluation` computes the leaking scores, to show what the leak is worth.

The noise in evaluation has three kinds, the setting `noise`, which may change after training:

* `bank`: a text has one set of 20 points of noise, drawn from a seed that its sentence vector names, for every video.
* `fresh`: every pair has its own, as in the release, which draws anew. It is the bank of the text, shifted by a bank of
  the video and wrapped into [0, 1) (Cranley and Patterson, 1976): uniform for every pair, and independent from video to
  video of one text and from text to text of one video, as new draws are. The seed of a video comes from its frames.
* `none`: the mean of the noise, once: what the learned region is worth without sampling.

So a pair alone scores as among others, whatever the batch, and the same on every machine. The setting `noise_prior`
says what the noise is drawn from, in training too: uniform on [0, 1), or, as the release has it on LSMDC, normal.

Where this departs from the release besides: absent frames get no weight in the pooling, and cosine 0 in the radius (the
release fills a short clip up to `frames` with its last frame, as with the setting `padding: released`); the temporal
encoder of the study runs first (`temporal_layers=0` is as released).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glscl.base import MatchingHead, RetrievalModel, full_precision, require_features
from glscl.config import at_least, one_of
from glscl.losses import contrastive_loss
from glscl.released import Names
from glscl.rivals.x_pool import POOLING, TextConditionedPooling, XPoolConfig, pair_cosines, repeat_last_frame

TRIALS = 20  # points drawn per pair in evaluation; `stochasic_trials` of the release
NORMAL_DEVIATION = 3e-3  # of the normal noise; `stochastic_prior_std` of the release on LSMDC
SEED_POSITIONS = 6  # largest entries of a vector that name its noise
VIDEO = 1_000_000_007  # added to the seed of a video, so that no video has the noise of a text


class Texts(NamedTuple):
    """Sentence (texts, width), its query over the frames (texts, width), and the seed of its noise (texts,)."""

    sentence: Tensor
    query: Tensor
    seed: Tensor


class Videos(NamedTuple):
    """X-Pool's video embeddings, see `glscl.rivals.x_pool.Videos`, and the unit-length frames.

    frames (videos, frames, width), zero where absent: the radius depends on their cosines with the text.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor
    rows: Tensor
    attended_gram: Tensor
    summed_gram: Tensor
    pooled_gram: Tensor
    frames: Tensor


class TMASSHead(MatchingHead):
    """Temporal encoder, X-Pool's pooling, and a text that is drawn around its sentence vector."""

    embedding_types = Texts, Videos

    def __init__(self, config: "TMASSConfig"):
        super().__init__(config)
        self.pooling = TextConditionedPooling(config.width, config.pooling_dropout)
        self.radius = nn.Linear(config.frames, config.width)  # from cosines to the logarithm of the radius
        nn.init.eye_(self.radius.weight)
        nn.init.zeros_(self.radius.bias)

    def encode_texts(self, sentence: Tensor, words: Tensor, mask: Tensor) -> Texts:
        """sentence (texts, width), words (texts, words, width), mask (texts, words); the words are not used."""
        require_features(words, mask, self.config.width, "word")
        with full_precision(sentence):
            return Texts(*self.pooling.encode_texts(sentence.float()), noise_seeds(sentence.float()))

    def encode_videos(self, frames: Tensor, mask: Tensor) -> Videos:
        """frames (videos, frames, width), mask (videos, frames), at most `config.frames` -> the video embeddings."""
        require_features(frames, mask, self.config.width, "frame")
        if frames.shape[1] > self.config.frames:
            raise ValueError(
                f"the radius of T-MASS has weights for {self.config.frames} frames, got {frames.shape[1]}; sample at "
                "most as many, or set `frames` of the configuration."
            )
        if self.config.padding == "released":
            frames, mask = repeat_last_frame(frames, mask, self.config.frames)
        frames = self.temporal(frames, mask).float()
        with full_precision(frames):
            return Videos(*self.pooling.encode_videos(frames, mask), F.normalize(frames, dim=-1) * mask[:, :, None])

    def similarity(self, texts: Texts, videos: Videos) -> Tensor:
        """Largest cosine of the pooled video with a drawn text, (texts, videos); no dropout, in training neither.

        The setting `noise` says how texts are drawn. With the drawn text t + s * e, its product with the unit-length
        pooled video p is <t, p> + <s * p, e>, and its squared length is |t|^2 + 2 <s, t * e> + <s^2, e^2>: three matrix
        products per text for all its trials, with memory for videos x width. Fresh noise is multiplied out, with memory
        for videos x trials x width.

        With `released_evaluation` text i must be the caption of video i, and every entry depends on the others: the
        best trial is chosen as above, but its score is the cosine with video i pooled by text i. It is a leak, kept to
        measure it. Give all texts and videos in one call: off the diagonal, blocks would pair videos with the captions
        of others.

        Raises ValueError where `released_evaluation` is given more texts than videos, or fewer.
        """
        self.require_embeddings(texts, videos)
        unit = F.normalize(texts.sentence, dim=-1)
        cosines = (videos.frames.flatten(0, 1) @ unit.T).unflatten(0, videos.mask.shape)
        combination = self.pooling.combination(texts.query, videos)
        # Each step of the loop below reads the numbers of one text: they come to lie side by side.
        cosines, combination = (pairs.permute(2, 0, 1).contiguous() for pairs in (cosines, combination))
        own = None
        if self.config.released_evaluation:
            require_pairs(texts, videos)
            own = _pooled(combination.diagonal().T, videos)
        noise_of, scores = self._noise(videos), []
        for i, (sentence, seed) in enumerate(zip(texts.sentence, texts.seed.tolist(), strict=True)):
            noise = noise_of(seed)
            radius = self.radii(cosines[i])
            trials = _trial_cosines(sentence, noise, radius, _pooled(combination[i], videos))
            if own is None:
                scores.append(trials.amax(0))
            else:
                best = trials.argmax(0, keepdim=True)
                scores.append(_trial_cosines(sentence, noise, radius, own).gather(0, best).squeeze(0))
        return torch.stack(scores)

    def _noise(self, videos: Videos) -> Callable[[int], Tensor]:
        """The noise of a text, by its seed: (trials, width), or (videos, trials, width) where it is fresh."""
        device, width = videos.frames.device, videos.frames.shape[-1]
        if self.config.noise == "none":
            mean = self._of_prior(torch.full((1, width), 0.5, device=device))
            return lambda seed: mean
        if self.config.noise == "bank":
            return lambda seed: self._of_prior(draw_noise(seed, width).to(device))
        seeds = (noise_seeds(videos.frames.sum(1)) + VIDEO).tolist()
        shifts = torch.stack([draw_noise(seed, width) for seed in seeds]).to(device)
        return lambda seed: self._of_prior((draw_noise(seed, width).to(device) + shifts).frac_())

    def _of_prior(self, uniform: Tensor) -> Tensor:
        """Numbers that are uniform on [0, 1) -> numbers of the setting `noise_prior`, by its quantiles."""
        if self.config.noise_prior == "uniform":
            return uniform
        # Among millions of draws one is 0, where the quantile is not finite; the next number is 2^-24.
        return NORMAL_DEVIATION * torch.special.ndtri(uniform.clamp(min=2**-25))

    def loss(self, texts: Texts, videos: Videos) -> dict[str, Tensor]:
        """Losses of a batch whose text i belongs to video i, each already weighted, and their sum `total`.

        `contrastive` compares each text, drawn once around its sentence for its own video, with every video pooled by
        that sentence. `support` does so for the point at the rim of the region, towards its own video as all texts of
        the batch pool it on average; it stays InfoNCE where `contrastive` is normalised.
        """
        require_pairs(texts, videos)
        with full_precision(texts.sentence):
            sentence, pooled = texts.sentence, self.pooling(texts.query, videos)
            unit = F.normalize(sentence, dim=-1)
            radius = self.radii((videos.frames @ unit[:, :, None]).squeeze(-1))
            if self.config.noise_prior == "uniform":
                noise = torch.rand_like(sentence)
            else:
                noise = NORMAL_DEVIATION * torch.randn_like(sentence)
            drawn = sentence + radius * noise
            support = sentence + radius * F.normalize(pooled.mean(1) - sentence, dim=-1)
            terms = {
                "contrastive": self.contrastive(texts, videos, pair_cosines(drawn, pooled)),
                "support": self.config.support_weight
                * contrastive_loss(pair_cosines(support, pooled), self.logit_scale),
            }
        return terms | {"total": sum(terms.values())}

    def radii(self, cosines: Tensor) -> Tensor:
        """Radius per pair and dimension: cosines of text and frames (pairs, frames) -> (pairs, width).

        Where there are fewer frames than weights, the missing ones count as absent: their cosine is 0.
        """
        return F.linear(cosines, self.radius.weight[:, : cosines.shape[1]], self.radius.bias).exp()


class TMASSConfig(XPoolConfig):
    """Settings of T-MASS: X-Pool's, and four more.

    support_weight: weight of the support loss; the release has 0.8 on MSR-VTT and 0 elsewhere.
    noise: `bank`, `fresh` or `none`, of the texts that are drawn in evaluation; training does not read it.
    noise_prior: `uniform` on [0, 1), or `normal` with mean 0 and deviation 0.003 as released on LSMDC; in training too.
    released_evaluation: the leaking scores of the release instead of the honest ones, see `TMASSHead.similarity`.
    """

    model_type = "t_mass"

    support_weight: float = 0.8
    noise: str = "bank"
    noise_prior: str = "uniform"
    released_evaluation: bool = False

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        at_least("support_weight", self.support_weight, 0)
        one_of("noise", self.noise, ("bank", "fresh", "none"))
        one_of("noise_prior", self.noise_prior, ("uniform", "normal"))


class TMASS(RetrievalModel):
    """CLIP's encoders under T-MASS's head."""

    config_class = TMASSConfig
    head_class = TMASSHead
    released_names = Names(
        renamed=(*POOLING, (r"^stochastic\.std_branch\.linear_proj\.", "head.radius.")),
        unused=r"^stochastic\.std_branch\.learnable_scalar$",
        sizes=lambda weights: {"frames": weights["stochastic.std_branch.linear_proj.weight"].shape[1]},
        settings={"padding": "released"},
    )


def require_pairs(texts: Texts, videos: Videos) -> None:
    """Raise a ValueError unless there are as many texts as videos."""
    if len(texts.sentence) != len(videos.keys):
        raise ValueError(
            f"text i must be the caption of video i, got {len(texts.sentence)} texts and {len(videos.keys)} videos; "
            "give one text per video."
        )


def noise_seeds(vectors: Tensor) -> Tensor:
    """An integer seed per item, (items, width) -> (items,), from the places of the largest entries of its vector.

    Rounding leaves the set of these places alone, unless two entries agree to rounding. Items that share them share
    their noise.
    """
    seeds = torch.zeros(len(vectors), dtype=torch.int64, device=vectors.device)
    for position in vectors.topk(SEED_POSITIONS, dim=-1).indices.sort(-1).values.T:
        seeds = (seeds * 1_000_003 + position) % 2**31
    return seeds


def draw_noise(seed: int, width: int) -> Tensor:
    """The noise of one item, uniform on [0, 1): (trials, width), drawn on the CPU: the same numbers on any device."""
    return torch.rand(TRIALS, width, generator=torch.Generator().manual_seed(seed))


def _pooled(combination: Tensor, videos: Videos) -> Tensor:
    """Unit-length pooled videos: combination (videos, frames + 2) -> (videos, width)."""
    return (combination[:, None] @ videos.rows).squeeze(1)


def _trial_cosines(sentence: Tensor, noise: Tensor, radius: Tensor, pooled: Tensor) -> Tensor:
    """Cosines of the drawn texts sentence + noise * radius with unit-length pooled videos, (trials, videos).

    sentence (width,), noise (trials, width) or (videos, trials, width), radius (videos, width), pooled (videos, width).
    """
    if noise.ndim == 3:
        drawn = torch.addcmul(sentence, noise, radius[:, None])
        return ((drawn * pooled[:, None]).sum(2) / drawn.norm(dim=2)).T
    products = pooled @ sentence + noise @ (radius * pooled).T
    squares = sentence @ sentence + (2 * sentence * noise) @ radius.T + noise.square() @ radius.square().T
    return products / squares.sqrt()

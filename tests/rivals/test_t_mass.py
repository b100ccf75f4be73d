"""T-MASS: the best of twenty drawn texts, its radius, its support loss, its settings, and the leak of the release."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from glscl.base import take
from glscl.methods import METHODS
from glscl.rivals.t_mass import TRIALS, VIDEO, draw_noise, noise_seeds
from tests.released import reference
from tests.rivals.formulas import encode, linear, pairs, pooled_video


@pytest.fixture
def make(make_head):
    """make(**settings) -> a head that compares the frames as CLIP made them, its weights far from their start."""
    return lambda **settings: make_head("t_mass", **({"spread": 0.2, "temporal_layers": 0} | settings))


def cosine(one, other):
    return F.cosine_similarity(one, other, dim=-1)


def radius(head, pair):
    cosines = torch.zeros(head.config.frames, dtype=torch.float64)
    cosines[: len(pair.frames)] = cosine(pair.sentence, pair.frames)
    return linear(head.radius, cosines).exp()


def bank(seed):
    return torch.rand(20, 32, generator=torch.Generator().manual_seed(int(seed))).double()


def drawn_texts(head, pair, seed):
    noise = bank(seed)
    if head.config.noise == "none":
        noise = torch.full((1, 32), 0.5).double()
    if head.config.noise == "fresh":
        summed = F.normalize(pair.frames, dim=-1).sum(0, keepdim=True)
        noise = (noise + bank(noise_seeds(summed).item() + VIDEO)).remainder(1)
    if head.config.noise_prior == "normal":
        noise = torch.distributions.Normal(0, 0.003).icdf(noise)
    return pair.sentence + radius(head, pair) * noise


@torch.no_grad()
@pytest.mark.parametrize("noise_prior", ["uniform", "normal"])
@pytest.mark.parametrize("noise", ["bank", "fresh", "none"])
def test_the_score_is_that_of_the_best_drawn_text(make, features, noise, noise_prior):
    head = make(noise=noise, noise_prior=noise_prior)
    texts, videos = encode(head, features)
    expected = torch.empty(5, 7)
    for (i, j), pair in pairs(head, features).items():
        video = pooled_video(head.pooling, pair.sentence, pair.frames)
        expected[i, j] = cosine(drawn_texts(head, pair, texts.seed[i]), video).max()
    assert expected.std() > 0.05
    torch.testing.assert_close(head.similarity(texts, videos), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(head.train().similarity(texts, videos), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_as_released_each_video_is_pooled_by_its_own_caption(make, features):
    head = make(released_evaluation=True)
    texts, videos = encode(head, features, 5)
    expected = torch.empty(5, 5)
    for (i, j), pair in pairs(head, {name: value[:5] for name, value in features.items()}).items():
        drawn = drawn_texts(head, pair, texts.seed[i])
        chosen = drawn[cosine(drawn, pooled_video(head.pooling, pair.sentence, pair.frames)).argmax()]
        expected[i, j] = cosine(chosen, pooled_video(head.pooling, features["sentence"][j].double(), pair.frames))
    torch.testing.assert_close(head.similarity(texts, videos), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("noise", ["bank", "fresh", "none"])
def test_captions_of_the_gallery_move_the_released_scores_and_not_the_honest_ones(make, features, noise):
    honest, leaking = make(noise=noise), make(noise=noise, released_evaluation=True)
    leaking.load_state_dict(honest.state_dict())
    texts, videos = encode(honest, features, 5)
    exchanged = take(texts, [0, 2, 3, 4, 1])  # the first query stays; the captions of the others change places
    first = slice(1), slice(2, 3)

    def moves(head):
        full = head.similarity(texts, videos)
        alone = head.similarity(take(texts, first[0]), take(videos, first[1]))
        return [(full[0] - head.similarity(exchanged, videos)[0]).abs().max(), (full[first] - alone).abs().max()]

    assert max(moves(honest)) < 1e-6
    assert min(moves(leaking)) > 1e-3


@torch.no_grad()
def test_the_kinds_of_noise_differ_and_the_training_loss_does_not_know_them(make, features):
    heads = [make(noise=noise).train() for noise in ("bank", "fresh", "none")]
    for head in heads[1:]:
        head.load_state_dict(heads[0].state_dict())
    kept = [encode(head, features, 5) for head in heads]
    scores, losses = [], []
    for head, (texts, videos) in zip(heads, kept, strict=True):
        scores.append(head.similarity(texts, videos))
        torch.manual_seed(0)
        losses.append(head.loss(texts, videos)["contrastive"])
    assert (scores[0] - scores[1]).abs().max() > 1e-3
    assert (scores[2] < torch.minimum(scores[0], scores[1])).float().mean() > 0.9  # the best of twenty lies above
    assert losses[0] == losses[1] == losses[2]


def test_fresh_noise_is_uniform_and_independent_from_pair_to_pair():
    texts, videos = (torch.stack([draw_noise(seed + side, 64) for seed in range(40)]) for side in (0, VIDEO))
    noise = (texts[:, None] + videos) % 1  # (texts, videos, trials, width), as the head draws it
    assert noise.flatten().histc(10, 0, 1) / noise.numel() == pytest.approx(0.1, abs=1e-3)
    for one, other in ((noise[0], noise[1]), (noise[:, 0], noise[:, 1]), (noise[0, 0], noise[1, 1])):
        together = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]
        assert abs(together) < 4 / one.numel() ** 0.5


@pytest.mark.parametrize("contrastive", ["infonce", "ncl"])
def test_the_loss_follows_its_formula(make, features, contrastive):
    head = make(pooling_dropout=0.0, support_weight=0.6, contrastive=contrastive).train()
    kept = encode(head, features, 5)
    torch.manual_seed(7)
    terms = head.loss(*kept)
    torch.manual_seed(7)
    noise = torch.rand(5, 32).double()
    drawn, support = torch.empty(5, 5).double(), torch.empty(5, 5).double()
    with torch.no_grad():
        found = pairs(head, {name: value[:5] for name, value in features.items()})
        pooled = {key: pooled_video(head.pooling, pair.sentence, pair.frames) for key, pair in found.items()}
        for i in range(5):
            text = found[i, i].sentence
            towards = sum(pooled[k, i] for k in range(5)) / 5 - text
            length = radius(head, found[i, i])
            for j in range(5):
                drawn[i, j] = cosine(text + length * noise[i], pooled[i, j])
                support[i, j] = cosine(text + length * towards / towards.norm(), pooled[i, j])

    def infonce(scores):
        logits = scores * head.logit_scale.double().exp()
        return (F.cross_entropy(logits, torch.arange(5)) + F.cross_entropy(logits.T, torch.arange(5))).item() / 2

    assert terms["support"].item() == pytest.approx(0.6 * infonce(support), abs=1e-4)
    assert len(head.recent) == (contrastive == "ncl")  # the support term is no second batch
    if contrastive == "infonce":
        assert terms["contrastive"].item() == pytest.approx(infonce(drawn), abs=1e-4)
        torch.testing.assert_close(terms["total"], terms["contrastive"] + terms["support"])


@torch.no_grad()
def test_normal_noise_is_finite_where_a_draw_is_zero(make, features, monkeypatch):
    monkeypatch.setattr("glscl.rivals.t_mass.draw_noise", lambda seed, width: torch.zeros(TRIALS, width))
    head = make(noise_prior="normal")
    assert head.similarity(*encode(head, features)).isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("case", reference.CASES)
def test_the_leak_and_the_normal_noise_are_those_of_the_release(case):
    made = reference.about("t_mass")
    with np.load(reference.FOLDER / "t_mass.npz") as file:
        stored = {
            name: torch.tensor(file[f"{case}.{name}"]) for name in ("released_evaluation.scores", "normal.scores")
        }
        loss = float(file[f"{case}.normal.loss"])
    inputs = reference.batch(case)
    for settings, name in (
        ({"released_evaluation": True}, "released_evaluation.scores"),
        ({"noise_prior": "normal"}, "normal.scores"),
    ):
        model = METHODS["t_mass"].from_released(reference.weights(made["shapes"]), **made["settings"], **settings)
        texts = model.encode_texts(inputs["token_ids"], inputs["token_mask"])
        videos = model.encode_videos(inputs["frames"], inputs["frame_mask"])
        torch.testing.assert_close(model.similarity(texts, videos), stored[name], atol=reference.BOUND, rtol=0)
    torch.manual_seed(0)
    total = model.train().loss(texts, videos)["total"]  # of the last model, with normal noise
    assert total.item() == pytest.approx(loss, rel=reference.BOUND)


def test_the_noise_of_a_text_survives_rounding_and_differs_between_texts():
    sentence = torch.randn(2000, 64, generator=torch.Generator().manual_seed(0))
    seeds = noise_seeds(sentence)
    rounded = sentence + 1e-6 * torch.randn(2000, 64, generator=torch.Generator().manual_seed(1))
    assert (noise_seeds(rounded) == seeds).float().mean() > 0.999
    assert torch.equal(noise_seeds(sentence[7:8]), seeds[7:8])
    assert seeds.unique().numel() > 1990
    assert seeds.min() >= 0
    assert TRIALS == 20


@pytest.mark.parametrize(
    ("settings", "call", "message"),
    [
        ({"released_evaluation": True}, "similarity", "got 5 texts and 7 videos; give one text per video"),
        ({}, "loss", "got 5 texts and 7 videos; give one text per video"),
        ({"frames": 4}, "similarity", "weights for 4 frames, got 6; sample at most as many"),
    ],
)
def test_what_cannot_be_paired_is_refused(make, features, settings, call, message):
    head = make(**settings)
    with pytest.raises(ValueError, match=message):
        getattr(head, call)(*encode(head, features))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling_dropout": 1.0}, "pooling_dropout must be below 1, got 1.0"),
        ({"pooling_dropout": -0.1}, "pooling_dropout must be a number of at least 0"),
        ({"support_weight": -1}, "support_weight must be a number of at least 0"),
        ({"noise": "normal"}, "noise must be one of bank, fresh, none, got 'normal'"),
        ({"noise_prior": "gauss"}, "noise_prior must be one of uniform, normal, got 'gauss'"),
    ],
)
def test_settings_out_of_range_are_refused(make, settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)

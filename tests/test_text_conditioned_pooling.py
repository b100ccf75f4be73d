"""X-Pool and T-MASS against plain versions of their formulas, pair by pair in float64; and the leak of T-MASS."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from glscl.head import take
from glscl.rivals import METHODS
from glscl.rivals.t_mass import TRIALS, noise_seeds


@pytest.fixture
def make_head(make_model):
    """make_head(method, **settings) -> its head, weights random, without temporal encoder, in evaluation mode."""

    def make(method, **settings):
        settings = {"temporal_layers": 0, "frames": 8} | settings
        head = METHODS[method].from_clip(make_model().clip, **settings).head
        torch.manual_seed(2)
        with torch.no_grad():
            for name, parameter in head.named_parameters():
                if name != "logit_scale":
                    parameter += 0.2 * torch.randn_like(parameter)
        return head

    return make


def encode(head, states, videos=7):
    texts = head.encode_texts(states["sentence"], states["words"], states["word_mask"])
    return texts, head.encode_videos(states["frames"][:videos], states["frame_mask"][:videos])


def linear(layer, vector):
    return layer.weight.double() @ vector + layer.bias.double()


def norm(layer, vector):
    centred = vector - vector.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt() * layer.weight.double() + layer.bias.double()


def cosine(a, b):
    return a @ b / a.norm() / b.norm()


def real_frames(states, video):
    kept = states["frame_mask"][video].bool()
    return states["frames"][video][kept].double()


def pooled_video(pooling, text, frames):
    """X-Pool's formula in the order of the release: the output projection comes after the attention."""
    query = linear(pooling.query, norm(pooling.norm_states, text))
    states = [norm(pooling.norm_states, frame) for frame in frames]
    logits = torch.stack([query @ linear(pooling.key, state) / math.sqrt(len(text)) for state in states])
    weights = logits.exp() / logits.exp().sum()
    mixed = sum(weight * linear(pooling.value, state) for weight, state in zip(weights, states, strict=True))
    attended = norm(pooling.norm_attended, linear(pooling.out, mixed))
    return norm(pooling.norm_pooled, attended + linear(pooling.linear, attended))


def radius_of(head, text, frames):
    cosines = torch.zeros(head.config.frames, dtype=torch.float64)
    for place, frame in enumerate(frames):
        cosines[place] = cosine(text, frame)
    return linear(head.radius, cosines).exp()


def drawn_texts(head, text, seed, frames):
    noise = torch.rand(20, len(text), generator=torch.Generator().manual_seed(seed)).double()
    return [text + radius_of(head, text, frames) * trial for trial in noise]


@pytest.fixture
def pairs(states):
    """Function of a pair's score -> matrix of scores of 5 texts with the first `videos` videos."""

    def fill(score, videos=7):
        with torch.no_grad():
            rows = [[score(i, j) for j in range(videos)] for i in range(5)]
        return torch.tensor(rows, dtype=torch.float32)

    return fill


def test_x_pool_equals_its_formula_also_with_absent_frames_and_with_one(make_head, states, pairs):
    head = make_head("x_pool")
    sentence = states["sentence"].double()
    expected = pairs(lambda i, j: cosine(sentence[i], pooled_video(head.pooling, sentence[i], real_frames(states, j))))
    assert expected.std() > 0.05
    torch.testing.assert_close(head.similarity(*encode(head, states)), expected, atol=1e-5, rtol=0)


def test_x_pool_starts_from_identities(make_model, states):
    head = METHODS["x_pool"].from_clip(make_model().clip, temporal_layers=0).head
    units = F.layer_norm(states["frames"][1, 0], (32,))  # of a single frame the attention returns just that
    expected = F.cosine_similarity(states["sentence"], units, dim=-1)
    torch.testing.assert_close(head.similarity(*encode(head, states))[:, 1], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [1.0, 0.01])  # with vectors that small, the eps of LayerNorm counts
def test_exact_and_plain_x_pool_agree_in_scores_and_gradients(make_head, states, scale):
    head = make_head("x_pool", pooling_dropout=0.0)
    with torch.no_grad():
        for layer in (head.pooling.out, head.pooling.norm_attended):
            layer.weight *= scale
            layer.bias *= scale
    weights = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    results = []
    for score in (head.similarity, head.plain_similarity, lambda *kept: head.train().similarity(*kept)):
        head.zero_grad()
        scores = score(*encode(head, states))
        (scores * weights).sum().backward()
        results.append([scores] + [parameter.grad for parameter in head.pooling.parameters()])
    for other in results[1:]:
        for exact, plain in zip(results[0], other, strict=True):
            torch.testing.assert_close(exact, plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", ["x_pool", "t_mass"])
def test_identical_frames_and_nonsense_in_absent_ones_do_no_harm(make_head, states, method):
    head = make_head(method)
    expected = head.similarity(*encode(head, states))
    absent = states["frame_mask"][:, :, None] == 0
    frames = torch.where(absent, 50 * torch.randn(7, 6, 32), states["frames"])
    torch.testing.assert_close(head.similarity(*encode(head, states | {"frames": frames})), expected, atol=1e-5, rtol=0)
    if method == "x_pool":  # the radius of T-MASS tells one frame from six
        still = states | {"frames": states["frames"][:, :1].expand(-1, 6, -1)}
        single = states | {"frames": states["frames"][:, :1], "frame_mask": states["frame_mask"][:, :1]}
        scores = [head.similarity(*encode(head, given)) for given in (still, single)]
        torch.testing.assert_close(*scores, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["x_pool", "t_mass"])
def test_every_weight_learns_but_the_key_bias_that_the_softmax_cancels(make_head, states, method):
    head = make_head(method).train()
    head.loss(*encode(head, states, 5))["total"].backward()
    still = [name for name, p in head.named_parameters() if p.grad is not None and p.grad.abs().max() < 1e-6]
    assert still == ["pooling.key.bias"]
    unused = [name for name, p in head.named_parameters() if p.grad is None]
    assert all(name.startswith("temporal.") for name in unused)
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)


def test_dropout_acts_while_training_on_three_tenths_and_keeps_the_mean(make_head, states):
    head = make_head("x_pool")
    texts, videos = encode(head, states)
    head.pooling.norm_pooled = nn.Identity()
    with torch.no_grad():
        plain = head.pooling(texts.query, videos)
        torch.testing.assert_close(plain, head.pooling(texts.query, videos), atol=0, rtol=0)
        weights = head.pooling.weights(texts.query, videos).transpose(1, 2)
        attended = head.pooling.norm_attended(weights @ videos.values)
        head.train()
        draws = torch.stack([head.pooling(texts.query, videos) for _ in range(400)])
    assert ((draws - attended).abs() < 1e-6).float().mean().item() == pytest.approx(0.3, abs=0.005)
    assert (draws.mean(0) - plain).abs().mean() < 0.05 * (plain - attended).abs().mean()


def test_t_mass_is_the_best_of_twenty_drawn_texts(make_head, states, pairs):
    head = make_head("t_mass")
    texts, videos = encode(head, states)
    sentence = states["sentence"].double()

    def score(i, j):
        frames = real_frames(states, j)
        video = pooled_video(head.pooling, sentence[i], frames)
        return max(cosine(drawn, video) for drawn in drawn_texts(head, sentence[i], int(texts.seed[i]), frames))

    expected = pairs(score)
    assert expected.std() > 0.05
    torch.testing.assert_close(head.similarity(texts, videos), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(head.train().similarity(texts, videos), expected, atol=1e-5, rtol=0)


def test_t_mass_as_released_pools_each_video_by_its_own_caption(make_head, states, pairs):
    head = make_head("t_mass", released_evaluation=True)
    texts, videos = encode(head, states, 5)
    sentence = states["sentence"].double()

    def score(i, j):
        frames = real_frames(states, j)
        drawn = drawn_texts(head, sentence[i], int(texts.seed[i]), frames)
        video = pooled_video(head.pooling, sentence[i], frames)
        chosen = max(drawn, key=lambda text: cosine(text, video))
        return cosine(chosen, pooled_video(head.pooling, sentence[j], frames))

    torch.testing.assert_close(head.similarity(texts, videos), pairs(score, 5), atol=1e-5, rtol=0)


def test_captions_of_the_gallery_move_the_released_scores_and_not_the_honest_ones(make_head, states):
    honest, leaking = make_head("t_mass"), make_head("t_mass", released_evaluation=True)
    leaking.load_state_dict(honest.state_dict())
    texts, videos = encode(honest, states, 5)
    exchanged = take(texts, [0, 2, 3, 4, 1])  # the first query stays; the captions of the others change places
    first = slice(1), slice(2, 3)

    def moves(head):
        full = head.similarity(texts, videos)
        alone = head.similarity(take(texts, first[0]), take(videos, first[1]))
        return [(full[0] - head.similarity(exchanged, videos)[0]).abs().max(), (full[first] - alone).abs().max()]

    assert max(moves(honest)) < 1e-6
    assert min(moves(leaking)) > 0.02


@pytest.mark.parametrize("contrastive", ["infonce", "ncl"])
def test_t_mass_loss_equals_its_formula(make_head, states, contrastive):
    head = make_head("t_mass", pooling_dropout=0.0, support_weight=0.6, contrastive=contrastive).train()
    kept = encode(head, states, 5)
    torch.manual_seed(7)
    terms = head.loss(*kept)
    torch.manual_seed(7)
    noise = torch.rand(5, 32).double()
    sentence = states["sentence"].double()
    drawn, support = torch.empty(5, 5).double(), torch.empty(5, 5).double()
    with torch.no_grad():
        pooled = [[pooled_video(head.pooling, text, real_frames(states, j)) for j in range(5)] for text in sentence]
        for i, text in enumerate(sentence):
            radius = radius_of(head, text, real_frames(states, i))
            towards = sum(pooled[k][i] for k in range(5)) / 5 - text
            for j in range(5):
                drawn[i, j] = cosine(text + radius * noise[i], pooled[i][j])
                support[i, j] = cosine(text + radius * towards / towards.norm(), pooled[i][j])

    def infonce(scores):
        logits = scores * head.logit_scale.double().exp()
        return (F.cross_entropy(logits, torch.arange(5)) + F.cross_entropy(logits.T, torch.arange(5))).item() / 2

    assert terms["support"].item() == pytest.approx(0.6 * infonce(support), abs=1e-4)
    assert len(head.recent) == (contrastive == "ncl")  # the support term is no second batch
    if contrastive == "infonce":
        assert terms["contrastive"].item() == pytest.approx(infonce(drawn), abs=1e-4)
        torch.testing.assert_close(terms["total"], terms["contrastive"] + terms["support"])


def test_the_noise_of_a_text_survives_rounding_and_differs_between_texts(make_head):
    sentence = torch.randn(2000, 64, generator=torch.Generator().manual_seed(0))
    seeds = noise_seeds(sentence)
    rounded = sentence + 1e-6 * torch.randn_like(sentence)
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
def test_t_mass_refuses_what_it_cannot_pair(make_head, states, settings, call, message):
    head = make_head("t_mass", **settings)
    with pytest.raises(ValueError, match=message):
        getattr(head, call)(*encode(head, states))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling_dropout": 1.0}, "pooling_dropout must be below 1, got 1.0"),
        ({"pooling_dropout": -0.1}, "pooling_dropout must be a number of at least 0"),
        ({"support_weight": -1}, "support_weight must be a number of at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(make_head, settings, message):
    with pytest.raises(ValueError, match=message):
        make_head("t_mass", **settings)

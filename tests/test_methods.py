"""Every method answers the same calls: the same properties hold for all of them."""

import copy
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from transformers import CLIPConfig, CLIPModel

from glscl.base import take
from glscl.methods import METHODS, settings_of
from glscl.scoring import similarity_matrix
from tests.conftest import TINY_CLIP

# Of GLSCL the variant whose masks leave padding out; tests/test_model.py compares it with the released one.
SMALL = {"temporal_layers": 1, "decoder_layers": 1, "decoder_heads": 4, "num_queries": 3, "variant": "described"}
# A softmax does not see what is added to all its inputs.
CANCELLED = ("k_proj.bias", "key.bias", "_weights.2.bias", "score.3.bias")


@cache
def build(method):
    torch.manual_seed(0)
    clip = CLIPModel(CLIPConfig(**TINY_CLIP)).eval()
    model = METHODS[method].from_clip(clip, **settings_of(method, SMALL))
    with torch.no_grad():
        for name, parameter in model.head.named_parameters():
            if not name.startswith(("temporal", "logit_scale")):
                parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.fixture(params=METHODS)
def method(request):
    """A small model of each method around the same CLIP, every weight of its head moved away from where it starts."""
    model = copy.deepcopy(build(request.param))
    torch.manual_seed(0)
    return model


def encode(model, features, pairs=None):
    """Embeddings of all texts and videos, or of the first `pairs` of both."""
    some = {name: value[:pairs] for name, value in features.items()}
    texts = model.head.encode_texts(some["sentence"], some["words"], some["word_mask"])
    return texts, model.head.encode_videos(some["frames"], some["frame_mask"])


def loss(model, features):
    """The terms of five pairs; what a head draws at random is the same at every call."""
    torch.manual_seed(0)
    return model.loss(*encode(model, features, 5))


@torch.no_grad()
def test_a_pair_alone_scores_as_among_others(method, features):
    full = method.similarity(*encode(method, features))
    assert full.shape == (5, 7)
    apart = [{name: value[i : i + 1] for name, value in features.items()} for i in range(7)]
    texts = [method.head.encode_texts(one["sentence"], one["words"], one["word_mask"]) for one in apart[:5]]
    videos = [method.head.encode_videos(one["frames"], one["frame_mask"]) for one in apart]
    alone = torch.cat([torch.cat([method.similarity(text, video) for video in videos], 1) for text in texts])
    torch.testing.assert_close(alone, full, atol=1e-5, rtol=0)


def test_permuting_texts_or_gallery_only_permutes_the_scores(method, features):
    texts, videos = encode(method, features)
    full = method.similarity(texts, videos)
    rows, columns = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([6, 2, 0, 5, 1, 3, 4])
    permuted = method.similarity(take(texts, rows), take(videos, columns))
    torch.testing.assert_close(permuted, full[rows][:, columns], atol=1e-6, rtol=0)


def test_padding_its_number_and_its_place_do_not_matter(method, features):
    features["frame_mask"][4, 2] = 0  # absent between real frames
    padded = dict(features)
    for name, mask in (("words", "word_mask"), ("frames", "frame_mask")):
        junk = 30 * torch.randn_like(features[name])
        filled = torch.where(features[mask][..., None] > 0, features[name], junk)
        padded[name] = torch.cat([filled, junk[:, :2]], 1)
        padded[mask] = F.pad(features[mask], (0, 2))
    scores = [method.similarity(*encode(method, given)) for given in (padded, features)]
    torch.testing.assert_close(*scores, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loss(method, padded), loss(method, features), atol=1e-5, rtol=1e-5)


def test_the_total_is_the_sum_of_the_named_terms(method, features):
    terms = loss(method, features)
    torch.testing.assert_close(terms["total"], sum(value for name, value in terms.items() if name != "total"))


def test_every_weight_of_the_head_learns_but_what_a_softmax_cancels(method, features):
    method.head.train()
    loss(method, features)["total"].backward()
    for name, parameter in method.head.named_parameters():
        if parameter.requires_grad:
            assert torch.isfinite(parameter.grad).all(), name
            assert (parameter.grad.abs().max() < 1e-6) == name.endswith(CANCELLED), name


@torch.no_grad()
def test_scores_do_not_depend_on_whether_a_gradient_is_kept(method, features):
    with torch.enable_grad():
        kept = method.similarity(*encode(method, features))
    assert kept.requires_grad
    torch.testing.assert_close(method.similarity(*encode(method, features)), kept.detach(), atol=1e-6, rtol=0)


def test_half_precision_scores_are_close(method, features):
    texts, videos = encode(method, features)
    exact, rough = (similarity_matrix(method, texts, videos, dtype) for dtype in (None, torch.bfloat16))
    assert (rough - exact).abs().max() < 0.1 * exact.abs().max()


def test_a_saved_model_scores_the_same(method, features, tmp_path):
    method.save_pretrained(tmp_path)
    again = type(method).from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again.similarity(*encode(again, features)), method.similarity(*encode(method, features)))


def test_released_evaluation_of_t_mass_fails_the_test_of_a_pair_alone(make_model, features):
    settings = settings_of("t_mass", SMALL) | {"released_evaluation": True, "frames": 6}
    model = METHODS["t_mass"].from_clip(make_model().clip, **settings)
    texts, videos = encode(model, features)
    full = model.similarity(texts, take(videos, slice(5)))
    alone = model.similarity(take(texts, slice(1)), take(videos, slice(2, 3)))  # text 0 with video 2
    assert abs(alone[0, 0] - full[0, 2]) > 1e-3


def test_embeddings_that_do_not_fit_are_refused(method, features):
    texts, videos = encode(method, features)
    head = type(method).__name__ + "Head"
    other = METHODS["glscl" if method.config.model_type == "mean_pooling" else "mean_pooling"]
    stranger = encode(other.from_clip(method.clip, temporal_layers=1), features)
    with pytest.raises(ValueError, match=rf"{head} compares glscl.*Texts, got glscl.*Texts"):
        method.similarity(stranger[0], videos)
    with pytest.raises(ValueError, match=rf"{head} compares glscl.*Videos, got glscl.*Videos"):
        method.similarity(texts, stranger[1])
    narrow = type(texts)(*(tensor[..., :16] if tensor.ndim > 1 else tensor for tensor in texts))
    with pytest.raises(ValueError, match=r"of width 32, got shape \(5, .*16\)"):
        method.similarity(narrow, videos)
    with pytest.raises(ValueError, match="leave no side empty"):
        method.similarity(texts, take(videos, slice(0)))


FAULTS = {
    "nan": (lambda s: s["words"][2].fill_(float("nan")), "word features must be finite"),
    "infinity": (lambda s: s["frames"][1, 0].fill_(float("inf")), "frame features must be finite"),
    "no frame": (lambda s: s["frame_mask"][3].fill_(0), r"at least one real frame, rows \[3\]"),
    "no word": (lambda s: s["word_mask"][4].fill_(0), r"at least one real word, rows \[4\]"),
    "zero frames": (
        lambda s: s.update(frames=s["frames"][:, :0], frame_mask=s["frame_mask"][:, :0]),
        "a mask of shape",
    ),
    "empty gallery": (lambda s: s.update(frames=s["frames"][:0], frame_mask=s["frame_mask"][:0]), "a mask of shape"),
    "narrow frames": (
        lambda s: s.update(frames=s["frames"][..., :16]),
        r"expects frame features .*32\).*got \(7, 6, 16\)",
    ),
    "narrow words": (
        lambda s: s.update(words=s["words"][..., :16]),
        r"expects word features .*32\).*got \(5, 9, 16\)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_features_that_do_not_fit_are_refused(method, features, fault):
    spoil, message = FAULTS[fault]
    spoil(features)
    with pytest.raises(ValueError, match=message):
        encode(method, features)


def test_settings_go_to_the_methods_that_have_them_and_misspelt_ones_are_refused():
    assert settings_of("mean_pooling", SMALL) == {"temporal_layers": 1}
    assert settings_of("glscl", SMALL) == SMALL
    with pytest.raises(ValueError, match="num_querys to none"):
        settings_of("glscl", {"num_querys": 3})
    with pytest.raises(ValueError, match="method must be one of"):
        settings_of("xpol", SMALL)

"""Every method answers the same calls: the same properties hold for all of them, and each equals its own formula."""

import pytest
import torch
import torch.nn.functional as F

from glscl.head import take
from glscl.rivals import METHODS, settings_of

SMALL = {"temporal_layers": 1, "decoder_layers": 1, "decoder_heads": 4, "num_queries": 3}


@pytest.fixture(params=METHODS)
def method(request, make_model):
    """A small model of each method around the same CLIP."""
    torch.manual_seed(0)
    return METHODS[request.param].from_clip(make_model().clip, **settings_of(request.param, SMALL))


def encode(model, states):
    texts = model.head.encode_texts(states["sentence"], states["words"], states["word_mask"])
    return texts, model.head.encode_videos(states["frames"], states["frame_mask"])


def test_a_pair_alone_scores_as_among_others(method, states):
    full = method.similarity(*encode(method, states))
    assert full.shape == (5, 7)
    for i in range(5):
        for j in range(7):
            alone = {name: value[i : i + 1] for name, value in states.items() if name[0] in "sw"}
            alone |= {name: value[j : j + 1] for name, value in states.items() if name[0] == "f"}
            torch.testing.assert_close(method.similarity(*encode(method, alone))[0, 0], full[i, j], atol=1e-5, rtol=0)


def test_permuting_texts_or_gallery_only_permutes_the_scores(method, states):
    texts, videos = encode(method, states)
    full = method.similarity(texts, videos)
    rows, columns = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([6, 2, 0, 5, 1, 3, 4])
    permuted = method.similarity(take(texts, rows), take(videos, columns))
    torch.testing.assert_close(permuted, full[rows][:, columns], atol=1e-6, rtol=0)


def test_the_total_is_the_sum_of_the_named_terms(method, states):
    texts, videos = encode(method, states)
    terms = method.loss(texts, take(videos, slice(5)))
    torch.testing.assert_close(terms["total"], sum(value for name, value in terms.items() if name != "total"))


def test_a_saved_model_scores_the_same(method, states, tmp_path):
    method.save_pretrained(tmp_path)
    again = type(method).from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again.similarity(*encode(again, states)), method.similarity(*encode(method, states)))


def test_released_evaluation_of_t_mass_fails_the_test_of_a_pair_alone(make_model, states):
    settings = settings_of("t_mass", SMALL) | {"released_evaluation": True, "frames": 6}
    model = METHODS["t_mass"].from_clip(make_model().clip, **settings)
    texts, videos = encode(model, states)
    full = model.similarity(texts, take(videos, slice(5)))
    alone = model.similarity(take(texts, slice(1)), take(videos, slice(2, 3)))  # text 0 with video 2
    assert abs(alone[0, 0] - full[0, 2]) > 1e-3


def test_states_that_do_not_fit_are_refused(method, states):
    texts, videos = encode(method, states)
    head = type(method).__name__ + "Head"
    other = METHODS["glscl" if method.config.model_type == "mean_pooling" else "mean_pooling"]
    stranger = encode(other.from_clip(method.clip, temporal_layers=1), states)
    with pytest.raises(ValueError, match=rf"{head} compares glscl.*Texts, got glscl.*Texts"):
        method.similarity(stranger[0], videos)
    with pytest.raises(ValueError, match=rf"{head} compares glscl.*Videos, got glscl.*Videos"):
        method.similarity(texts, stranger[1])
    narrow = type(texts)(*(tensor[..., :16] if tensor.ndim > 1 else tensor for tensor in texts))
    with pytest.raises(ValueError, match=r"of width 32, got shape \(5, .*16\)"):
        method.similarity(narrow, videos)
    with pytest.raises(ValueError, match="leave no side empty"):
        method.similarity(texts, take(videos, slice(0)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["words"][2].fill_(float("nan")), "word states must be finite"),
        (lambda s: s["frames"][1, 0].fill_(float("inf")), "frame states must be finite"),
        (lambda s: s["frame_mask"][3].fill_(0), r"at least one real frame, rows \[3\]"),
        (lambda s: s.update(frames=s["frames"][:, :0], frame_mask=s["frame_mask"][:, :0]), "a mask of shape"),
        (lambda s: s.update(frames=s["frames"][:0], frame_mask=s["frame_mask"][:0]), "a mask of shape"),
        (lambda s: s.update(frames=s["frames"][..., :16]), r"expects frame states .*32\).*got \(7, 6, 16\)"),
        (lambda s: s.update(words=s["words"][..., :16]), r"expects word states .*32\).*got \(5, 9, 16\)"),
    ],
    ids=["nan", "infinity", "no frame", "zero frames", "empty gallery", "narrow frames", "narrow words"],
)
def test_bad_states_are_refused_by_every_head(method, states, change, message):
    change(states)
    with pytest.raises(ValueError, match=message):
        encode(method, states)


def test_mean_pooling_is_the_cosine_with_the_mean_of_unit_frames(make_model, states):
    model = METHODS["mean_pooling"].from_clip(make_model().clip, temporal_layers=0)
    expected = torch.empty(5, 7)
    for i, sentence in enumerate(states["sentence"]):
        for j, (frames, mask) in enumerate(zip(states["frames"], states["frame_mask"], strict=True)):
            units = [frame / frame.norm() for frame, real in zip(frames, mask, strict=True) if real]
            expected[i, j] = F.cosine_similarity(sentence, torch.stack(units).mean(0), dim=0)
    torch.testing.assert_close(model.similarity(*encode(model, states)), expected, atol=1e-6, rtol=0)


def test_zero_shot_of_one_frame_is_clips_own_cosine(make_model):
    clip = make_model().clip
    model = METHODS["mean_pooling"].from_clip(clip, temporal_layers=0)
    ids, mask = torch.tensor([[48, 7, 9, 49], [48, 3, 49, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    frames = torch.randn(3, 1, 3, 16, 16)
    scores = model.similarity(model.encode_texts(ids, mask), model.encode_videos(frames, torch.ones(3, 1)))
    texts = clip.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
    images = clip.get_image_features(pixel_values=frames[:, 0]).pooler_output
    torch.testing.assert_close(scores, F.normalize(texts, dim=-1) @ F.normalize(images, dim=-1).T, atol=1e-6, rtol=0)


def test_settings_go_to_the_methods_that_have_them_and_misspelt_ones_are_refused():
    assert settings_of("mean_pooling", SMALL) == {"temporal_layers": 1}
    assert settings_of("glscl", SMALL) == SMALL
    with pytest.raises(ValueError, match="num_querys to none"):
        settings_of("glscl", {"num_querys": 3})
    with pytest.raises(ValueError, match="method must be one of"):
        settings_of("xpol", SMALL)

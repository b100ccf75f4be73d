"""The model: exact global similarity, pairs that stand alone, padding, single items, saving and loading."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from glscl.head import take
from glscl.model import GLSCL, Videos, global_similarity, local_similarity
from glscl.scoring import encode_all
from tests.conftest import make_config


def plain_global_similarity(sentence, frames, mask, temperature, pooling):
    """Pair by pair, as the release writes it: softmax, mask after it, pooled vector, cosine."""
    scores = torch.empty(len(sentence), len(frames))
    for i, text in enumerate(sentence.double()):
        for j, video in enumerate(frames.double()):
            weights = (video @ text / temperature).softmax(0) * mask[j] if pooling != "mean" else mask[j].double()
            scores[i, j] = F.cosine_similarity(text, weights @ video, dim=0, eps=1e-300)
    return scores


@settings(deadline=None, max_examples=60)
@given(
    texts=st.integers(1, 4),
    videos=st.integers(1, 4),
    frames=st.integers(1, 6),
    pooling=st.sampled_from(["text_conditioned", "mean"]),
    temperature=st.sampled_from([0.5, 3.0, 50.0]),
    seed=st.integers(0, 10**6),
)
def test_gram_form_equals_the_plain_formula(texts, videos, frames, pooling, temperature, seed):
    generator = torch.Generator().manual_seed(seed)
    sentence = torch.randn(texts, 16, generator=generator)
    states = torch.randn(videos, frames, 16, generator=generator)
    mask = torch.arange(frames) < torch.randint(1, frames + 1, (videos, 1), generator=generator)
    videos = Videos(states, mask.long(), states @ states.transpose(1, 2), None)
    found = global_similarity(sentence, videos, 1 / temperature if pooling == "text_conditioned" else 0.0)
    expected = plain_global_similarity(sentence, states, mask, temperature, pooling)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def encode(model, states):
    texts = model.head.encode_texts(states["sentence"], states["words"], states["word_mask"])
    return texts, model.head.encode_videos(states["frames"], states["frame_mask"])


@pytest.mark.parametrize("variant", ["released", "described"])
def test_a_pair_alone_scores_as_in_the_batch(make_model, states, variant):
    model = make_model(variant=variant)
    full = model.similarity(*encode(model, states))
    for i in range(5):
        for j in range(7):
            texts = model.head.encode_texts(*(states[n][i : i + 1] for n in ("sentence", "words", "word_mask")))
            videos = model.head.encode_videos(*(states[n][j : j + 1] for n in ("frames", "frame_mask")))
            torch.testing.assert_close(model.similarity(texts, videos)[0, 0], full[i, j], atol=1e-5, rtol=0)


def test_permuting_the_gallery_permutes_the_scores(make_model, states):
    model = make_model()
    texts, videos = encode(model, states)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.similarity(texts, take(videos, order)), model.similarity(texts, videos)[:, order])


def test_padding_is_seen_by_the_released_variant_and_not_by_the_described_one(make_model, states):
    changed = dict(states)
    changed["words"] = states["words"].masked_fill(states["word_mask"][..., None] == 0, 5.0)
    changed["frames"] = states["frames"].masked_fill(states["frame_mask"][..., None] == 0, 5.0)
    described, released = make_model(variant="described"), make_model(variant="released")
    torch.testing.assert_close(
        described.similarity(*encode(described, states)), described.similarity(*encode(described, changed))
    )
    moved = (released.similarity(*encode(released, states)) - released.similarity(*encode(released, changed))).abs()
    assert moved.max() > 1e-3


def test_more_padding_changes_nothing_where_it_is_masked(make_model, states):
    model = make_model(variant="described")
    longer = dict(states)
    longer["words"], longer["frames"] = F.pad(states["words"], (0, 0, 0, 3)), F.pad(states["frames"], (0, 0, 0, 2))
    longer["word_mask"], longer["frame_mask"] = F.pad(states["word_mask"], (0, 3)), F.pad(states["frame_mask"], (0, 2))
    torch.testing.assert_close(
        model.similarity(*encode(model, longer)), model.similarity(*encode(model, states)), atol=1e-5, rtol=1e-5
    )


def test_encoding_in_batches_equals_encoding_at_once(make_model, states):
    model = make_model()
    at_once = encode(model, states)[1]
    batched = encode_all(
        lambda index: model.head.encode_videos(states["frames"][index], states["frame_mask"][index]), 7, batch_size=3
    )
    for one, other in zip(at_once, batched, strict=True):
        torch.testing.assert_close(one.detach(), other, atol=1e-5, rtol=1e-5)


def test_an_item_without_content_is_refused(make_model, states):
    model = make_model()
    states["frame_mask"][2] = 0
    states["word_mask"][4] = 0
    with pytest.raises(ValueError, match=r"real frame, rows \[2\]"):
        model.head.encode_videos(states["frames"], states["frame_mask"])
    with pytest.raises(ValueError, match=r"real word, rows \[4\]"):
        model.head.encode_texts(states["sentence"], states["words"], states["word_mask"])


def test_more_frames_than_positions_are_refused(make_model):
    with pytest.raises(ValueError, match="12 positions, got 13 frames"):
        make_model().head.encode_videos(torch.randn(1, 13, 32), torch.ones(1, 13))


def test_states_encoded_in_half_precision_are_scored_in_float32(make_model, states):
    model = make_model()
    exact = model.similarity(*encode(model, states))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        texts, videos = encode(model, states)
        loss = model.loss(texts, take(videos, slice(5)))
    halved = model.similarity(texts, videos)
    assert videos.gram.dtype == halved.dtype == loss["total"].dtype == torch.float32
    torch.testing.assert_close(halved, exact, atol=0.03, rtol=0)
    plain = plain_global_similarity(texts.sentence, videos.frames, videos.mask, model.config.temperature, "text")
    found = global_similarity(texts.sentence, videos, 1 / model.config.temperature)
    torch.testing.assert_close(found, plain, atol=2e-5, rtol=0)


def test_texts_and_videos_of_a_loss_must_pair_up(make_model, states):
    model = make_model()
    with pytest.raises(ValueError, match=r"as many texts as videos.*\(5, 7\)"):
        model.loss(*encode(model, states))


def test_one_pair_has_a_finite_loss_and_gradient(make_model, states):
    model = make_model()
    texts, videos = encode(model, states)
    loss = model.loss(take(texts, slice(1)), take(videos, slice(1)))
    loss["total"].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.head.parameters() if p.grad is not None)


def test_the_global_interaction_has_no_parameter(make_model, states):
    model = make_model(temporal_layers=0)
    texts, videos = encode(model, states)
    scores = global_similarity(texts.sentence, videos, 1 / model.config.temperature)
    assert not scores.requires_grad  # no weight of the head had a part in them


def test_local_similarity_is_a_mean_of_cosines():
    texts, videos = F.normalize(torch.randn(3, 4, 8), dim=-1), F.normalize(torch.randn(2, 4, 8), dim=-1)
    expected = torch.stack([torch.stack([(t * v).sum(-1).mean() for v in videos]) for t in texts])
    torch.testing.assert_close(local_similarity(texts, videos), expected)


def test_saving_and_loading_gives_the_same_scores(make_model, tmp_path):
    model = make_model(variant="described", num_queries=3, temperature=0.7)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    again = GLSCL.from_pretrained(tmp_path).eval()
    assert (again.config.variant, again.config.temperature, again.config.width) == ("described", 0.7, 32)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    ids, mask = torch.tensor([[48, 7, 49, 0]]), torch.tensor([[1, 1, 1, 0]])
    frames, frame_mask = torch.randn(2, 3, 3, 16, 16), torch.tensor([[1, 1, 1], [1, 0, 0]])
    scores = [m.similarity(m.encode_texts(ids, mask), m.encode_videos(frames, frame_mask)) for m in (model, again)]
    torch.testing.assert_close(*scores, atol=1e-6, rtol=0)


@pytest.mark.parametrize("fault", ["missing", "unexpected", "of another shape"])
def test_loading_other_weights_is_refused(make_model, tmp_path, fault):
    make_model().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    queries = weights.pop("head.local.queries")
    if fault != "missing":
        weights["head.local.queries"] = queries if fault == "unexpected" else queries[:2].clone()
    if fault == "unexpected":
        weights["head.local.noun_queries"] = queries.clone()
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"exactly the weights of GLSCL.*head.local.(noun_)?queries"):
        GLSCL.from_pretrained(tmp_path)


def test_the_temporal_encoder_starts_as_clips_text_blocks(make_model):
    clip = make_model().clip
    model = GLSCL.from_clip(clip, **{"num_queries": 2, "decoder_heads": 4, "temporal_layers": 2})
    for block, text_block in zip(model.head.temporal.blocks.layers, clip.text_model.encoder.layers, strict=True):
        for one, other in zip(block.parameters(), text_block.parameters(), strict=True):
            assert torch.equal(one, other)
    with pytest.raises(ValueError, match="3 layers"):
        GLSCL.from_clip(clip, temporal_layers=3, decoder_heads=4)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0),
        ("num_queries", 0),
        ("local_weight", -1),
        ("dropout", 1.0),
        ("variant", "releasd"),
        ("global_pooling", "max"),
        ("temporal_layers", -1),
        ("decoder_heads", 5),
        ("consistency_weight", float("nan")),
        ("temperature", float("inf")),
        ("temperature", "3"),
        ("frames", 0),
        ("words", 2),
    ],
)
def test_a_parameter_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=name):
        make_config(**{name: value})

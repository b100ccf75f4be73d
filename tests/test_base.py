"""What every method shares: CLIP's encoders, the temporal encoder, the checks of a head, saving and loading."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel

from glscl.base import gram, joined, load_backbone, pooled_length, take
from glscl.config import SCRATCH
from glscl.data.processor import Processor
from glscl.model import GLSCL, Texts
from tests.conftest import TINY_CLIP

IDS = torch.tensor([[48, 7, 9, 49], [48, 3, 49, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


def pixels(videos=2, frames=3):
    return torch.randn(videos, frames, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_embeddings_are_taken_and_joined_by_item():
    whole = Texts(torch.randn(5, 4), torch.randn(5, 2, 4))
    parts = [take(whole, torch.tensor([0, 1])), take(whole, slice(2, 5))]
    assert all(isinstance(part, Texts) for part in parts)
    assert all(torch.equal(one, other) for one, other in zip(joined(parts), whole, strict=True))


def test_a_pooled_length_follows_from_the_gram_matrix_also_of_identical_frames():
    frames = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    frames[2] = frames[2, 0]
    weights = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights[2] -= weights[2].mean(0)  # identical frames cancel: a length of 0
    expected = (weights.transpose(1, 2) @ frames).norm(dim=-1)
    torch.testing.assert_close(pooled_length(gram(frames), weights), expected, atol=1.1e-6, rtol=1e-9)


def test_words_and_sentence_are_clips_own(make_model):
    model = make_model()
    sentence, words = model.text_features(IDS, MASK)
    expected = model.clip.get_text_features(input_ids=IDS, attention_mask=MASK).pooler_output
    torch.testing.assert_close(sentence, expected)
    assert words.shape == (2, 4, 32)
    torch.testing.assert_close(sentence, words[[0, 1], [3, 2]])


def test_frames_are_clips_own_images(make_model):
    model, frames = make_model(), pixels()
    expected = model.clip.get_image_features(pixel_values=frames.flatten(0, 1)).pooler_output.view(2, 3, 32)
    torch.testing.assert_close(model.frame_features(frames, torch.ones(2, 3)), expected)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([[1, 1, 1, 1], [0, 1, 1, 1]], "zeros at the end; pad on the right"),
        ([[1, 1, 1, 1], [1, 0, 1, 1]], "zeros at the end; pad on the right"),
        ([[1, 1, 1], [1, 1, 1]], "the shape of token_ids"),
        ([[1, 1, 1, 1], [0, 0, 0, 0]], r"at least one real word, rows \[1\]"),
    ],
)
def test_a_mask_that_does_not_fit_the_tokens_is_refused(make_model, mask, message):
    with pytest.raises(ValueError, match=message):
        make_model().encode_texts(IDS, torch.tensor(mask))


def test_a_mask_that_does_not_fit_the_frames_is_refused(make_model):
    with pytest.raises(ValueError, match=r"\(videos, frames\) = \(2, 3\), got \(2, 4\)"):
        make_model().encode_videos(pixels(), torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"at least one real frame, rows \[1\]"):
        make_model().encode_videos(pixels(), torch.tensor([[1, 0, 0], [0, 0, 0]]))


def test_more_frames_than_positions_are_refused(make_model):
    with pytest.raises(ValueError, match="12 positions, got 13 frames"):
        make_model().head.encode_videos(torch.randn(1, 13, 32), torch.ones(1, 13))


def test_the_temporal_encoder_starts_as_clips_text_blocks(make_model):
    clip = make_model().clip
    model = GLSCL.from_clip(clip, num_queries=2, decoder_heads=4, temporal_layers=2)
    for block, text_block in zip(model.head.temporal.blocks.layers, clip.text_model.encoder.layers, strict=True):
        for one, other in zip(block.parameters(), text_block.parameters(), strict=True):
            assert torch.equal(one, other)
    assert torch.equal(model.head.temporal.positions.weight, clip.text_model.embeddings.position_embedding.weight)
    with pytest.raises(ValueError, match="3 layers"):
        GLSCL.from_clip(clip, temporal_layers=3, decoder_heads=4)


def test_the_temporal_encoder_adds_to_the_real_frames_what_it_read_from_real_ones(make_model, features):
    temporal = make_model().head.temporal
    frames, mask = features["frames"], features["frame_mask"]
    found = temporal(frames, mask)
    assert (found - frames).abs().amax(-1)[mask > 0].min() > 1e-3
    for video, count in enumerate(mask.sum(1).tolist()):
        alone = temporal(frames[video : video + 1, :count], mask[video : video + 1, :count])[0]
        torch.testing.assert_close(found[video, :count], alone, atol=1e-5, rtol=1e-5)


def test_without_layers_the_frames_stay_as_they_are(make_model, features):
    temporal = make_model(temporal_layers=0).head.temporal
    assert temporal(features["frames"], features["frame_mask"]) is features["frames"]


def test_a_new_model_takes_clips_weights_and_temperature_and_knows_its_settings(make_model):
    clip = make_model().clip
    clip.logit_scale.data.fill_(3.25)
    model = GLSCL.from_clip(clip, temporal_layers=1, decoder_heads=4, num_queries=3)
    assert all(torch.equal(model.clip.state_dict()[name], weight) for name, weight in clip.state_dict().items())
    assert model.head.logit_scale == 3.25
    assert not model.clip.logit_scale.requires_grad
    assert not model.training
    assert (model.config.num_queries, model.config.width) == (3, 32)
    with pytest.raises(ValueError, match=r"GLSCLConfig has no temprature; it has .*temperature"):
        GLSCL.from_clip(clip, temprature=3.0)


def test_saving_and_loading_gives_the_same_scores(make_model, tmp_path):
    model = make_model(variant="described", num_queries=3, temperature=0.7)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    again = GLSCL.from_pretrained(tmp_path).eval()
    assert (again.config.variant, again.config.temperature, again.config.width) == ("described", 0.7, 32)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    frame_mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    scores = [m.similarity(m.encode_texts(IDS, MASK), m.encode_videos(pixels(), frame_mask)) for m in (model, again)]
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


def test_a_backbone_is_loaded_in_single_precision(bundled, tmp_path):
    clip = CLIPModel(CLIPConfig(**TINY_CLIP)).half()
    clip.save_pretrained(tmp_path)
    loaded = load_backbone(tmp_path, "frozen", None)
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded.text_projection.weight, clip.text_projection.weight.float())


def test_a_backbone_from_scratch_is_small_random_and_knows_the_vocabulary(bundled):
    processor = Processor.from_pretrained(bundled / "tiny-clip", 24)
    one, other = (load_backbone(bundled / "tiny-clip", "scratch", processor) for _ in range(2))
    ids, mask = processor.tokenise(["a red star moves left"])
    assert one.text_model(ids, attention_mask=mask).last_hidden_state.shape[-1] == SCRATCH["projection_dim"]
    assert one.config.text_config.eos_token_id == processor.tokenizer.eos_token_id
    assert not torch.equal(one.text_projection.weight, other.text_projection.weight)
    similar = F.cosine_similarity(one.text_projection.weight.flatten(), other.text_projection.weight.flatten(), dim=0)
    assert abs(similar) < 0.1

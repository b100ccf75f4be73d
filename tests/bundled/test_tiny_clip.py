"""The bundled CLIP: it sees, it finds held-out stills, tokenizer and preprocessing fit, vectors have CLIP's length."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from glscl.bundled import probes, tiny_clip
from glscl.bundled.grammar import FACTORS


@pytest.fixture(scope="module")
def tiny(bundled):
    folder = bundled / "tiny-clip"
    return CLIPModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def test_tiny_clip_finds_held_out_stills_with_vectors_of_length_ten(tiny):
    model, tokenizer = tiny
    assert sum(parameter.numel() for parameter in model.parameters()) <= 3e6
    assert model.dtype == torch.float32
    stills = [tiny_clip.draw_still(tiny_clip.STILLS + i) for i in range(100)]
    images = tiny_clip.see(model, np.stack([image for image, _, _ in stills]))
    with torch.no_grad():
        texts = tiny_clip.read(model, tiny_clip.tokenise(tokenizer, [captions[0] for _, captions, _ in stills]))
    for vectors in (images, texts):
        assert 9 < vectors.norm(dim=1).mean() < 11
    images, texts = (torch.nn.functional.normalize(x, dim=1) for x in (images, texts))
    assert ((texts @ images.T).argmax(dim=1) == torch.arange(100)).float().mean() > 0.25


def test_tiny_clip_sees_what_captions_tell(tiny):
    found = probes.accuracies(lambda images: tiny_clip.see(tiny[0], images).numpy(), 600, 200)
    assert found["shape"] > 60  # the build asserts more, with more events to fit the probes on
    assert found["motion"] > 60
    assert found["size"] > 70
    assert min(found["colour"], found["background"]) > 85


def test_reading_does_not_depend_on_the_other_texts(tiny):
    model, tokenizer = tiny
    texts = ["a star", "a small red ring rising in the snow near a green heart", "a moon, then a box"]
    with torch.no_grad():
        together = tiny_clip.read(model, tiny_clip.tokenise(tokenizer, texts))
        alone = torch.cat([tiny_clip.read(model, tiny_clip.tokenise(tokenizer, [text])) for text in texts])
        usual = model.get_text_features(**tokenizer(texts, padding=True, return_tensors="pt")).pooler_output
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together, usual, rtol=1e-4, atol=1e-4)


def test_some_steps_of_training_change_what_they_should_and_nothing_else(tiny, monkeypatch):
    _, tokenizer = tiny
    monkeypatch.setattr(tiny_clip, "SEEING", {"steps": 3, "batch": 16, "rate": 1e-3})
    monkeypatch.setattr(tiny_clip, "READING", {"steps": 3, "batch": 16, "rate": 1e-3})
    stills = tiny_clip.draw_stills(range(32), workers=1)
    model = tiny_clip.new_model(tokenizer)

    def changed(learn):
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        learn()
        return {name.split(".")[0] for name, tensor in model.state_dict().items() if not tensor.equal(before[name])}

    assert changed(lambda: tiny_clip.learn_to_see(model, stills)) == {"vision_model", "visual_projection"}
    assert changed(lambda: tiny_clip.learn_to_read(model, tokenizer, stills)) == {
        "text_model", "text_projection", "visual_projection", "logit_scale"
    }  # fmt: skip


def test_a_still_has_the_share_of_every_value_it_shows():
    stills = tiny_clip.draw_stills(range(40), workers=1)
    assert stills.images.shape == (40, 64, 64, 3)
    assert {factor: shares.shape for factor, shares in stills.shares.items()} == {
        factor: (40, len(values)) for factor, values in FACTORS.items()
    }
    for shares in stills.shares.values():
        torch.testing.assert_close(shares.sum(dim=1), torch.ones(40))
    assert (stills.shares["shape"] == 0.5).any()  # some stills show two events
    assert (stills.shares["background"] < 1).sum() == 40 * (len(FACTORS["background"]) - 1)


def test_tiny_clip_tokenizer_knows_its_special_tokens(tiny):
    model, tokenizer = tiny
    assert model.config.text_config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer("A Red STAR").input_ids == tokenizer("a red star").input_ids
    ids = tokenizer("a red star").input_ids
    assert len(ids) == 5
    assert tokenizer.convert_ids_to_tokens([ids[0], ids[-1]]) == ["<|startoftext|>", "<|endoftext|>"]
    unseen = tokenizer("zebra 7 \u00e9\u4e2d?").input_ids
    assert unseen.count(tokenizer.eos_token_id) == 1


def test_tiny_clip_preprocessing_is_the_generators(bundled):
    image, *_ = tiny_clip.draw_still(0)
    pixels = CLIPImageProcessorPil.from_pretrained(bundled / "tiny-clip")(image, return_tensors="pt")["pixel_values"][0]
    expected = (image.transpose(2, 0, 1) / 255 - tiny_clip.MEAN[0]) / tiny_clip.STD[0]
    np.testing.assert_allclose(pixels.numpy(), expected, atol=1e-5)

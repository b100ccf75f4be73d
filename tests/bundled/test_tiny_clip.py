"""The bundled CLIP: it finds held-out stills, its tokenizer and preprocessing fit, its vectors have CLIP's length."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from glscl.bundled import tiny_clip


@pytest.fixture(scope="module")
def tiny(bundled):
    folder = bundled / "tiny-clip"
    return CLIPModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def test_tiny_clip_finds_held_out_stills_with_vectors_of_length_ten(tiny):
    model, tokenizer = tiny
    assert sum(parameter.numel() for parameter in model.parameters()) <= 3e6
    assert model.dtype == torch.float32
    stills = [tiny_clip.draw_still(tiny_clip.STILLS + i) for i in range(100)]
    with torch.no_grad():
        images, texts = tiny_clip.embed(model, tokenizer, np.stack([s[0] for s in stills]), [s[1][0] for s in stills])
    for vectors in (images, texts):
        assert 9 < vectors.norm(dim=1).mean() < 11
    images, texts = (torch.nn.functional.normalize(x, dim=1) for x in (images, texts))
    assert ((texts @ images.T).argmax(dim=1) == torch.arange(100)).float().mean() > 0.25


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

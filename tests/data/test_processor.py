"""Sentences and frames become what the encoders take; nothing odd in a caption stops or slips through."""

import numpy as np
import pytest
import torch

from glscl.base import load_backbone
from glscl.data.processor import Processor


@pytest.fixture(scope="module")
def processor(bundled):
    return Processor.from_pretrained(bundled / "tiny-clip", 24)


def test_absent_words_have_id_zero_and_the_end_token_comes_last(processor):
    ids, mask = processor.tokenise(["a red circle", "a small blue star moves to the left and then stops"])
    assert ids.shape == mask.shape == (2, 24)
    assert (ids[mask == 0] == 0).all()
    for row, real in zip(ids, mask.sum(1), strict=True):
        assert row[0] == processor.tokenizer.bos_token_id
        assert row[real - 1] == processor.tokenizer.eos_token_id


def test_a_caption_of_500_words_keeps_its_beginning_and_its_end_token(processor):
    ids, mask = processor.tokenise(["circle " * 500])
    assert mask.sum() == 24
    assert ids[0, -1] == processor.tokenizer.eos_token_id


@pytest.mark.parametrize(
    "caption", ["🎬 a circle 🟥", "<script>alert(1)</script> a circle", "一个圆", "a\tcircle\nmoves"]
)
def test_odd_captions_are_tokenised(processor, caption):
    _, mask = processor.tokenise([caption])
    assert mask.sum() >= 3


@pytest.mark.parametrize("caption", ["", "   ", "\n"])
def test_an_empty_sentence_is_refused_by_position(processor, caption):
    with pytest.raises(ValueError, match="empty sentence at position 1"):
        processor.tokenise(["a circle", caption])


def test_no_sentence_is_refused(processor):
    with pytest.raises(ValueError, match="at least one sentence"):
        processor.tokenise([])


def test_pixels_are_normalised_like_the_image_processor(processor):
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    expected = processor.images(frame, return_tensors="pt").pixel_values[0]
    twice, mask = torch.from_numpy(frame).expand(1, 2, -1, -1, -1), torch.tensor([[1, 0]])
    real, absent = processor.normalise(twice, mask)[0]
    torch.testing.assert_close(real, expected, atol=1e-5, rtol=0)
    assert (absent == 0).all()


def test_a_backbone_from_scratch_has_the_tokenizers_vocabulary(processor, bundled):
    clip = load_backbone(bundled / "tiny-clip", "scratch", processor)
    assert clip.config.text_config.vocab_size == len(processor.tokenizer)
    assert clip.config.text_config.eos_token_id == processor.tokenizer.eos_token_id

"""Sentences and frames become what the encoders take; nothing odd in a caption stops or slips through."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPProcessor

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
    frames = processor.normalise(torch.zeros(1, 1, 64, 64, 3, dtype=torch.uint8), torch.ones(1, 1))
    assert clip.get_image_features(pixel_values=frames[0]).pooler_output.shape == (1, 128)


def test_a_folder_with_a_tokenizer_alone_gets_small_frames(processor, tmp_path):
    processor.tokenizer.save_pretrained(tmp_path)
    alone = Processor.from_pretrained(tmp_path, 24)
    assert alone.size == load_backbone(tmp_path, "scratch", alone).config.vision_config.image_size == 32


@pytest.mark.parametrize("save", ["preprocessor_config.json", "processor_config.json"])
def test_frames_have_the_size_and_the_statistics_that_the_folder_states(processor, bundled, tmp_path, save):
    shutil.copytree(bundled / "tiny-clip", tmp_path, dirs_exist_ok=True)
    (tmp_path / "preprocessor_config.json").unlink()
    own = CLIPImageProcessorPil(
        size={"shortest_edge": 48},
        crop_size={"height": 48, "width": 48},
        image_mean=[0.48145466, 0.4578275, 0.40821073],
        image_std=[0.26862954, 0.26130258, 0.27577711],
    )
    (own if save.startswith("pre") else CLIPProcessor(own, processor.tokenizer)).save_pretrained(tmp_path)
    assert (tmp_path / save).exists()
    found = Processor.from_pretrained(tmp_path, 24)
    assert found.size == 48
    frame = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    expected = own(frame, return_tensors="pt").pixel_values[0]
    pixels = found.normalise(torch.from_numpy(frame)[None, None], torch.ones(1, 1))
    torch.testing.assert_close(pixels[0, 0], expected, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"frames of 64 pixels, got image settings with a crop_size of 48; put"):
        load_backbone(tmp_path, "frozen", found)


def test_sizes_of_old_versions_are_read(processor, bundled, tmp_path):
    shutil.copytree(bundled / "tiny-clip", tmp_path, dirs_exist_ok=True)
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 64, "crop_size": 64, "image_mean": [0.5] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old | {"image_std": [0.25] * 3, "resample": 3}))
    found = Processor.from_pretrained(tmp_path, 24)
    frames = torch.randint(256, (1, 2, 64, 64, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    torch.testing.assert_close(*(one.normalise(frames, torch.ones(1, 2)) for one in (found, processor)))
    assert found.size == 64


def test_a_model_without_image_settings_is_refused(bundled, tmp_path):
    shutil.copytree(bundled / "tiny-clip", tmp_path, dirs_exist_ok=True)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"must state the size .* got a model alone; save the CLIPImageProcessor"):
        Processor.from_pretrained(tmp_path, 24)


@pytest.mark.parametrize("fault", ["missing", "damaged"])
def test_a_folder_without_a_tokenizer_is_refused(bundled, tmp_path, fault):
    shutil.copytree(bundled / "tiny-clip", tmp_path, dirs_exist_ok=True)
    if fault == "missing":
        (tmp_path / "tokenizer.json").unlink()
    else:
        (tmp_path / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(ValueError, match=r"must hold CLIP's tokenizer|the tokenizer in .* cannot be read"):
        Processor.from_pretrained(tmp_path, 24)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 1003}, "vocabulary has 1003 tokens, got a tokenizer with 1004"),
        ({"vocab_size": 49408}, "vocabulary has 49408 tokens, got a tokenizer with 1004"),
        ({"max_position_embeddings": 23}, "at most 23 tokens of a text, got words = 24; lower words"),
    ],
)
def test_a_tokenizer_that_does_not_fit_clip_is_refused(processor, bundled, change, message):
    config = CLIPConfig.from_pretrained(bundled / "tiny-clip")
    processor.require_fit(config)
    for name, value in change.items():
        setattr(config.text_config, name, value)
    with pytest.raises(ValueError, match=message):
        processor.require_fit(config)


def test_a_vocabulary_that_is_filled_up_to_a_multiple_of_128_fits(processor, bundled):
    config = CLIPConfig.from_pretrained(bundled / "tiny-clip")
    config.text_config.vocab_size = 1024
    processor.require_fit(config)

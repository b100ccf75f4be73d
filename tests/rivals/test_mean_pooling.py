"""Mean pooling: the cosine with the mean of unit frames, and zero-shot CLIP as its special case."""

import pytest
import torch
import torch.nn.functional as F

from glscl.rivals.mean_pooling import MeanPooling
from tests.released import reference
from tests.rivals.formulas import encode, score_table, unit


def test_the_score_is_the_cosine_with_the_mean_of_unit_frames(make_head, features):
    head = make_head("mean_pooling", temporal_layers=0)
    expected = score_table(
        head, features, lambda head, pair: F.cosine_similarity(pair.sentence, unit(pair.frames).mean(0), dim=0)
    )
    torch.testing.assert_close(head.similarity(*encode(head, features)), expected, atol=1e-6, rtol=0)


def test_the_frames_may_see_each_other_first(make_head, features):
    head = make_head("mean_pooling", temporal_layers=1)
    expected = score_table(
        head, features, lambda head, pair: F.cosine_similarity(pair.sentence, unit(pair.context).mean(0), dim=0)
    )
    torch.testing.assert_close(head.similarity(*encode(head, features)), expected, atol=1e-6, rtol=0)


def test_zero_shot_of_one_frame_is_clips_own_cosine(make_model):
    clip = make_model().clip
    model = MeanPooling.from_clip(clip, temporal_layers=0)
    ids, mask = torch.tensor([[48, 7, 9, 49], [48, 3, 49, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    frames = torch.randn(3, 1, 3, 16, 16)
    scores = model.similarity(model.encode_texts(ids, mask), model.encode_videos(frames, torch.ones(3, 1)))
    texts = clip.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
    images = clip.get_image_features(pixel_values=frames[:, 0]).pooler_output
    torch.testing.assert_close(scores, F.normalize(texts, dim=-1) @ F.normalize(images, dim=-1).T, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("head", "layers"), [("clip4clip_meanP", 0), ("clip4clip_seqTransf", 1)])
def test_released_weights_tell_the_temporal_layers(head, layers):
    weights = reference.weights(reference.about(head)["shapes"])
    assert MeanPooling.from_released(weights).config.temporal_layers == layers
    with pytest.raises(ValueError, match=f"temporal_layers is {layers} in the weights, got 4; leave the setting out"):
        MeanPooling.from_released(weights, temporal_layers=4)


def test_temporal_layers_without_their_positions_are_refused():
    weights = reference.weights(reference.about("clip4clip_seqTransf")["shapes"])
    del weights["frame_position_embeddings.weight"]
    with pytest.raises(ValueError, match=r"head\.temporal\.positions\.weight"):
        MeanPooling.from_released(weights)

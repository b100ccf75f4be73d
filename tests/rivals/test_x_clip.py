"""X-CLIP: four granularities of cosines, weighted by attention, and what its matrices allow."""

import pytest
import torch

from glscl.rivals.x_clip import XCLIP, XCLIPHead
from tests.rivals.formulas import attend, attend_both, encode, score_table, unit


def plain_score(head, pair):
    sentence, words, frames = unit(pair.sentence), unit(pair.words), unit(pair.frames)
    video = unit(unit(pair.context).mean(0))
    scores = [
        sentence @ head.video_sentence.double() @ video,
        attend(head.over_words, words @ video),
        attend(head.over_frames, frames @ sentence),
        attend_both(head, words @ head.frame_word.double() @ frames.T),
    ]
    return sum(scores) / 4


def test_scores_follow_the_formula(make_head, features):
    head = make_head("x_clip")
    expected = score_table(head, features, plain_score)
    torch.testing.assert_close(head.similarity(*encode(head, features)), expected, atol=1e-5, rtol=0)


def test_it_takes_frames_of_clip_and_the_video_in_context(make_head, features):
    head = make_head("x_clip")
    plain = XCLIPHead(XCLIP.config_class(clip_config=head.config.clip_config, temporal_layers=0))
    with_context, without = encode(head, features)[1], encode(plain, features)[1]
    torch.testing.assert_close(with_context.frames, without.frames)
    assert (with_context.video - without.video).abs().max() > 0.01


def test_frames_may_be_read_with_context(make_head, features):
    head = make_head("x_clip", frames_with_context=True)
    videos = encode(head, features)[1]
    frames = head.temporal(features["frames"], features["frame_mask"])
    torch.testing.assert_close(videos.frames, unit(frames.double()).float() * features["frame_mask"][..., None])


def test_released_padding_reads_every_word_and_frame(make_head, features):
    head = make_head("x_clip", padding="released")
    texts, videos = encode(head, features)
    assert texts.mask.all()
    assert videos.mask.all()
    everything = {name: torch.ones_like(features[name]) for name in ("word_mask", "frame_mask")}
    masked = make_head("x_clip")
    expected = masked.similarity(*encode(masked, features | {"word_mask": everything["word_mask"]}))
    assert not torch.allclose(head.similarity(texts, videos), expected, atol=1e-3)  # absent frames are read too
    # The vector of a whole video stays the mean of its real frames.
    torch.testing.assert_close(videos.video, encode(masked, features)[1].video)


@pytest.mark.parametrize(("name", "mask", "most"), [("words", "word_mask", 11), ("frames", "frame_mask", 8)])
def test_more_tokens_than_the_matrices_have_are_refused(make_head, features, name, mask, most):
    head = make_head("x_clip")
    longer = features | {name: features[name].repeat(1, 2, 1), mask: features[mask].repeat(1, 2)}
    with pytest.raises(ValueError, match=f"at most {most} words or frames"):
        head.similarity(*encode(head, longer))

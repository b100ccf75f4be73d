"""Vectors of the first stage: where they are exact, and that the best videos of every head are among their best."""

import pytest
import torch
from torch.nn.functional import normalize

from glscl.first_stage import GROUPS, VECTORS, shares, text_vectors, video_vectors
from glscl.methods import METHODS, settings_of
from glscl.model import Texts, Videos
from glscl.scoring import similarity_matrix
from tests.conftest import make_config

SETTINGS = {"temporal_layers": 0, "decoder_heads": 4, "frames": 6, "words": 9}


def head_of(name: str, **settings):
    """A head in evaluation mode with the weights that it starts with."""
    torch.manual_seed(0)
    method = METHODS[name]
    config = method.config_class(clip_config=make_config().clip_config, **settings_of(name, SETTINGS | settings))
    return method.head_class(config).eval()


def scene(generator: torch.Generator, videos: int, texts: int):
    """Features of videos whose frames agree, and of texts that each describe one of them."""
    topics = torch.randn(videos, 32, generator=generator)

    def around(rows, positions, spread):
        return 2 * (topics[rows, None] + spread * torch.randn(len(rows), positions, 32, generator=generator))

    frame_mask = (torch.arange(6) < torch.randint(2, 7, (videos, 1), generator=generator)).long()
    word_mask = (torch.arange(9) < torch.randint(3, 10, (texts, 1), generator=generator)).long()
    rows = torch.arange(texts)
    sentence, words = around(rows, 1, 0.7)[:, 0], around(rows, 9, 1.0)
    return (sentence, words, word_mask), (around(torch.arange(videos), 6, 0.3), frame_mask)


def products(head, texts, videos):
    """The best inner product of every text with every video, (texts, videos)."""
    return torch.einsum("tn,vgn->tvg", text_vectors(head, texts), video_vectors(head, videos)).amax(2)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "cross_encoder"])
@torch.inference_mode()
def test_the_best_by_the_head_are_among_the_candidates(name):
    """Of 200 videos the best 3 by the head are among the best 40 by vectors, nearly always; at random a fifth are."""
    texts, videos = scene(torch.Generator().manual_seed(0), 200, 30)
    head = head_of(name)
    texts, videos = head.encode_texts(*texts), head.encode_videos(*videos)
    scores, vectors = similarity_matrix(head, texts, videos), products(head, texts, videos)
    best, candidates = scores.topk(3).indices, vectors.topk(40).indices
    assert (best[:, :, None] == candidates[:, None]).any(2).float().mean() > 0.8


@torch.inference_mode()
def test_vectors_are_the_score_of_mean_pooling_and_of_glscl_where_frames_and_concepts_agree():
    texts, videos = scene(torch.Generator().manual_seed(1), 50, 20)
    head = head_of("mean_pooling")
    one, other = head.encode_texts(*texts), head.encode_videos(*videos)
    found = products(head, one, other)
    torch.testing.assert_close(found, similarity_matrix(head, one, other), atol=1e-6, rtol=0)
    cross_encoder = head_of("cross_encoder")
    one, other = cross_encoder.encode_texts(*texts), cross_encoder.encode_videos(*videos)
    torch.testing.assert_close(products(cross_encoder, one, other), found)
    head = head_of("glscl", local_weight=0.7, num_queries=4)
    frames = texts[0].repeat(3, 1)[:, None].expand(-1, 6, -1).contiguous()
    concept = normalize(torch.randn(80, 1, 32, generator=torch.Generator().manual_seed(2)), dim=-1).expand(-1, 4, -1)
    mask = torch.ones(60, 6)
    one = Texts(texts[0], concept[60:])
    other = Videos(frames, mask, frames @ frames.transpose(1, 2), concept[:60])
    found = products(head, one, other)
    torch.testing.assert_close(found, similarity_matrix(head, one, other), atol=1e-5, rtol=0)


@torch.inference_mode()
def test_absent_frames_and_words_change_no_vector():
    texts, videos = scene(torch.Generator().manual_seed(3), 10, 5)
    for name in METHODS:
        head = head_of(name)
        found = video_vectors(head, head.encode_videos(*videos))
        frames, mask = videos
        changed = torch.where(mask[..., None] > 0, frames, 5.0)
        if name != "glscl":  # its released concepts attend to absent frames
            torch.testing.assert_close(video_vectors(head, head.encode_videos(changed, mask)), found)
        sentence, words, mask = texts
        found = text_vectors(head, head.encode_texts(*texts))
        if name != "glscl":
            changed = torch.where(mask[..., None] > 0, words, 5.0)
            torch.testing.assert_close(text_vectors(head, head.encode_texts(sentence, changed, mask)), found)


def test_every_method_has_vectors():
    assert VECTORS.keys() == {method.head_class for method in METHODS.values()}


def test_frames_that_are_alike_share_a_group():
    """Three scenes cut into each other, one of them hidden behind the mask in the second video."""
    scenes = torch.eye(8)[:3]
    frames = torch.stack([3 * scenes[[0, 1, 2, 0, 1, 0]], scenes[[0, 0, 1, 1, 2, 2]]])
    mask = torch.ones(2, 6).long()
    mask[1, 4:] = 0
    found = shares(frames, mask)
    assert found.shape == (2, GROUPS, 6)
    torch.testing.assert_close(found.sum(2), torch.ones(2, GROUPS))
    means = [{tuple(mean.tolist()) for mean in (found @ frames).round(decimals=4)[video]} for video in (0, 1)]
    assert {tuple((3 * scene).tolist()) for scene in scenes} <= means[0]
    assert {tuple(scene.tolist()) for scene in scenes[:2]} <= means[1]
    assert all(mean[2] == 0 for mean in means[1])

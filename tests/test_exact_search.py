"""Exact search: bounds that hold whatever the embeddings are, and what brute force finds."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from glscl import exact_search
from glscl.base import take
from glscl.methods import METHODS
from glscl.model import GLSCLHead, Texts, Videos
from glscl.rivals import mean_pooling
from glscl.scoring import similarity_matrix
from tests.conftest import make_config

TEXTS, VIDEOS, FRAMES, CONCEPTS, WIDTH = 20, 400, 6, 4, 32


def glscl(kind: str):
    """A head with texts and videos: frames that are alike, unlike, or cancel; concepts of any rank."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    spread = {"alike": 0.3, "unlike": 3.0, "cancelling": 1.0, "one concept": 0.3}[kind]
    frames = 8 * normalize(draw(VIDEOS, 1, WIDTH) + spread * draw(VIDEOS, FRAMES, WIDTH), dim=-1)
    if kind == "cancelling":
        frames[::3, 1] = -frames[::3, 0]
    mask = (torch.arange(FRAMES) < torch.randint(1, FRAMES + 1, (VIDEOS, 1), generator=generator)).long()
    concepts = draw(1 if kind == "one concept" else VIDEOS, CONCEPTS, WIDTH) + 0.05 * draw(VIDEOS, CONCEPTS, WIDTH)
    videos = Videos(frames, mask, frames @ frames.transpose(1, 2), normalize(concepts, dim=-1))
    sentences = 9 * normalize(frames[:TEXTS, 0] + draw(TEXTS, WIDTH), dim=-1)
    texts = Texts(sentences, normalize(draw(TEXTS, CONCEPTS, WIDTH), dim=-1))
    return GLSCLHead(make_config()).eval(), texts, videos


def pooled(kind: str):
    head, texts, videos = glscl(kind)
    plain = METHODS["mean_pooling"].head_class(
        METHODS["mean_pooling"].config_class(clip_config=head.config.clip_config)
    )
    found = (
        mean_pooling.Texts(normalize(texts.sentence, dim=-1)),
        mean_pooling.Videos(normalize(videos.frames.mean(1), dim=-1)),
    )
    return plain.eval(), *found


CASES = [(build, kind) for build in (glscl, pooled) for kind in ("alike", "unlike", "cancelling", "one concept")]


@pytest.mark.parametrize(("build", "kind"), CASES)
@torch.inference_mode()
def test_no_score_is_above_its_bound(build, kind):
    head, texts, videos = build(kind)
    scores = similarity_matrix(head, texts, videos).numpy()
    found = exact_search.encode(head, videos).bounds(head, texts).numpy()
    assert (scores <= found).all()
    if kind == "alike":
        assert (found - scores).mean() < 0.3
    if build is glscl:
        assert np.isinf(found[0]).any() == (kind == "cancelling")


@pytest.mark.parametrize(("build", "kind"), CASES)
@torch.inference_mode()
def test_what_is_found_is_what_brute_force_finds(build, kind, tmp_path):
    head, texts, videos = build(kind)
    borders, parts = [0, 150, 170, 400], []
    for number, (start, end) in enumerate(itertools.pairwise(borders)):
        own = take(videos, slice(start, end))
        codes = exact_search.encode(head, own) if number != 1 else None
        if codes:
            codes.save(tmp_path / f"{number}.safetensors")
            codes = exact_search.Codes.load(tmp_path / f"{number}.safetensors")
        rows = np.arange(end - start)[:: 2 if number == 2 else 1]
        parts.append(exact_search.Part(rows, lambda chosen, own=own: take(own, chosen), codes))
    found = exact_search.best(head, texts, parts, 7)
    kept = np.concatenate([borders[number] + part.rows for number, part in enumerate(parts)])
    scores = similarity_matrix(head, texts, take(videos, torch.from_numpy(kept))).numpy()
    for text, hits in enumerate(found):
        expected = np.argsort(-scores[text], kind="stable")[:7]
        assert [borders[number] + row for (number, row), _ in hits.sorted()] == kept[expected].tolist()
        assert [score for _, score in hits.sorted()] == pytest.approx(scores[text][expected], abs=1e-5)
    assert sum(hits.scored for hits in found) < scores.size or kind != "alike"


def test_the_least_norm_is_below_that_of_every_mixture_and_close():
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(50, 5, 8, generator=generator) + 1.5
    mask = (torch.arange(5) < torch.randint(1, 6, (50, 1), generator=generator)).long()
    found = exact_search.least_norm(frames @ frames.transpose(1, 2), mask)
    mixtures = torch.distributions.Dirichlet(0.3 * torch.ones(5)).sample((2000, 50)) * mask
    norms = torch.einsum("nvf,vfd->nvd", mixtures / mixtures.sum(-1, keepdim=True), frames).norm(dim=-1)
    least = norms.nan_to_num(torch.inf).amin(0)
    assert (found <= least).all()
    assert (found > 0.9 * least).all()


def test_other_heads_have_no_bound(features):
    head = METHODS["x_clip"].head_class(METHODS["x_clip"].config_class(clip_config=make_config().clip_config))
    assert not exact_search.can_search(head)
    with pytest.raises(ValueError, match="bounds the scores of GLSCL and mean pooling, got a XCLIPHead"):
        exact_search.encode(head, head.encode_videos(features["frames"], features["frame_mask"]))

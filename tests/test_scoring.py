"""Scoring in blocks: the same as at once, whatever the block; the best k without the matrix; faults."""

import copy

import pytest
import torch

from glscl import scoring
from glscl.base import take
from glscl.metrics import ranks
from glscl.scoring import encode_all, similarity_matrix, top_k


@pytest.fixture(params=[1, 12, 60, 2**20], ids="{} numbers".format)
def block(request, monkeypatch):
    """Blocks of different size, from one pair to the whole matrix."""
    monkeypatch.setitem(scoring.NUMBERS, "cpu", request.param)


@pytest.fixture
def encoded(make_model, features):
    """A model, and its embeddings of 5 texts and 7 videos."""
    model = make_model()
    texts = model.head.encode_texts(features["sentence"], features["words"], features["word_mask"])
    return model, texts, model.head.encode_videos(features["frames"], features["frame_mask"])


def test_blocks_give_the_matrix_that_one_call_gives(encoded, block):
    model, texts, videos = encoded
    torch.testing.assert_close(similarity_matrix(*encoded), model.similarity(texts, videos).detach())


@pytest.mark.parametrize("batch_size", [3, 7, 256])
def test_encoding_in_batches_equals_encoding_at_once(encoded, features, batch_size):
    model, _, at_once = encoded
    frames, mask = features["frames"], features["frame_mask"]
    batched = encode_all(lambda index: model.head.encode_videos(frames[index], mask[index]), 7, batch_size)
    for one, other in zip(at_once, batched, strict=True):
        torch.testing.assert_close(one.detach(), other, atol=1e-5, rtol=1e-5)


def test_nothing_to_encode_is_refused():
    with pytest.raises(ValueError, match="at least one item to encode, got none"):
        encode_all(None, 0)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_the_best_k_equal_a_sort_of_the_matrix(encoded, block, k):
    scores, indices = top_k(*encoded, k)
    matrix = similarity_matrix(*encoded)
    torch.testing.assert_close(scores, matrix.sort(1, descending=True).values[:, :k], atol=1e-6, rtol=0)
    torch.testing.assert_close(matrix.gather(1, indices), scores, atol=1e-6, rtol=0)
    assert all(len(set(row)) == k for row in indices.tolist())


def test_the_best_k_of_one_text_do_not_depend_on_the_other_texts(encoded, block):
    model, texts, videos = encoded
    together = top_k(model, texts, videos, 4)[1]
    alone = [top_k(model, take(texts, slice(i, i + 1)), videos, 4)[1][0] for i in range(5)]
    assert torch.equal(together, torch.stack(alone))


def test_the_matrix_is_never_held(encoded, monkeypatch):
    model, texts, videos = encoded
    monkeypatch.setitem(scoring.NUMBERS, "cpu", 12)
    sizes = []
    similarity = model.head.similarity
    monkeypatch.setattr(model.head, "similarity", lambda *sides: sizes.append(similarity(*sides)) or sizes[-1])
    top_k(model, texts, videos, 2)
    assert len(sizes) > 10
    assert max(block.numel() for block in sizes) <= 12


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_changes_scores_and_hardly_ranks(encoded, dtype):
    exact, half = similarity_matrix(*encoded), similarity_matrix(*encoded, dtype=dtype)
    assert half.dtype == torch.float32
    assert not torch.equal(half, exact)
    target = torch.arange(5).numpy()
    assert abs(ranks(half.numpy(), target) - ranks(exact.numpy(), target)).max() <= 1


@pytest.mark.parametrize("k", [0, 8])
def test_k_beyond_the_gallery_is_refused(encoded, k):
    with pytest.raises(ValueError, match=f"from 1 to the 7 videos of the gallery, got {k}"):
        top_k(*encoded, k)


@pytest.mark.parametrize("score", [similarity_matrix, lambda *sides: top_k(*sides, 1)], ids=["matrix", "top_k"])
def test_nan_is_refused_and_its_place_named(encoded, score):
    model, texts, videos = encoded
    texts.sentence[3, 5] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinity among texts 0 to 4"):
        score(model, texts, videos)


@pytest.mark.parametrize("gpus", [2, 3])
def test_gpus_share_the_gallery(encoded, monkeypatch, gpus):
    matrix, best = similarity_matrix(*encoded), top_k(*encoded, 4)
    monkeypatch.setattr(scoring, "COLUMNS", 2)
    seen = []

    def copies(head):
        seen.append([copy.deepcopy(head) for _ in range(gpus - 1)])
        return seen[-1]

    monkeypatch.setattr(scoring, "_copies", copies)
    torch.testing.assert_close(similarity_matrix(*encoded), matrix, atol=1e-6, rtol=0)
    torch.testing.assert_close(top_k(*encoded, 4), best, atol=1e-6, rtol=0)
    assert len(seen) == 2
    broken = encoded[2]._replace(frames=encoded[2].frames.clone())
    broken.frames[6] = torch.inf
    with pytest.raises(ValueError, match="scores must be finite"):
        top_k(*encoded[:2], broken, 1)

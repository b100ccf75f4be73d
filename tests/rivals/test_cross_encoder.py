"""The cross-encoder: a pair equals the plain transformer, chunks do not matter; negatives; re-ranking."""

import copy

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from glscl.base import take
from glscl.rivals import cross_encoder
from glscl.rivals.cross_encoder import (
    NEGATIVE_TEMPERATURE,
    CrossEncoder,
    first_position,
    hard_negatives,
    rerank,
)
from glscl.rivals.mean_pooling import MeanPooling
from tests.conftest import TINY_CLIP
from tests.released import reference


@pytest.fixture
def make(make_model):
    """make(**settings) -> a small head in evaluation mode; types, positions and logits are large enough to be seen."""

    def make(**settings):
        torch.manual_seed(0)
        settings = {"temporal_layers": 1, "cross_layers": 3} | settings
        head = CrossEncoder.from_clip(make_model().clip, **settings).head
        for parameter in (head.types.weight, head.positions.weight, head.score[-1].weight):
            torch.nn.init.normal_(parameter)
        return head

    return make


@pytest.fixture
def head(make):
    """The head with its own settings."""
    return make()


def encode(head, features):
    """Embeddings of 5 texts and 7 videos; one frame is absent between real ones."""
    features["frame_mask"][4, 2] = 0
    texts = head.encode_texts(features["sentence"], features["words"], features["word_mask"])
    return texts, head.encode_videos(features["frames"], features["frame_mask"])


@pytest.fixture
def encoded(head, features):
    """Embeddings by the head with its own settings."""
    return encode(head, features)


@pytest.fixture
def batch(encoded):
    """5 texts and the video of each; texts 1 and 3 belong to one video, whose absent frames differ."""
    videos = take(encoded[1], torch.tensor([0, 2, 4, 2, 5]))
    videos.frames[3, 4:] = 7.0  # absent
    return encoded[0], videos


@pytest.fixture(params=[1, 3, 64], ids="chunks of {}".format)
def chunks(request, monkeypatch):
    """Chunks of different size, from one pair to all of them."""
    monkeypatch.setitem(cross_encoder.PAIRS, "cpu", request.param)


def plain_cosine(texts, videos, i: int, j: int) -> float:
    """Cosine of sentence i with the mean of the unit-length real frames of video j."""
    real = [frame.double() for frame, present in zip(videos.frames[j], videos.mask[j], strict=True) if present]
    return torch.cosine_similarity(texts.sentence[i].double(), sum(f / f.norm() for f in real), dim=0).item()


def plain(head, texts, videos, i: int, j: int) -> float:
    """The score of text i with video j by a float64 head: the real features alone, every position in every block."""
    words, frames = texts.mask[i].bool(), videos.mask[j].bool()
    if head.config.reads_words:
        sentence = texts.sentence[i] + head.types.weight[0]
        words = (texts.words[i] + head.positions.weight[: len(words)] + head.types.weight[1])[words]
        frames = (videos.frames[j] + head.positions.weight[: len(frames)] + head.types.weight[2])[frames]
        features = torch.cat([sentence[None], words, frames])[None]
    else:  # the tight type of CLIP4Clip
        sentence = texts.sentence[i] + head.positions.weight[0]
        frames = (videos.frames[j] + head.positions.weight[1 : 1 + len(frames)])[frames]
        features = torch.cat([sentence[None], frames])[None]
    for block in head.blocks:
        features = block(features, None)
    logit = head.score(features[0, 0]).item()
    return logit + (head.config.adds_cosine * head.logit_scale.exp().item() * plain_cosine(texts, videos, i, j))


@pytest.mark.parametrize(
    "settings",
    [{}, {"adds_cosine": False}, {"reads_words": False, "adds_cosine": False, "temporal_layers": 0}],
    ids=["with cosine", "alone", "tight type"],
)
def test_every_score_is_that_of_the_pair_alone_through_the_plain_transformer(make, features, settings, chunks):
    head = make(**settings)
    encoded = encode(head, features)
    exact = copy.deepcopy(head).double()
    expected = torch.tensor([[plain(exact, *encoded, i, j) for j in range(7)] for i in range(5)])
    assert expected.std() > 0.1
    torch.testing.assert_close(head.similarity(*encoded), expected, atol=2e-5, rtol=0)


def test_words_count_where_they_are_read_and_nowhere_else(make, features):
    for reads in (True, False):
        head = make(reads_words=reads)
        texts, videos = encode(head, features)
        moved = head.similarity(texts._replace(words=texts.words.flip(1)), videos) - head.similarity(texts, videos)
        assert (moved.abs().max() > 1e-3) == reads


@pytest.fixture
def trained(make_model):
    """A bi-encoder whose temporal encoder and scale are not those that CLIP gives."""
    torch.manual_seed(4)
    head = MeanPooling.from_clip(make_model().clip, temporal_layers=1).head
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return head


def test_it_starts_as_its_bi_encoder(make_model, trained, features):
    head = CrossEncoder.from_clip(make_model().clip, temporal_layers=1).head
    head.init_from(trained)
    texts, videos = encode(head, features)
    given = [trained.encode_texts(*(features[name] for name in ("sentence", "words", "word_mask")))]
    given.append(trained.encode_videos(features["frames"], features["frame_mask"]))
    first = trained.similarity(*given)
    torch.testing.assert_close(head.cosines(texts, videos), first)
    torch.testing.assert_close(head.similarity(texts, videos), first * trained.logit_scale.exp().clamp(max=100))
    assert rerank(head, texts, videos, head.cosines(texts, videos), 7).argmax(1).tolist() == first.argmax(1).tolist()


def test_a_bi_encoder_of_another_form_is_no_start(make, trained):
    with pytest.raises(ValueError, match=r"with 0 temporal layers of width 32 starts .* got 1 of width 32"):
        make(temporal_layers=0).init_from(trained)


def test_the_first_position_alone_equals_the_whole_block(head):
    block = copy.deepcopy(head.blocks[0]).double()
    features = torch.randn(6, 9, 32, dtype=torch.float64)
    present = (torch.arange(9) < torch.tensor([9, 1, 5, 7, 2, 9])[:, None])[:, None, None]
    torch.testing.assert_close(first_position(block, features, present), block(features, present)[:, 0])


@pytest.mark.parametrize("part", ["sentence", "words", "frames"])
def test_every_part_of_a_pair_and_the_order_of_its_features_count(make, features, part):
    head = make(adds_cosine=False)
    encoded = texts, videos = encode(head, features)
    side = texts if part == "sentence" else {"words": texts, "frames": videos}[part]
    changed = getattr(side, part).flip(1)  # the width of the sentence, the order of words or frames
    sides = [kept._replace(**{part: changed}) if kept is side else kept for kept in encoded]
    assert (head.similarity(*sides) - head.similarity(*encoded)).abs().min() > 1e-4


def test_the_transformer_never_reads_more_pairs_than_a_chunk(head, encoded, monkeypatch):
    monkeypatch.setitem(cross_encoder.PAIRS, "cpu", 4)
    read, seen = head._read, []
    monkeypatch.setattr(head, "_read", lambda *sides: seen.append([len(side[0]) for side in sides]) or read(*sides))
    head.similarity(*encoded)
    assert sum(texts for texts, _ in seen) == 35
    assert max(max(sizes) for sizes in seen) == 4


def test_its_first_blocks_and_positions_are_those_of_clip(make_model):
    clip = make_model().clip
    torch.manual_seed(5)
    head = CrossEncoder.from_clip(clip, temporal_layers=0, cross_layers=3).head
    text = clip.text_model
    for block, text_block in zip(head.blocks, text.encoder.layers, strict=False):
        torch.testing.assert_close(block.state_dict(), text_block.state_dict())
    assert torch.equal(head.positions.weight, text.embeddings.position_embedding.weight)
    assert len(head.blocks) == 3


def hardest(texts, videos, count: int) -> list[list[int]]:
    """For each text, in a loop, the videos with the highest cosine that have other real frames than its own."""
    contents = [frames[mask.bool()] for frames, mask in zip(videos.frames, videos.mask, strict=True)]
    found = []
    for i in range(len(texts.sentence)):
        cosines = {
            j: plain_cosine(texts, videos, i, j)
            for j in range(len(contents))
            if not torch.equal(contents[i], contents[j])
        }
        found.append(sorted(cosines, key=cosines.get, reverse=True)[:count])
    return found


@pytest.fixture
def sharp(monkeypatch):
    """Negatives drawn so cold that they are the hardest ones."""
    monkeypatch.setattr(cross_encoder, "NEGATIVE_TEMPERATURE", 1e-9)


def test_negatives_are_drawn_by_the_softmax_of_their_cosines(head, batch):
    torch.manual_seed(0)
    many = [take(side, torch.arange(1000) % 5) for side in batch]  # copies share the probability of a video
    draws = [hard_negatives(head.cosines(*many), many[1], 1)[0] % 5 for _ in range(10)]
    drawn = torch.cat(draws, 1).view(200, 5, 10).transpose(0, 1)
    found = torch.stack([videos.flatten().bincount(minlength=5) for videos in drawn]) / 2000
    texts, videos = batch
    cosines = torch.tensor([[plain_cosine(texts, videos, i, j) for j in range(5)] for i in range(5)])
    odds = (cosines / NEGATIVE_TEMPERATURE).exp()
    odds[torch.eye(5) > 0] = odds[1, 3] = odds[3, 1] = 0
    torch.testing.assert_close(found, odds / odds.sum(1, keepdim=True), atol=0.04, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_cold_negatives_are_the_hardest_and_never_the_own_video(head, batch, count, sharp):
    index, found = hard_negatives(head.cosines(*batch), batch[1], count)
    assert index.shape == (5, min(count, 4))
    chosen = [row[real].tolist() for row, real in zip(index, found, strict=True)]
    assert chosen == hardest(*batch, count)
    assert all(i not in row for i, row in enumerate(chosen))
    assert 3 not in chosen[1]
    assert 1 not in chosen[3]


@pytest.mark.parametrize("negatives", [1, 3, 8])
def test_the_loss_is_the_mean_cross_entropy_of_a_plain_loop(head, batch, negatives, sharp):
    exact = copy.deepcopy(head).double()
    head.config.negatives = negatives
    terms = []
    for i, others in enumerate(hardest(*batch, negatives)):
        scores = torch.tensor([plain(exact, *batch, i, j) for j in (i, *others)], dtype=torch.float64)
        terms.append(torch.logsumexp(scores, 0) - scores[0])
    loss = head.loss(*batch)
    torch.testing.assert_close(loss["total"], torch.stack(terms).mean().float(), atol=1e-5, rtol=1e-5)
    assert loss["contrastive"] is loss["total"]


def test_every_parameter_learns_whatever_the_chunks(head, features, monkeypatch, sharp):
    head.config.negatives = 3

    def gradients(size: int) -> dict:
        monkeypatch.setitem(cross_encoder.PAIRS, "cpu", size)
        head.zero_grad()
        texts = head.encode_texts(features["sentence"], features["words"], features["word_mask"])
        head.loss(texts, head.encode_videos(features["frames"][:5], features["frame_mask"][:5]))["total"].backward()
        return {name: p.grad.clone() for name, p in head.named_parameters() if p.requires_grad}

    whole = gradients(64)
    # A softmax does not change where all keys or all scores are shifted alike: the gradient is 0, up to rounding.
    learning = [gradient for name, gradient in whole.items() if not name.endswith(("k_proj.bias", "score.3.bias"))]
    assert all(gradient.abs().max() > 0 for gradient in learning)
    torch.testing.assert_close(gradients(3), whole, atol=1e-5, rtol=1e-4)


def test_a_batch_without_any_other_video_has_no_loss(head, encoded):
    texts, videos = encoded
    loss = head.loss(take(texts, slice(3)), take(videos, torch.zeros(3, dtype=torch.long)))["total"]
    loss.backward()
    assert loss == 0
    assert all(p.grad.isfinite().all() for p in head.parameters() if p.grad is not None)
    assert head.loss(take(texts, slice(1)), take(videos, slice(1)))["total"] == 0


def test_training_finds_the_own_video(head, features):
    optimizer = torch.optim.AdamW([p for p in head.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(40):
        texts = head.encode_texts(features["sentence"], features["words"], features["word_mask"])
        videos = head.encode_videos(features["frames"][:5], features["frame_mask"][:5])
        optimizer.zero_grad()
        head.loss(texts, videos)["total"].backward()
        optimizer.step()
    assert head.similarity(texts, videos).argmax(1).tolist() == [0, 1, 2, 3, 4]


@pytest.fixture
def first():
    """Scores of a cheap method, (5, 7), most of them close together."""
    generator = torch.Generator().manual_seed(3)
    return 0.3 + 1e-6 * torch.randperm(35, generator=generator).view(5, 7).float()


@pytest.mark.parametrize("k", [1, 3, 7])
def test_re_ranking_scores_the_best_k_and_keeps_the_order_of_the_others_below(head, encoded, first, k):
    given = first.clone()
    merged, full = rerank(head, *encoded, first, k), head.similarity(*encoded).double()
    read = torch.zeros(5, 7, dtype=torch.bool)
    for i, row in enumerate(first.tolist()):
        read[i, sorted(range(7), key=row.__getitem__)[7 - k :]] = True
    assert torch.equal(first, given)
    torch.testing.assert_close(merged[read], full[read], atol=1e-5, rtol=0)
    assert torch.equal(merged[~read].argsort(), first[~read].argsort())
    assert len(merged[~read].unique()) == (~read).sum()
    if k < 7:
        assert merged[read].min() - merged[~read].max() >= 1


def test_re_ranking_reads_k_pairs_per_text_and_encodes_nothing(head, encoded, first, monkeypatch):
    read, seen = head._read, []
    monkeypatch.setattr(head, "_read", lambda *sides: seen.append(len(sides[0][0])) or read(*sides))
    monkeypatch.setattr(head, "encode_texts", None)
    monkeypatch.setattr(head, "encode_videos", None)
    rerank(head, *encoded, first, 2)
    assert sum(seen) == 10


@pytest.mark.parametrize("k", [0, 8])
def test_k_beyond_the_gallery_is_refused(head, encoded, first, k):
    with pytest.raises(ValueError, match=f"from 1 to the 7 videos of the gallery, got {k}"):
        rerank(head, *encoded, first, k)


def test_re_ranking_refuses_what_does_not_fit(head, encoded, first):
    texts, videos = encoded
    with pytest.raises(ValueError, match=r"every pair, \(5, 7\), got \(7, 5\)"):
        rerank(head, texts, videos, first.T, 2)
    with pytest.raises(ValueError, match="first must be finite"):
        rerank(head, texts, videos, first.where(first > 0.30001, torch.nan), 2)
    with pytest.raises(ValueError, match="scores of the cross-encoder must be finite"):
        rerank(head, texts._replace(sentence=texts.sentence * torch.nan), videos, first, 2)
    with pytest.raises(ValueError, match="encode with this head"):
        rerank(head, videos, texts, first, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"negatives": 0}, "negatives must be a whole number from 1 to 16, got 0"),
        ({"negatives": 17}, "negatives must be a whole number from 1 to 16, got 17"),
        ({"negatives": 2.5}, "negatives must be a whole number from 1 to 16, got 2.5"),
        ({"cross_layers": 0}, "cross_layers must be a number of at least 1, got 0"),
        ({"contrastive": "ncl"}, "trains on hard negatives with contrastive infonce, got 'ncl'"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        CrossEncoder.config_class(clip_config=CLIPConfig(**TINY_CLIP), **settings)


def test_a_clip_of_another_width_is_refused():
    config = CLIPConfig(**(TINY_CLIP | {"projection_dim": 16}))
    with pytest.raises(ValueError, match="of width 16 is initialised from CLIP's text blocks, got blocks of width 32"):
        CrossEncoder.from_clip(CLIPModel(config), temporal_layers=0)


def test_items_longer_than_the_positions_are_refused(head):
    with pytest.raises(ValueError, match="has 12 positions, got 13 words"):
        head.encode_texts(torch.ones(2, 32), torch.ones(2, 13, 32), torch.ones(2, 13))
    with pytest.raises(ValueError, match="has 12 positions, got 13 frames"):
        head.encode_videos(torch.ones(2, 13, 32), torch.ones(2, 13))


def test_a_loss_without_one_video_per_text_is_refused(head, encoded):
    with pytest.raises(ValueError, match="text i with video i, got 5 and 7"):
        head.loss(*encoded)
    with pytest.raises(ValueError, match="encode with this head"):
        head.loss(*encoded[::-1])


@pytest.fixture(scope="module")
def tight_weights():
    """Weights in the names of CLIP4Clip's tight type."""
    return reference.weights(reference.about("clip4clip_tight")["shapes"])


def test_weights_of_the_released_tight_type_make_a_head_of_its_form(tight_weights):
    config = CrossEncoder.from_released(tight_weights).config
    assert (config.cross_layers, config.temporal_layers) == (2, 0)
    assert not config.reads_words
    assert not config.adds_cosine


def test_another_release_or_another_depth_is_refused(tight_weights):
    with pytest.raises(ValueError, match="cross_layers is 2 in the weights, got 4; leave the setting out"):
        CrossEncoder.from_released(tight_weights, cross_layers=4)
    other = reference.weights(reference.about("clip4clip_seqTransf")["shapes"])
    with pytest.raises(ValueError, match=r"hold cross\.embeddings\.position_embeddings\.weight, which is missing here"):
        CrossEncoder.from_released(other)

"""Heads that compare tokens or concepts, against slow versions of their formulas: pair by pair, in double precision."""

import pytest
import torch
import torch.nn.functional as F

from glscl import scoring
from glscl.rivals import dicosa, drl, glccl, x_clip

WORDS, FRAMES = 11, 7  # what the heads are built for; the states have 9 and 6
HEADS = {"x_clip": x_clip.XCLIP, "glccl": glccl.GLCCL, "drl": drl.DRL, "dicosa": dicosa.DiCoSA}


@pytest.fixture
def make_head(make_model):
    """make_head(method) -> its head with a temporal layer, every parameter moved away from where it starts."""

    def make(method):
        torch.manual_seed(0)
        clip = make_model().clip
        head = HEADS[method].from_clip(clip, temporal_layers=1, words=WORDS, frames=FRAMES).head
        for name, parameter in head.named_parameters():
            if not name.startswith(("temporal", "logit_scale")):
                parameter.data += 0.1 * torch.randn_like(parameter)
        return head

    return make


def encode(head, states):
    texts = head.encode_texts(states["sentence"], states["words"], states["word_mask"])
    return texts, head.encode_videos(states["frames"], states["frame_mask"])


def matched(head, states):
    return encode(head, {name: value[:5] for name, value in states.items()})


def pairs(head, states):
    """What is real of every pair, in double precision: sentence, words, CLIP's frames, frames in context."""
    context = head.temporal(states["frames"], states["frame_mask"]).double()
    for i, real_words in enumerate(states["word_mask"].bool()):
        for j, real in enumerate(states["frame_mask"].bool()):
            sentence, words = states["sentence"][i].double(), states["words"][i][real_words].double()
            yield i, j, sentence, words, states["frames"][j][real].double(), context[j][real]


def unit(vectors):
    return vectors / vectors.norm(dim=-1, keepdim=True)


def attend(attention, scores):
    """X-CLIP's attention over a vector of scores."""
    matrix = attention.matrix.double()[: len(scores), : len(scores)]
    return sum(weight * score for weight, score in zip((scores / 0.01).softmax(0) @ matrix, scores, strict=True))


def attend_both(head, scores):
    """Attention over rows (words) and then columns (frames), and the other way round, averaged."""
    by_frame = torch.stack([attend(head.words_first, column) for column in scores.T])
    by_word = torch.stack([attend(head.frames_first, row) for row in scores])
    return (attend(head.frames_second, by_frame) + attend(head.words_second, by_word)) / 2


def slow_x_clip(head, sentence, words, frames, context):
    sentence, words, frames = unit(sentence), unit(words), unit(frames)
    video = unit(unit(context).mean(0))
    fine = torch.stack([torch.stack([w @ head.frame_word.double() @ f for f in frames]) for w in words])
    scores = [
        sentence @ head.video_sentence.double() @ video,
        attend(head.over_words, words @ video),
        attend(head.over_frames, frames @ sentence),
        attend_both(head, fine),
    ]
    return sum(scores) / 4


def slow_glccl_scores(head, sentence, words, frames, context):
    def pool(vector):
        return unit((context @ vector / 5).softmax(0) @ context)

    video, conditioned = pool(sentence), torch.stack([pool(word) for word in words])
    sentence, words = unit(sentence), unit(words)
    return torch.stack(
        [
            sentence @ head.sentence_video.double() @ video,
            attend(head.over_words, words @ video),
            attend(head.over_frames, conditioned @ sentence),
            attend_both(head, words @ head.word_frame.double() @ conditioned.T),
        ]
    )


def slow_glccl(head, *pair):
    return slow_glccl_scores(head, *pair).mean()


def slow_weights(net, tokens):
    hidden = (tokens @ net[0].weight.double().T + net[0].bias.double()).relu()
    return (hidden @ net[2].weight.double().T + net[2].bias.double()).squeeze(1).softmax(0)


def slow_drl(head, sentence, words, frames, context):
    by_words = sum(
        weight * max(F.cosine_similarity(word, frame, dim=0) for frame in context)
        for weight, word in zip(slow_weights(head.word_weights, words), words, strict=True)
    )
    by_frames = sum(
        weight * max(F.cosine_similarity(word, frame, dim=0) for word in words)
        for weight, frame in zip(slow_weights(head.frame_weights, context), context, strict=True)
    )
    return (by_words + by_frames) / 2


def slow_pooling(sentence, context):
    return (context @ sentence / 3).softmax(0) @ context


def slow_dicosa(head, sentence, words, frames, context):
    score = 0
    for text, video in zip(sentence.chunk(8), slow_pooling(sentence, context).chunk(8), strict=True):
        hidden = head.hidden.weight.double() @ torch.cat([text, video]) + head.hidden.bias.double()
        weight = head.score.weight.double() @ hidden.relu() + head.score.bias.double()
        score += weight[0] * F.cosine_similarity(text, video, dim=0)
    return score


SLOW = {"x_clip": slow_x_clip, "glccl": slow_glccl, "drl": slow_drl, "dicosa": slow_dicosa}


@pytest.mark.parametrize("method", HEADS)
def test_scores_follow_the_formula(make_head, states, method):
    head = make_head(method)
    texts, videos = encode(head, states)
    expected = torch.empty(5, 7)
    for i, j, *pair in pairs(head, states):
        expected[i, j] = SLOW[method](head, *pair)
    torch.testing.assert_close(head.similarity(texts, videos), expected, atol=1e-5, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(head.similarity(texts, videos), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", HEADS)
def test_padding_and_its_number_do_not_matter(make_head, states, method):
    head = make_head(method)
    padded = dict(states)
    for name, mask in (("words", "word_mask"), ("frames", "frame_mask")):
        junk = 30 * torch.randn_like(states[name])
        filled = torch.where(states[mask][..., None] > 0, states[name], junk)
        padded[name] = torch.cat([filled, junk[:, :1]], 1)
        padded[mask] = F.pad(states[mask], (0, 1))
    torch.testing.assert_close(head.similarity(*encode(head, padded)), head.similarity(*encode(head, states)))
    for name, value in head.loss(*matched(head, states)).items():
        torch.testing.assert_close(head.loss(*matched(head, padded))[name], value, msg=name)


@pytest.mark.parametrize("method", HEADS)
def test_every_parameter_learns(make_head, states, method):
    head = make_head(method)
    head.loss(*matched(head, states))["total"].backward()
    for name, parameter in head.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        # The softmax over frames, and over tokens, does not see what is added to all alike.
        assert parameter.grad.abs().max() > 1e-12 or name.endswith(("k_proj.bias", "_weights.2.bias")), name


@pytest.mark.parametrize("method", HEADS)
def test_half_precision_scores_are_close(make_head, states, method):
    head = make_head(method)
    texts, videos = encode(head, states)
    exact = scoring.similarity_matrix(head, texts, videos)
    rough = scoring.similarity_matrix(head, texts, videos, torch.bfloat16)
    assert (rough - exact).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.parametrize(("method", "name"), [("x_clip", "words"), ("x_clip", "frames"), ("glccl", "words")])
def test_more_tokens_than_the_matrices_have_are_refused(make_head, states, method, name):
    head = make_head(method)
    mask = {"words": "word_mask", "frames": "frame_mask"}[name]
    longer = states | {name: states[name].repeat(1, 2, 1), mask: states[mask].repeat(1, 2)}
    with pytest.raises(ValueError, match=f"at most {head.config.to_dict()[name]} words or frames"):
        head.similarity(*encode(head, longer))


def test_x_clip_takes_frames_of_clip_and_the_video_in_context(make_head, states):
    head = make_head("x_clip")
    plain = HEADS["x_clip"].config_class(clip_config=head.config.clip_config, temporal_layers=0)
    with_context, without = (encode(h, states)[1] for h in (head, x_clip.XCLIPHead(plain)))
    torch.testing.assert_close(with_context.frames, without.frames)
    assert (with_context.video - without.video).abs().max() > 0.01


def test_scores_of_glccl_in_parts_are_the_same(make_head, states, monkeypatch):
    head = make_head("glccl")
    texts, videos = encode(head, states)
    whole = head.scores(texts, videos)
    monkeypatch.setitem(scoring.NUMBERS, "cpu", 2 * 9 * 9 * 5)
    torch.testing.assert_close(head.scores(texts, videos), whole, atol=1e-6, rtol=0)


def test_consistency_of_glccl_follows_its_formula(make_head, states):
    head = make_head("glccl")
    five = {name: value[:5] for name, value in states.items()}
    spread = torch.empty(5, 5)
    for i, j, *pair in pairs(head, five):
        spread[i, j] = slow_glccl_scores(head, *pair).var()
    off_diagonal = sum(spread[i, j] for i in range(5) for j in range(5) if i != j)
    expected = 0.5 * sum(spread[i, i] for i in range(5)) / 5 / (off_diagonal / 25)
    torch.testing.assert_close(head.loss(*matched(head, states))["consistency"], expected, atol=0, rtol=1e-4)


def test_consistency_is_small_where_matching_scores_agree():
    scores = torch.rand(4, 3, 3, generator=torch.Generator().manual_seed(0))
    loss = glccl.consistency_loss(scores)
    torch.testing.assert_close(glccl.consistency_loss(100 * scores), loss)
    agreeing = torch.where(torch.eye(3) > 0, scores[:1], scores)
    assert glccl.consistency_loss(agreeing) < 1e-6 < loss
    with pytest.raises(ValueError, match="got 1 pair"):
        glccl.consistency_loss(scores[:, :1, :1])


def test_channel_correlation_of_drl_follows_the_release(make_head, states):
    head = make_head("drl")
    columns = {"words": [], "frames": []}  # of a token, its best partner and its weight
    for i, j, _, words, _, context in pairs(head, {name: value[:5] for name, value in states.items()}):
        if i == j:
            cosines = unit(words) @ unit(context).T
            for name, tokens, others, table, net in (
                ("words", words, context, cosines, head.word_weights),
                ("frames", context, words, cosines.T, head.frame_weights),
            ):
                for token, row, weight in zip(unit(tokens), table, slow_weights(net, tokens), strict=True):
                    columns[name].append((token, unit(others)[row.argmax()], weight))
    correlation = torch.zeros(32, 32, dtype=torch.float64)
    for rows in columns.values():
        tokens, partners, weights = (torch.stack(column) for column in zip(*rows, strict=True))
        first, second = ((x - x.mean(0)) / x.std(0) for x in (tokens, partners))
        correlation += torch.einsum("nc,nd,n->cd", first, second, weights) / 5 / 2
    expected = 0.001 * 0.11 * (correlation.diagonal() - 1).square().sum()
    actual = head.loss(*matched(head, states))["channel_correlation"]
    torch.testing.assert_close(actual.double(), expected, atol=0, rtol=1e-4)


def test_padding_of_drl_repeats_the_first_real_token_without_weight(make_head, states):
    mask = torch.tensor([[0, 1, 1, 0, 1, 1]])
    videos = make_head("drl").encode_videos(states["frames"][:1], mask)
    torch.testing.assert_close(videos.frames[0, [0, 3]], videos.frames[0, [1, 1]])
    assert (videos.weights[mask == 0] == 0).all()
    torch.testing.assert_close(videos.weights.sum(1), torch.ones(1))


def test_regularisers_of_dicosa_follow_their_formula(make_head, states):
    head = make_head("dicosa")
    correlation = torch.zeros(8, 8)
    for i, j, sentence, _, _, context in pairs(head, {name: value[:5] for name, value in states.items()}):
        if i == j:
            rows = torch.cat([sentence.view(8, 4), slow_pooling(sentence, context).view(8, 4)])
            correlation += torch.corrcoef(rows)[:8, 8:].float() / 5
    diagonal = torch.eye(8) > 0
    terms = head.loss(*matched(head, states))
    expected = 0.01 * (correlation[diagonal] - 1).square().sum()
    torch.testing.assert_close(terms["matched_concepts"], expected, atol=0, rtol=1e-4)
    expected = 0.005 * correlation[~diagonal].square().sum()
    torch.testing.assert_close(terms["unmatched_concepts"], expected, atol=0, rtol=1e-4)


def test_dicosa_refuses_a_width_that_it_cannot_split(make_head):
    clip = make_head("dicosa").config.clip_config.to_dict() | {"projection_dim": 36}
    with pytest.raises(ValueError, match="8 concepts of at least 2 channels, got 36"):
        dicosa.DiCoSAConfig(clip_config=clip)

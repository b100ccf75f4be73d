"""Statistics of concepts against closed forms, attention against the decoder."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from glscl.data.dataset import Split
from glscl.encoding import encode_split
from glscl.evaluation import concepts
from glscl.report.figures.common import figure_html, film_strip
from glscl.report.figures.concepts import attention_on_captions, concept_map, heat_maps

HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


class Characters:
    """A tokenizer of eight tokens in the manner of CLIP's."""

    bos_token, eos_token = "<|startoftext|>", "<|endoftext|>"
    vocabulary = ("!</w>", bos_token, eos_token, "a</w>", "bou", "nces</w>", "<b", "></w>")

    def convert_ids_to_tokens(self, ids):
        return [self.vocabulary[i] for i in ids]


def test_effective_rank_counts_directions():
    one, four, two = unit(1, 16).expand(4, 16), torch.eye(16)[:4], torch.eye(16)[[0, 0, 1, 1]]
    ranks = concepts.effective_rank(torch.stack([one, four, two]))
    assert ranks.tolist() == pytest.approx([1, 4, 2], abs=1e-6)


def test_diversity_of_equal_pairs_is_known():
    videos = torch.eye(24).view(6, 4, 24)  # all orthogonal to each other
    video_of_text = torch.tensor([0, 0, 1, 2, 3, 4, 5])
    found = concepts.diversity(videos[video_of_text], videos, video_of_text)
    for name in ("matched", "wrong_pair", "different", "within_text", "within_video", "across_video", "dead_video"):
        assert found[name] == pytest.approx(float(name == "matched"), abs=1e-9), name
    assert found["rank_text"] == pytest.approx(4)
    assert found["across_text"] == pytest.approx(2 / 42)  # one video has two texts: 2 of 7 x 6 ordered pairs


def test_diversity_agrees_with_loops():
    texts, videos, video_of_text = unit(5, 3, 8), unit(4, 3, 8, seed=1), torch.tensor([3, 0, 1, 2, 0])
    found = concepts.diversity(texts, videos, video_of_text)
    different = [
        texts[i, k] @ videos[v, m] for i, v in enumerate(video_of_text) for k in range(3) for m in range(3) if k != m
    ]
    across = [videos[i, k] @ videos[j, k] for k in range(3) for i in range(4) for j in range(4) if i != j]
    wrong = [texts[i, k] @ videos[(v + 2) % 4, k] for i, v in enumerate(video_of_text) for k in range(3)]
    within = [texts[i, k] @ texts[i, m] for i in range(5) for k in range(3) for m in range(3) if k != m]
    assert found["within_text"] == pytest.approx(np.mean(within), abs=1e-6)
    each = concepts.of_items(texts, videos, video_of_text)
    assert {len(each[name]) for name in ("matched", "wrong_pair", "within_text", "rank_text")} == {5}
    assert {len(each[name]) for name in ("within_video", "rank_video")} == {4}
    assert each["matched"][1].item() == pytest.approx((texts[1] * videos[0]).sum().item() / 3)
    for name, values in (("different", different), ("across_video", across), ("wrong_pair", wrong)):
        assert found[name] == pytest.approx(np.mean(values), abs=1e-6), name


def test_a_planted_dead_concept_is_found():
    texts = unit(20, 4, 16)
    texts[:, 2] = F.normalize(texts[0, 2] + 0.01 * texts[:, 2], dim=-1)
    found = concepts.diversity(texts, unit(20, 4, 16, seed=1), torch.arange(20))
    assert found["dead_text"] == 0.25
    assert found["dead_video"] == 0
    assert concepts.across_items(texts).argmax() == 2


def test_one_concept_is_refused():
    with pytest.raises(ValueError, match="at least 2 concepts, texts and videos, got 1, 5 and 4"):
        concepts.diversity(unit(5, 1, 8), unit(4, 1, 8), torch.tensor([0, 1, 2, 3, 0]))


@pytest.mark.parametrize("variant", ["released", "described"])
def test_attention_is_a_distribution_and_the_variant_decides_about_padding(make_model, features, variant):
    model = make_model(variant=variant)
    weights = concepts.attention(model.head.local, features["words"], features["word_mask"])
    assert weights.shape == (5, 4, 9)
    assert (weights >= 0).all()
    assert_close(weights.sum(-1), torch.ones(5, 4))
    padding = (weights * (features["word_mask"] == 0)[:, None]).sum(-1)
    padded = features["word_mask"].sum(1) < 9
    assert (padding[padded] > 0.01).all() if variant == "released" else (padding == 0).all()
    assert not model.head.local.decoder.layers[-1].multihead_attn._forward_pre_hooks


@torch.inference_mode()
def test_attention_gives_the_output_of_the_last_layer(make_model, features):
    local = make_model(decoder_heads=1).head.local
    last, seen = local.decoder.layers[-1].multihead_attn, []
    last.register_forward_hook(lambda module, args, output: seen.append(output[0]))
    weights = concepts.attention(local, features["frames"], features["frame_mask"])
    kernel, bias = last.in_proj_weight[64:], last.in_proj_bias[64:]
    expected = last.out_proj(weights @ (features["frames"] @ kernel.T + bias))
    assert_close(expected, seen[0], atol=1e-5, rtol=1e-5)


def test_attention_of_a_split_is_that_of_its_batches(make_model, features):
    model = make_model()
    captions = pd.DataFrame({"caption_id": range(5), "video": list("abcde"), "text": list("vwxyz")})
    of_texts = {name: features[name] for name in ("sentence", "words", "word_mask")}
    split = Split(captions, of_texts, {name: features[name][:5] for name in ("frames", "frame_mask")})
    whole = concepts.word_attention(model, split, batch_size=2)
    assert_close(whole, concepts.attention(model.head.local, features["words"], features["word_mask"]))
    videos = encode_split(model, split)[1]
    whole = concepts.frame_attention(model, videos, batch_size=2)
    assert_close(whole, concepts.attention(model.head.local, videos.frames, videos.mask))


def test_pixels_and_tokens_give_what_their_features_give(make_model):
    model, captions = make_model(), pd.DataFrame({"caption_id": [0, 1], "video": ["a", "b"], "text": ["v", "w"]})
    tokens = {"token_ids": torch.tensor([[48, 5, 7, 49], [48, 3, 49, 0]])}
    tokens["word_mask"] = (tokens["token_ids"] > 0).long()
    pixels = torch.randn(2, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    reader = SimpleNamespace(normalise=lambda frames: frames)
    store = SimpleNamespace(read=lambda rows, draw: (pixels[rows], mask[rows].numpy()))
    whole = Split(captions, tokens, {"frame_mask": mask}, (store, [0, 1], reader))
    with torch.no_grad():
        sentence, words = model.text_features(*tokens.values())
        frames = model.frame_features(pixels * mask[..., None, None, None], mask)
    texts = {"sentence": sentence, "words": words, "word_mask": tokens["word_mask"]}
    frozen = Split(captions, texts, {"frames": frames, "frame_mask": mask})
    assert_close(concepts.word_attention(model, whole), concepts.word_attention(model, frozen))


def test_pieces_are_joined_to_words_and_padding_is_one_row():
    ids = torch.tensor([[1, 3, 4, 5, 3, 2, 0, 0], [1, 4, 5, 3, 4, 5, 3, 2]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 0, 0], [1] * 8])
    weights = torch.arange(16.0).view(2, 1, 8).repeat(1, 2, 1)
    weights[:, 1] *= 10
    table = concepts.by_word(weights, ids, mask, Characters())
    first = table[table["text"] == 0]
    assert first["word"].tolist() == ["[start]", "a", "bounces", "a", "[end]", "[padding]"]
    assert first[0].tolist() == [0, 1, 2 + 3, 4, 5, 6 + 7]
    assert table[table["text"] == 1]["word"].tolist() == ["[start]", "bounces", "a", "bounces", "a", "[end]"]
    assert table[1].sum() == 10 * table[0].sum() == 10 * weights[:, 0].sum()


def test_shares_by_kind_add_up_and_a_kind_without_words_is_zero():
    words = pd.DataFrame(
        [(0, "[start]", 0.25, 0.0), (0, "a", 0.5, 0.75), (0, "[end]", 0.25, 0.25), (1, "a", 1.0, 1.0)],
        columns=["text", "word", 0, 1],
    )
    shares = concepts.shares_by_kind(words)
    assert list(shares) == ["[start]", "words", "[end]", "[padding]"]
    assert shares.values.tolist() == [[0.125, 0.75, 0.125, 0], [0, 0.875, 0.125, 0]]


def test_the_share_of_padding_is_that_of_absent_positions():
    weights = torch.tensor([[[0.5, 0.3, 0.2]], [[0.1, 0.1, 0.8]]])
    assert concepts.padding_share(weights, torch.tensor([[1, 1, 0], [1, 0, 0]])) == pytest.approx((0.2 + 0.9) / 2)
    assert concepts.padding_share(weights, torch.ones(2, 3)) == 0


def test_spread_takes_first_and_last_and_never_one_twice():
    assert concepts.spread(9, 3).tolist() == [0, 4, 8]
    assert concepts.spread(2, 5).tolist() == [0, 1]
    assert concepts.spread(5, 1).tolist() == [0]


def test_favourite_words_are_frequent_and_real():
    rows = [(0, word, *weights) for word, weights in [("a", (0.2, 0.9)), ("ball", (0.3, 0.1)), ("[start]", (1, 1))] * 3]
    table = pd.DataFrame([*rows, (1, "rare", 5.0, 5.0)], columns=["text", "word", 0, 1])
    assert concepts.favourite_words(table, least=3, top=1) == [["ball"], ["a"]]
    assert concepts.favourite_words(table, least=1, top=2) == [["rare", "ball"], ["rare", "a"]]


@pytest.mark.parametrize("pooling", ["text_conditioned", "mean"])
def test_frame_weights_give_the_global_similarity(make_model, features, pooling):
    model = make_model(global_pooling=pooling, local_weight=0.0)
    videos = model.head.encode_videos(features["frames"][:5], features["frame_mask"][:5])
    texts = model.head.encode_texts(features["sentence"], features["words"], features["word_mask"])
    weights = concepts.frame_weights(texts.sentence, videos, model.config)
    pooled = (weights[..., None] * videos.frames).sum(1)
    expected = model.similarity(texts, videos).diagonal()
    assert_close(F.cosine_similarity(texts.sentence, pooled), expected, atol=1e-5, rtol=1e-5)


def test_normalised_entropy_is_one_for_a_mean_and_zero_for_one_frame():
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]])
    weights = torch.tensor([[0.25] * 4, [0.5, 0.5, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]])
    assert concepts.normalised_entropy(weights, mask).tolist() == pytest.approx([1, 1, 0, 1])


def test_projection_is_deterministic_and_keeps_neighbours():
    centres = torch.eye(16)[[0, 1, 2]].repeat_interleave(20, 0)
    points = F.normalize(centres + 0.05 * unit(60, 16), dim=-1)
    positions = concepts.project(points, perplexity=10)
    assert positions.shape == (60, 2)
    assert (positions == concepts.project(points, perplexity=10)).all()
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1) + np.diag([np.inf] * 60)
    assert (distance.argmin(1) // 20 == np.arange(60) // 20).all()
    assert concepts.project(points[:11], perplexity=10).shape == (11, 2)
    with pytest.raises(ValueError, match=r"10 points needs a perplexity below 10, got 10: lower `concepts.perplexity`"):
        concepts.project(points[:10], perplexity=10)


def placed(pairs: int, count: int) -> dict[str, np.ndarray]:
    return {"text": np.zeros((pairs, count, 2)), "video": np.ones((pairs, count, 2))}


def test_maps_stand_beside_each_other_and_share_their_legend():
    shown = concept_map({"released": placed(2, 3), "freed": placed(2, 3)}, ["a", "b"], {}, ["a ball", "a <b>"])
    points = [trace for trace in shown.data if trace.customdata is not None]
    assert len(points) == 2 * 2 * 3
    assert sum(trace.showlegend is not False for trace in shown.data) == 2 + 3
    assert {trace.xaxis for trace in points} == {"x", "x2"}
    assert [note.text for note in shown.layout.annotations] == ["released", "freed"]
    assert points[0].customdata[1][0] == "a &lt;b&gt;"  # without clips a point shows its caption


def test_hostile_text_stays_text_in_the_figures():
    media = {video: film_strip(np.zeros((2, 8, 8, 3), np.uint8)) for video in "ab"}
    shown = concept_map({"released": placed(2, 3)}, ["a", "b"], media, [HOSTILE, "a ball"])
    bundle = json.loads(shown.figure.to_json())
    assert bundle["layout"]["meta"]["captions"][0] == HOSTILE  # the panel sets it as text
    page = figure_html(bundle, "figure-1")
    assert HOSTILE not in page
    assert "<img src=x" not in page
    points = [trace for trace in bundle["data"] if "customdata" in trace]
    assert len(points) == 6
    assert all("hacked" not in json.dumps(trace) for trace in points)

    words = pd.DataFrame({"text": [0, 0], "word": ["<b>", "a"], 0: [0.1, 0.9], 1: [0.5, 0.5]})
    figure = attention_on_captions(words, [0])
    assert figure.layout.yaxis.ticktext == ("&lt;b&gt;", "a")
    assert "<b>" not in figure.to_json()


def test_heat_maps_keep_rows_columns_and_order():
    table = pd.DataFrame([[0.5, -0.25], [1.0, 0.0]], ["CLIP", "<i>"], [2, 1])
    figure = heat_maps({"left": table, "right": table.T}, "concept", "factor", -1, 1)
    left, right = figure.data
    assert (left.z == table.to_numpy()).all()
    assert (right.z == table.to_numpy().T).all()
    assert left.x == ("2", "1")
    assert left.y == ("CLIP", "&lt;i&gt;")
    assert figure.layout.yaxis.autorange == "reversed"


@pytest.mark.parametrize("length", [4, 60])
def test_captions_stand_equally_far_apart_however_long_they_are(length):
    rows = [(text, f"w{row}", 0.1, 0.2) for text in range(3) for row in range(length)]
    figure = attention_on_captions(pd.DataFrame(rows, columns=["text", "word", 0, 1]), [0, 1, 2])
    inside = figure.layout.height - 120
    first, second = figure.layout.yaxis.domain, figure.layout.yaxis2.domain
    assert (first[0] - second[1]) * inside == pytest.approx(40)
    assert (first[1] - first[0]) * inside == pytest.approx(24 * length)

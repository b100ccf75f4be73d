"""Work of a query: formulas equal torch's counter, and the releases' procedures give our scores by more work.

Heads are small here; the notebook counts at full size, and fails where formula and counter differ.
"""

import re

import pytest
import torch
from torch import nn
from transformers import CLIPConfig

from glscl.methods import METHODS
from glscl.report.names import head_name
from glscl.report.page import significant
from glscl.rivals.mean_pooling import MeanPoolingHead
from glscl.study import costs, counting, formulas, released_computation
from tests import ROOT
from tests.study.small_heads import count_small, small, small_clip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sizes", [{}, {"frames": 5, "words": 4, "temporal_layers": 2}])
def test_formulas_equal_the_counter(method, sizes):
    head = small(method, **sizes)
    expected = formulas.FORMULAS[method](head.config).totals()
    assert counting.count(head) == {part: expected[part] for part in ("text", "video", "pair")}


def test_the_counter_counts_matrix_products():
    a, b, c = torch.randn(2, 3, 5), torch.randn(2, 5, 7), torch.randn(5)
    assert counting.counted(lambda: a @ b) == 2 * 3 * 5 * 7
    assert counting.counted(lambda: a[0] @ c) == 3 * 5


def test_work_of_one_item_in_similarity_is_refused():
    class Repeating(MeanPoolingHead):
        def similarity(self, texts, videos):
            return texts.sentence @ (videos.video @ torch.eye(self.config.width)).T

    head = Repeating(small("mean_pooling").config)
    with pytest.raises(ValueError, match="48 multiply-accumulates, got 0 per text and 2304 per video"):
        counting.count(head)


def test_the_release_of_glscl_gives_the_same_scores_by_more_work():
    head = small("glscl")
    (sentence, words, word_mask, *_), (*_, frames, frame_mask) = (
        counting.random_features(head.config, n) for n in (3, 4)
    )
    with torch.no_grad():
        exact = head.similarity(head.encode_texts(sentence, words, word_mask), head.encode_videos(frames, frame_mask))
        block = (sentence, words, word_mask), (head.temporal(frames, frame_mask), frame_mask)
        released = released_computation.released_glscl(head, nn.Identity(), *block)
    torch.testing.assert_close(released, exact, atol=1e-5, rtol=0)
    net = released_computation.weighting_net(head.config.width)
    macs = formulas.glscl(head.config)
    decoded = 3 * macs.text["concept decoder"] + 4 * macs.video["concept decoder"]
    work = counting.counted(lambda: released_computation.released_glscl(head, net, *block))
    assert work == 12 * macs.totals()["released"] + decoded


def test_the_release_of_x_pool_gives_the_same_scores_by_more_work():
    head = small("x_pool")
    with torch.no_grad():  # the weights start as the identity, where mistakes would not show
        for layer in head.pooling.children():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.2)
    (sentence, words, word_mask, *_), (*_, frames, frame_mask) = (
        counting.random_features(head.config, n) for n in (3, 4)
    )
    with torch.no_grad():
        texts, videos = head.encode_texts(sentence, words, word_mask), head.encode_videos(frames, frame_mask)
        values = head.pooling.value(head.pooling.norm_states(head.temporal(frames, frame_mask)))
        released = released_computation.released_x_pool(head.pooling, sentence, texts.query, videos.keys, values)
        torch.testing.assert_close(released, head.similarity(texts, videos), atol=1e-5, rtol=0)
    work = counting.counted(
        lambda: released_computation.released_x_pool(head.pooling, sentence, texts.query, videos.keys, values)
    )
    assert work == 12 * formulas.x_pool(head.config).totals()["released"]


def test_counts_at_the_size_of_clip_vit_b_32():
    pairs = {"glscl": 10_384, "x_pool": 13_821, "x_clip": 238_880, "drl": 196_608, "mean_pooling": 512}
    found = {method: formulas.FORMULAS[method](counting.config_of(method, 12, 32)) for method in pairs}
    assert {method: macs.totals()["pair"] for method, macs in found.items()} == pairs
    assert found["glscl"].text["concept decoder"] == 139_395_072
    assert found["x_pool"].totals()["released"] == 2 * 512 * 512 + 2 * 12 * 512 + 512


def test_formulas_of_clip_equal_the_counter():
    clip = small_clip()
    config, found = clip.config.clip_config, counting.count_clip(clip, [5, 9])
    expected = {f"{words} words": formulas.clip_text(config, words) for words in (5, 9)}
    assert found == expected | {"image": formulas.clip_image(config)}
    assert formulas.clip_text(CLIPConfig(), 32) == 1_228_931_072
    assert formulas.clip_image(CLIPConfig()) == 4_408_811_520


def test_the_table_in_the_docs_is_current():
    text = (ROOT / "docs/costs.md").read_text(encoding="utf-8")
    written = dict(re.findall(r"^\| (\w+) \| ([\d,| ]+) \|$", text, flags=re.MULTILINE))
    assert written.keys() == METHODS.keys()
    for method, numbers in written.items():
        totals = formulas.FORMULAS[method](counting.config_of(method, 12, 32)).totals()
        assert numbers == " | ".join(f"{totals[part]:,}" for part in ("text", "video", "pair", "released")), method


def test_the_published_column_is_a_few_inner_products():
    assert formulas.PUBLISHED["x_clip"] / formulas.PUBLISHED["glscl"] == pytest.approx(220.9)
    counted = formulas.what_was_published(counting.config_of("glscl", 12, 32))
    assert counted.keys() == formulas.PUBLISHED.keys()
    for method, printed in formulas.PUBLISHED.items():
        assert sum(counted[method].values()) / 1000 == pytest.approx(printed, rel=1e-3, abs=0.03), method


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (44_112.0, "44,100"),
        (0.008621, "0.00862"),
        (1.0, "1"),
        (3092, "3,090"),
        (0.0, "0"),
        (-6.43e-5, "-0.0000643"),
        (1.53e-9, "0.000000"),
        (-1.88e-9, "0.000000"),
        (6e-7, "0.0000006"),
    ],
)
def test_numbers_are_never_powers_nor_long(number, text):
    assert significant(number) == text


@pytest.fixture(scope="module")
def counted():
    """What the notebook counts, of small heads."""
    return count_small([10, 1_000, 20_000])


def test_what_is_counted_holds_queries_and_ratios(counted):
    for head, sizes in counted["heads"].items():
        macs = {part: sum(terms.values()) for part, terms in sizes["short"]["macs"].items()}
        assert sizes["short"]["query"]["1000"] == macs["text"] + 1_000 * macs["pair"], head
        assert sizes["short"]["counted"] == {part: macs[part] for part in ("text", "video", "pair")}
    over, clip = counted["over_glscl"]["x_clip"], counted["clip"]["32 words"]
    ends = {head: clip + counted["heads"][head]["short"]["query"]["20000"] for head in ("x_clip", "glscl")}
    assert over["end_to_end"]["20000"] == ends["x_clip"] / ends["glscl"]
    assert over["published"] == pytest.approx(220.9)
    assert counted["heads"]["mean_pooling"]["short"]["bytes"] == {"text": 48 * 4, "video": 48 * 4}
    assert not {"hardware", "commit", "seconds"} & counted.keys()
    assert all(len(sentence.split()) <= 25 for sentence in counted["details"])


def test_a_formula_that_differs_from_the_counter_is_an_error(monkeypatch):
    monkeypatch.setattr(costs, "build", lambda head, frames, words: small(head))
    wrong = formulas.mean_pooling(small("mean_pooling").config)._replace(pair={"cosine": 1})
    monkeypatch.setitem(formulas.FORMULAS, "glscl", lambda config: wrong)
    with pytest.raises(ValueError, match="the formula of glscl, short should give what torch counts"):
        costs.count_costs([10])


def test_tables_of_what_is_counted(counted):
    assert list(costs.work_table(counted, "long")["head"]) == list(map(head_name, costs.HEADS))
    assert set(costs.terms_table(counted)["term"]) >= {"concept decoder", "discarded weighting net"}
    assert costs.pair_chart(counted)["exact"].is_monotonic_increasing
    assert costs.pair_chart(counted)["published, x 1,000"].notna().sum() == len(costs.PUBLISHED)
    assert set(costs.published_table(counted)["published"]) == {str(printed) for printed in costs.PUBLISHED.values()}
    assert len(costs.search_table(counted)) == len(costs.HEADS)


def test_galleries_that_tables_show():
    assert costs.shown_galleries([100, 1_000, 10_000]) == [1_000, 10_000]
    assert costs.shown_galleries(["5000", "20000"]) == [5_000, 20_000]
    assert costs.shown_galleries([100]) == [100]


def test_work_does_not_depend_on_the_weights():
    clip = small_clip()
    before = counting.count_clip(clip, [5])
    for weight in clip.parameters():
        nn.init.normal_(weight)
    assert counting.count_clip(clip, [5]) == before

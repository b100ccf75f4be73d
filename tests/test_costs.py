"""Costs: formulas equal torch's counter, the releases' procedures give our scores, clocks and memory measure."""

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from glscl import costs, timing
from glscl.cost_figures import latency, on_a_log_scale, shares
from glscl.page import significant
from glscl.rivals import METHODS
from glscl.rivals.mean_pooling import MeanPoolingHead

SMALL = {"frames": 3, "words": 7, "width": 48, "temporal_layers": 1}
OWN = {"glscl": {"num_queries": 5, "decoder_layers": 2}, "cross_encoder": {"cross_layers": 3}}


def small(method: str, **settings):
    torch.manual_seed(0)
    return costs.build(method, **SMALL | OWN.get(method, {}) | settings)


def mean_pooling_rows(sizes: list[int], memory: float = 1e9, limit: float = 10) -> list[dict]:
    head = small("mean_pooling")
    texts, videos = timing.kept_states(head)
    return timing.query_times(head, texts, lambda size: timing.repeated(videos, size), sizes, memory, limit)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sizes", [{}, {"frames": 5, "words": 4, "temporal_layers": 2}])
def test_formulas_equal_the_counter(method, sizes):
    head = small(method, **sizes)
    expected = costs.FORMULAS[method](head.config).totals()
    assert costs.count(head) == {part: expected[part] for part in ("text", "video", "pair")}


def test_the_counter_counts_matrix_products():
    a, b, c = torch.randn(2, 3, 5), torch.randn(2, 5, 7), torch.randn(5)
    assert costs.counted(lambda: a @ b) == 2 * 3 * 5 * 7
    assert costs.counted(lambda: a[0] @ c) == 3 * 5


def test_work_of_one_item_in_similarity_is_refused():
    class Repeating(MeanPoolingHead):
        def similarity(self, texts, videos):
            return texts.sentence @ (videos.video @ torch.eye(self.config.width)).T

    head = Repeating(small("mean_pooling").config)
    with pytest.raises(ValueError, match="48 multiply-accumulates, got 0 per text and 2304 per video"):
        costs.count(head)


def test_the_release_of_glscl_gives_the_same_scores_by_more_work():
    head = small("glscl")
    (sentence, words, word_mask, *_), (*_, frames, frame_mask) = (costs.random_states(head.config, n) for n in (3, 4))
    with torch.no_grad():
        exact = head.similarity(head.encode_texts(sentence, words, word_mask), head.encode_videos(frames, frame_mask))
        block = (sentence, words, word_mask), (head.temporal(frames, frame_mask), frame_mask)
        released = costs.released_glscl(head, nn.Identity(), *block)
    torch.testing.assert_close(released, exact, atol=1e-5, rtol=0)
    net = costs.weighting_net(head.config.width)
    macs = costs.glscl(head.config)
    decoded = 3 * macs.text["concept decoder"] + 4 * macs.video["concept decoder"]
    assert costs.counted(lambda: costs.released_glscl(head, net, *block)) == 12 * macs.totals()["released"] + decoded


def test_the_release_of_x_pool_gives_the_same_scores_by_more_work():
    head = small("x_pool")
    with torch.no_grad():  # the weights start as the identity, where mistakes would not show
        for layer in head.pooling.children():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.2)
    (sentence, words, word_mask, *_), (*_, frames, frame_mask) = (costs.random_states(head.config, n) for n in (3, 4))
    with torch.no_grad():
        texts, videos = head.encode_texts(sentence, words, word_mask), head.encode_videos(frames, frame_mask)
        values = head.pooling.value(head.pooling.norm_states(head.temporal(frames, frame_mask)))
        released = costs.released_x_pool(head.pooling, sentence, texts.query, videos.keys, values)
        torch.testing.assert_close(released, head.similarity(texts, videos), atol=1e-5, rtol=0)
    work = costs.counted(lambda: costs.released_x_pool(head.pooling, sentence, texts.query, videos.keys, values))
    assert work == 12 * costs.x_pool(head.config).totals()["released"]


def test_counts_at_the_size_of_clip_vit_b_32():
    pairs = {"glscl": 10_384, "x_pool": 13_821, "x_clip": 238_880, "drl": 196_608, "mean_pooling": 512}
    found = {method: costs.FORMULAS[method](costs.build(method, 12, 32).config) for method in pairs}
    assert {method: macs.totals()["pair"] for method, macs in found.items()} == pairs
    assert found["glscl"].text["concept decoder"] == 139_395_072
    assert found["x_pool"].totals()["released"] == 2 * 512 * 512 + 2 * 12 * 512 + 512


def test_the_table_in_the_docs_is_current():
    text = (Path(__file__).parents[1] / "docs/costs.md").read_text(encoding="utf-8")
    written = dict(re.findall(r"^\| (\w+) \| ([\d,| ]+) \|$", text, flags=re.MULTILINE))
    assert written.keys() == METHODS.keys()
    for method, numbers in written.items():
        totals = costs.FORMULAS[method](costs.build(method, 12, 32).config).totals()
        assert numbers == " | ".join(f"{totals[part]:,}" for part in ("text", "video", "pair", "released")), method


def test_the_published_column_is_a_few_inner_products():
    assert costs.PUBLISHED["x_clip"] / costs.PUBLISHED["glscl"] == pytest.approx(220.9)
    counted = costs.what_was_published(costs.build("glscl", 12, 32).config)
    assert counted.keys() == costs.PUBLISHED.keys()
    for method, printed in costs.PUBLISHED.items():
        assert sum(counted[method].values()) / 1000 == pytest.approx(printed, rel=1e-3, abs=0.03), method


def test_timing_times_and_takes_turns():
    order = []

    def call(name: str, seconds: float) -> Callable[[], None]:
        return lambda: (order.append(name), time.sleep(seconds))

    found = timing.alternate({"a": call("a", 0.03), "b": call("b", 0.01)}, rounds=4)
    assert order == ["a", "b"] * 5
    assert min(found["a"]) >= 0.03 > 2 * min(found["b"])
    assert timing.timed(call("a", 0.02))["seconds"] == pytest.approx(0.02, abs=0.01)
    assert len(timing.alternate({"slow": call("slow", 0.2)}, enough=0.01)["slow"]) == 1


def test_extrapolation_is_in_proportion():
    assert timing.extrapolate(0.2, 100, 1000) == pytest.approx(2.0)
    assert timing.extrapolate(0.2, 100, 100) == 0.2


@pytest.mark.parametrize("limits", [{"memory": 300 * 48 * 4}, {"limit": 0.0}])
def test_beyond_a_limit_times_are_extrapolated(limits):
    rows = mean_pooling_rows([100, 1_000, 10_000], **limits)
    first = rows[0]["seconds"]
    assert [row["repeats"] > 0 for row in rows] == [True, False, False]
    assert [row["seconds"] for row in rows] == pytest.approx([first, 10 * first, 100 * first])


def test_within_the_limits_every_gallery_is_measured():
    rows = mean_pooling_rows([50, 200_000])
    assert all(row["repeats"] for row in rows)
    assert rows[1]["seconds"] > 10 * rows[0]["seconds"]


def test_a_gallery_repeats_videos_in_memory_of_its_own():
    _, videos = timing.kept_states(small("glscl"))
    gallery = timing.repeated(videos, 40)
    assert timing.kept_bytes(gallery) == timing.kept_bytes(videos)
    assert gallery.frames.untyped_storage().nbytes() == 40 * 3 * 48 * 4
    torch.testing.assert_close(gallery.frames[39], videos.frames[39 % timing.ITEMS])


@pytest.mark.skipif(sys.platform != "linux" or torch.cuda.is_available(), reason="reads the resident set of Linux")
def test_peak_memory_sees_what_is_freed_again():
    data = torch.zeros(10_000_000)
    assert timing.peak_memory(lambda: (data + 1).sum()) == pytest.approx(40e6, rel=0.1)


@pytest.mark.parametrize(
    ("number", "text"), [(44_112.0, "44,100"), (0.008621, "0.00862"), (1.0, "1"), (3092, "3,090"), (0.0, "0")]
)
def test_numbers_are_never_powers(number, text):
    assert significant(number) == text


def test_extrapolated_times_are_dashed():
    rows = pd.DataFrame({"method": "glscl", "size": "s", "gallery": [10, 100, 1000], "seconds": [0.1, 1.0, 10.0]})
    rows = rows.assign(low=rows["seconds"], high=rows["seconds"], repeats=[3, 3, 0])
    lines = {trace.line.dash: trace for trace in latency(rows, {"s": 0.5}).data}
    assert list(lines["solid"].x) == [10, 100]
    assert list(lines["dash"].x) == [100, 1000]
    assert list(lines["dot"].y) == [500, 500]


def test_shares_sum_to_the_whole_and_missing_dots_stay_away():
    rows = pd.DataFrame({"method": ["a", "b"], "gallery": 10, "x": [1.0, 2.0], "y": [3.0, 2.0]})
    bars = [trace for trace in shares(rows, ["x", "y"]).data if trace.type == "bar"]
    assert [sum(values) for values in zip(*(bar.x for bar in bars), strict=True)] == [100, 100]
    table = pd.DataFrame({"published": [None, 2.0], "exact": [1.0, 3.0]}, index=["a", "b"])
    dots = [trace for trace in on_a_log_scale(table, "MACs").data if trace.mode == "markers"]
    assert [sum(x == x for x in trace.x) for trace in dots] == [1, 2]

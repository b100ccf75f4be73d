"""Costs: formulas equal torch's counter, the releases' procedures give our scores, clocks and memory measure.

Heads are small here; the notebook counts at full size, and fails where formula and counter differ.
"""

import json
import re
import sys
import time
from collections.abc import Callable

import pandas as pd
import pytest
import torch
from torch import nn
from transformers import CLIPConfig

from glscl.files import write_json
from glscl.methods import METHODS
from glscl.report.figures.costs import latency, on_a_log_scale, shares
from glscl.report.page import significant
from glscl.rivals.mean_pooling import MeanPoolingHead
from glscl.study import costs, counting, formulas, released_computation, timing
from tests import ROOT
from tests.conftest import TINY_CLIP

SMALL = {"frames": 3, "words": 7, "width": 48, "temporal_layers": 1}
TINY_TEXT = TINY_CLIP["text_config"] | {"max_position_embeddings": 64}
OWN = {"glscl": {"num_queries": 5, "decoder_layers": 2}, "cross_encoder": {"cross_layers": 3}}


def small(method: str, **settings):
    torch.manual_seed(0)
    return counting.build(method, **SMALL | OWN.get(method, {}) | settings)


def small_clip():
    return counting.random_clip(CLIPConfig(**TINY_CLIP | {"text_config": TINY_TEXT}))


def mean_pooling_rows(sizes: list[int], memory: float = 1e9, limit: float = 10) -> list[dict]:
    head = small("mean_pooling")
    texts, videos = timing.random_embeddings(head)
    return timing.query_times(head, texts, lambda size: timing.repeated(videos, size), sizes, memory, limit)


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


def test_timing_times_and_takes_turns():
    order = []

    def call(name: str, seconds: float) -> Callable[[], None]:
        return lambda: (order.append(name), time.sleep(seconds))

    found = timing.alternate({"a": call("a", 0.03), "b": call("b", 0.01)}, rounds=4)
    assert order == ["a", "b"] * 5
    assert min(found["a"]) >= 0.03 > 2 * min(found["b"])
    assert timing.timed(call("a", 0.02))["seconds"] == pytest.approx(0.02, abs=0.01)
    assert len(timing.alternate({"slow": call("slow", 0.1)}, enough=0.04)["slow"]) == 2  # and one to warm up
    assert len(timing.alternate({"slower": call("slower", 0.1)}, enough=0.01)["slower"]) == 1
    assert (order.count("slow"), order.count("slower")) == (3, 1)


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
    _, videos = timing.random_embeddings(small("glscl"))
    gallery = timing.repeated(videos, 40)
    assert counting.embedding_bytes(gallery) == counting.embedding_bytes(videos)
    assert gallery.frames.untyped_storage().nbytes() == 40 * 3 * 48 * 4
    torch.testing.assert_close(gallery.frames[39], videos.frames[39 % timing.ITEMS])


@pytest.mark.skipif(sys.platform != "linux" or torch.cuda.is_available(), reason="reads the resident set of Linux")
def test_peak_memory_sees_what_is_freed_again():
    data = torch.zeros(5_000_000)
    assert timing.peak_memory(lambda: (data + 1).sum()) == pytest.approx(20e6, rel=0.1)


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
    rows = pd.DataFrame({"method": ["a", "b"], "gallery": 10, "x": [0.1, 2.0], "y": [0.3, 2.0], "repeats": [3, 0]})
    figure = shares(rows, ["x", "y"])
    assert figure.data[-1].text == ("4 s *", "400 ms")
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert [sum(values) for values in zip(*(bar.x for bar in bars), strict=True)] == [100, 100]
    table = pd.DataFrame({"published": [None, 2.0], "exact": [1.0, 3.0]}, index=["a", "b"])
    dots = [trace for trace in on_a_log_scale(table, "MACs").data if trace.mode == "markers"]
    assert [sum(x == x for x in trace.x) for trace in dots] == [1, 2]


def by_formula(head) -> dict[str, int]:
    """What `counting.count` finds, see `test_formulas_equal_the_counter`."""
    method = next(name for name, kind in METHODS.items() if kind.head_class is type(head))
    totals = formulas.FORMULAS[method](head.config).totals()
    return {part: totals[part] for part in ("text", "video", "pair")}


@pytest.fixture(scope="module")
def small_costs():
    """What the notebook counts and measures, of small heads, each timed once."""
    once = timing.alternate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "build", lambda head, frames, words: small(head))
        patch.setattr(costs, "random_clip", small_clip)
        patch.setattr(costs, "count", by_formula)
        patch.setattr(timing, "alternate", lambda calls, **_: once(calls, rounds=1))
        patch.setattr(timing, "peak_memory", lambda call: 1e6)
        counted = costs.count_costs([10, 1_000, 20_000])
        return counted, costs.measure_costs(counted, memory_gb=0.02, patience=0.05, blocks=1, threads=1)


def test_what_is_counted_holds_queries_and_ratios(small_costs):
    counted, _ = small_costs
    for head, sizes in counted["heads"].items():
        macs = {part: sum(terms.values()) for part, terms in sizes["short"]["macs"].items()}
        assert sizes["short"]["query"]["1000"] == macs["text"] + 1_000 * macs["pair"], head
        assert sizes["short"]["counted"] == {part: macs[part] for part in ("text", "video", "pair")}
    over, clip = counted["over_glscl"]["x_clip"], counted["clip"]["32 words"]
    ends = {head: clip + counted["heads"][head]["short"]["query"]["20000"] for head in ("x_clip", "glscl")}
    assert over["end_to_end"]["20000"] == ends["x_clip"] / ends["glscl"]
    assert over["published"] == pytest.approx(220.9)
    assert counted["heads"]["mean_pooling"]["short"]["bytes"] == {"text": 48 * 4, "video": 48 * 4}


def test_a_formula_that_differs_from_the_counter_is_an_error(monkeypatch):
    monkeypatch.setattr(costs, "build", lambda head, frames, words: small(head))
    wrong = formulas.mean_pooling(small("mean_pooling").config)._replace(pair={"cosine": 1})
    monkeypatch.setitem(formulas.FORMULAS, "glscl", lambda config: wrong)
    with pytest.raises(ValueError, match="the formula of glscl, short should give what torch counts"):
        costs.count_costs([10])


def test_what_is_measured_stands_apart_and_says_what_is_extrapolated(small_costs):
    counted, measured = small_costs
    rows = costs.query_rows(measured)
    assert len(rows) == len(costs.HEADS) * 2 * 3
    far = set(rows.loc[(rows["size"] == "short") & (rows["repeats"] == 0) & (rows["gallery"] == 20_000), "method"])
    assert "glscl" in far  # 20,000 videos of GLSCL do not fit 20 MB
    assert all(one["extrapolated"] for one in measured["over_glscl"].values())
    assert not {"query", "macs", "bytes"} & measured["heads"]["glscl"]["short"].keys()
    assert {"hardware", "commit", "threads"} < measured.keys()
    assert not {"hardware", "commit", "seconds"} & counted.keys()


def test_answer_and_details_are_short(small_costs):
    counted, measured = small_costs
    assert "On this machine" in measured["answer"]
    sentences = [measured["answer"], *measured["details"], *counted["details"]]
    assert {len(sentence.split()) <= 25 for sentence in sentences} == {True}, [len(s.split()) for s in sentences]


def test_tables_are_the_same_from_files(small_costs, tmp_path):
    for part, name in zip(small_costs, ("counted.json", "measured.json"), strict=True):
        write_json(tmp_path / name, part, digits=17)
    counted, measured = (json.loads((tmp_path / name).read_text()) for name in ("counted.json", "measured.json"))
    of_both = costs.comparison_table(counted, measured)
    pd.testing.assert_frame_equal(of_both, costs.comparison_table(*small_costs), check_like=True)
    assert of_both["time, query of 20,000"].str.endswith(" *").all()
    assert list(costs.work_table(*small_costs[:1], "long")["head"]) == costs.HEADS
    assert set(costs.terms_table(counted)["term"]) >= {"concept decoder", "discarded weighting net"}
    assert costs.pair_chart(counted)["exact"].is_monotonic_increasing
    assert costs.pair_chart(counted)["published, x 1,000"].notna().sum() == len(costs.PUBLISHED)
    assert set(costs.published_table(counted)["published"]) == {str(printed) for printed in costs.PUBLISHED.values()}
    assert len(costs.search_table(counted)) == len(costs.throughput_table(measured, "short")) == len(costs.HEADS)
    assert costs.matrix_table(measured).set_index("way").at["glscl, exact", "times the exact way"] == "1"
    assert "12 frames" in costs.indexing(measured)
    latency(*costs.latency_data(measured))
    shown, parts = costs.share_data(measured)
    assert set(shown["gallery"]) == {1_000}
    assert shown[parts].sum(axis=1).to_numpy() == pytest.approx(shown["total"].to_numpy())


def test_galleries_that_tables_show():
    assert costs.shown_galleries([100, 1_000, 10_000]) == [1_000, 10_000]
    assert costs.shown_galleries(["5000", "20000"]) == [5_000, 20_000]
    assert costs.shown_galleries([100]) == [100]

"""Times over restarts: intervals, ratios within a restart, extrapolation, tables, figures, and the answer."""

import json
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from glscl.files import write_json
from glscl.report.figures import costs as figures
from glscl.report.names import head_name
from glscl.study import measured_costs as measured
from glscl.study.costs import HEADS
from glscl.study.restarts import BATCH, MATRIX, Plan
from tests.study.small_heads import count_small

PLAN = Plan(HEADS, ["short"], [10, 1_000, 20_000], [5, 50], 1.0, 0.1, 1, 1)
SPEED = (1.0, 3.0, 2.0)  # of the machine in each restart, the higher the slower
SECONDS = {"glscl": 1e-6, "x_clip": 4e-6, "cross_encoder": 1e-2}  # of a pair; of the others 2e-6
WAYS = {"glscl, as released": 90.0, "glscl, exact": 1.0, "glscl, concepts decoded once": 2.0}
WAYS |= {"glscl, decoding every item once": 0.5, "x_pool, as released": 30.0, "x_pool, exact": 1.0}


def made_up() -> pd.DataFrame:
    """Rows of restarts in which everything is slower by the same factor; 20,000 videos are measured by none."""
    rows = []
    for restart, speed in enumerate(SPEED):

        def row(head, what, videos, value, restart=restart, speed=speed):
            fields = {"restart": restart, "head": head, "size": "short", "what": what, "videos": videos}
            rows.append(fields | {"value": value * (1 if what == "peak_memory" else speed)})

        for head in HEADS:
            pair = SECONDS.get(head, 2e-6)
            row(head, "text", 1, 0.01), row(head, "texts", 1, 0.005), row(head, "videos", 1, 0.02)
            for gallery in (10, 1_000):
                row(head, "search", gallery, gallery * pair)
                if head != "cross_encoder":
                    row(head, "batch", gallery, 0.5 * BATCH * gallery * pair)
            row(head, "rerank", 5, 5 * pair), row(head, "rerank", 50, 50 * pair), row(head, "peak_memory", 1_000, 5e6)
        for gallery in (10, 1_000, 20_000):
            row("mean_pooling", "first", gallery, gallery * 1e-7)
        row("clip", "text", 1, 0.04), row("clip", "texts", 1, 0.03), row("clip", "frames", 1, 0.1)
        for way, seconds in WAYS.items():
            row(way, "matrix", MATRIX, seconds)
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def counted():
    """What the notebook counts, of small heads."""
    return count_small(PLAN.galleries)


@pytest.fixture(scope="module")
def found(counted):
    """What the stage finds in made-up restarts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measured, "restarted", lambda plan, number, gpu=False: (made_up(), "a machine"))
        patch.setattr(measured.torch.cuda, "is_available", lambda: False)
        limits = {name: getattr(PLAN, name) for name in ("memory_gb", "patience", "blocks", "threads")}
        return measured.measure_costs(counted, len(SPEED), PLAN.sizes, PLAN.depths, **limits)[0]


def test_an_interval_is_a_t_interval_of_logarithms():
    values = np.array([1.0, 2.0, 4.0])
    found = measured.over_restarts(values, "ratio")
    half = stats.t.ppf(0.975, 2) * np.log(2) / np.sqrt(3)
    assert found == pytest.approx({"ratio": 2.0, "low": 2 * np.exp(-half), "high": 2 * np.exp(half)})
    turned = measured.over_restarts(1 / values, "ratio")
    assert turned["low"] == pytest.approx(1 / found["high"])


def test_a_slow_restart_widens_times_and_leaves_ratios(found):
    one = found["heads"]["glscl"]["short"]["queries"][1]
    assert one["seconds"] == pytest.approx(1e-3 * 6 ** (1 / 3))
    assert one["low"] < 0.6 * one["seconds"]
    ratio = found["over_glscl"]["x_clip"]["search"]
    assert [ratio[edge] for edge in ("ratio", "low", "high")] == pytest.approx([4, 4, 4])
    assert ratio["gallery"] == 1_000


def test_a_query_is_the_sum_of_its_parts(found):
    scale = 6 ** (1 / 3)
    one = found["heads"]["x_clip"]["short"]
    assert one["end_to_end"][1_000]["seconds"] == pytest.approx((0.04 + 0.01 + 4e-3) * scale)
    assert one["many"]["seconds"] == pytest.approx(BATCH * (0.03 + 0.005 + 0.5 * 10_000 * 4e-6) * scale)
    over = found["over_glscl"]["x_clip"]
    assert over["end_to_end"]["1000"] == pytest.approx(0.054 / 0.051)
    assert over["edges"]["1000"] == pytest.approx([0.054 / 0.051] * 2)
    rows, parts = measured.share_data(found)
    assert set(rows["gallery"]) == {1_000}
    total = rows.set_index("method").loc["x_clip", parts].sum()
    assert total == pytest.approx(one["end_to_end"][1_000]["seconds"])


def test_what_was_not_measured_is_in_proportion_and_says_so(found):
    queries = {row["gallery"]: row for row in found["heads"]["glscl"]["short"]["queries"]}
    assert queries[20_000]["seconds"] == pytest.approx(20 * queries[1_000]["seconds"])
    assert [queries[size]["repeats"] for size in PLAN.galleries] == [3, 3, 0]
    assert found["over_glscl"]["x_clip"]["extrapolated"] == [20_000]
    cross = found["heads"]["cross_encoder"]["short"]["batch"]
    assert not cross["together"]
    assert cross["seconds"] == pytest.approx(BATCH * 10_000 * 1e-2 * 6 ** (1 / 3))
    rows = made_up()
    without = rows[~((rows["what"] == "search") & (rows["videos"] == 1_000) & (rows["restart"] == 1))]
    assert measured.Times(without).known("glscl", "short", "search") == [10]  # one restart was too slow for 1,000
    alone = rows[(rows["what"] != "batch") | (rows["restart"] == 0)]
    assert measured.Times(alone).known("glscl", "short", "batch") == []  # two were too slow for any


def test_the_answer_begins_with_what_is_counted(counted, found):
    answer = found["answer"]
    assert answer.index("work per pair") < answer.index("timed")
    assert "published: 221" in answer
    assert "a search takes 4 times as long" in answer
    assert all(len(sentence.split()) <= 25 for sentence in [answer, *found["details"]])
    assert {"hardware", "commit", "threads", "restarts"} < found.keys()
    assert not {"query", "macs", "bytes"} & found["heads"]["glscl"]["short"].keys()


def test_tables_are_the_same_from_files(counted, found, tmp_path):
    write_json(tmp_path / "measured.json", found, digits=17)
    again = json.loads((tmp_path / "measured.json").read_text())
    for table in (measured.head_table, measured.comparison_table):
        of_memory, of_file = (table(counted, one).set_index("head").sort_index() for one in (found, again))
        pd.testing.assert_frame_equal(of_memory, of_file)
    assert list(measured.throughput_table(again, "short")["head"]) == list(map(head_name, sorted(HEADS)))
    ways = measured.matrix_table(again).set_index("way")
    assert ways.at["GLSCL, exact", "times the exact way"] == "1"
    assert "GLSCL, decoding every item once" not in ways.index
    assert "12 frames" in measured.clip_indexing(again)


def test_a_head_has_storage_rates_and_stars(counted, found):
    table = measured.head_table(counted, found).set_index("head")
    assert table.at["mean pooling", "GB per million videos"] == "0.192"  # 48 numbers of 4 bytes
    assert table.at["GLSCL", "query of 20,000, ms"].split()[0].endswith("*")
    assert "*" not in table.at["GLSCL", "query of 1,000, ms"]
    assert set(table["GPU"]) == {measured.NO_GPU}
    rate = float(table.at["GLSCL", "queries/s, one by one"].split()[0])
    assert rate == pytest.approx(1 / (0.051 * 6 ** (1 / 3)), rel=0.01)
    assert float(table.at["GLSCL", "minutes to index a million"].split()[0].replace(",", "")) == pytest.approx(
        1e6 * 0.02 * 6 ** (1 / 3) / 60, rel=0.01
    )


def test_a_gpu_has_columns_of_its_own(counted, monkeypatch):
    machines = {False: "a processor", True: "a GPU"}
    monkeypatch.setattr(measured, "restarted", lambda plan, number, gpu=False: (made_up(), machines[gpu]))
    monkeypatch.setattr(measured.torch.cuda, "is_available", lambda: True)
    limits = {name: getattr(PLAN, name) for name in ("memory_gb", "patience", "blocks", "threads")}
    found, single = measured.measure_costs(counted, 3, PLAN.sizes, PLAN.depths, **limits)
    assert (found["hardware"], found["gpu"]["hardware"]) == ("a processor", "a GPU")
    assert single.keys() == {"cpu", "gpu"}
    table = measured.head_table(counted, found)
    assert table["GPU: query of 1,000, ms"].equals(table["query of 1,000, ms"])


def test_bars_are_published_counted_and_timed(counted, found):
    bars = measured.ratio_bars(counted, found).set_index("name")
    assert bars["source"].tolist() == ["published", "counted", "counted", *["timed"] * 4]
    assert bars.at["published", "ratio"] == pytest.approx(220.9)
    assert bars.at["one search, 1,000 videos", "ratio"] == pytest.approx(4)
    assert "end to end, 20,000 videos*" in bars.index
    assert set(measured.ratio_bars(counted, {})["source"]) == {"published", "counted"}


def test_bars_begin_at_one_on_both_drawings():
    bars = pd.DataFrame({"name": ["a", "b"], "ratio": [10.0, 0.1], "low": [5.0, None], "high": [20.0, None]})
    bars["source"] = ["timed", "counted"]
    figure = figures.ratios(bars, "times")
    timed = next(trace for trace in figure.data if trace.name == figures.SAID["timed"])
    assert (timed.base, timed.x[0], timed.error_x.array[0], timed.error_x.arrayminus[0]) == (1, 9, 10, 5)
    assert figure.layout.xaxis.type == "log"
    drawing = figures.drawn_ratios(bars, "Ratios & more")
    svg = drawing.svg(alone=True)
    assert "Ratios &amp; more" in svg
    assert drawing.description == "a 10; b 0.1"
    dots = [float(part.split('cx="')[1].split('"')[0]) for part in drawing.parts if part.startswith("<circle")]
    rule = next(float(part.split('x1="')[1].split('"')[0]) for part in drawing.parts if 'class="rule"' in part)
    assert dots[0] - rule == pytest.approx(rule - dots[1], abs=0.2)  # a factor of ten to either side


def test_extrapolated_times_are_dashed_and_open():
    rows = pd.DataFrame({"method": "glscl", "size": "s", "gallery": [10, 100, 1000], "seconds": [0.1, 1.0, 10.0]})
    rows = rows.assign(low=rows["seconds"], high=rows["seconds"], repeats=[3, 3, 0])
    lines = {trace.line.dash: trace for trace in figures.latency(rows, {"s": 0.5}).data}
    assert list(lines["solid"].x) == [10, 100]
    assert list(lines["dash"].x) == [100, 1000]
    assert list(lines["dot"].y) == [500, 500]
    stages = pd.DataFrame({"method": "glscl", "depth": ["50", "exact scan"], "seconds": [0.1, 1.0], "kept": [90, 100]})
    [line] = figures.two_stages({1_000: stages.assign(r1=40.0, repeats=[3, 0])}).data
    assert list(line.marker.symbol) == ["circle", "star-open"]
    assert (list(line.x), list(line.y)) == ([100, 1000], [90, 100])


def test_shares_sum_to_the_whole_and_missing_dots_stay_away():
    rows = pd.DataFrame({"method": ["a", "b"], "gallery": 10, "x": [0.1, 2.0], "y": [0.3, 2.0], "repeats": [3, 0]})
    figure = figures.shares(rows, ["x", "y"])
    assert figure.data[-1].text == ("4 s *", "400 ms")
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert [sum(values) for values in zip(*(bar.x for bar in bars), strict=True)] == [100, 100]
    table = pd.DataFrame({"published": [None, 2.0], "exact": [1.0, 3.0]}, index=["a", "b"])
    dots = [trace for trace in figures.on_a_log_scale(table, "MACs").data if trace.mode == "markers"]
    assert [sum(x == x for x in trace.x) for trace in dots] == [1, 2]


def test_every_head_has_a_row_at_every_gallery(found):
    rows = measured.query_rows(found)
    assert set(zip(rows["method"], rows["gallery"], strict=True)) == set(product(HEADS, PLAN.galleries))
    titled, encoder = measured.latency_data(found)
    assert set(titled["size"]) == set(encoder)

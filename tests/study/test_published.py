"""The published rows: complete, marked by their rule, and never mixed."""

import pandas as pd
import pytest

from glscl.data.corpora.counts import COUNTED
from glscl.study.published import BENCHMARKS, FIVE, TEST_VIDEOS, benchmark_of, comparable, marks, own_tables, published
from tests import ROOT

PATH = ROOT / "results/published.csv"


@pytest.fixture(scope="module")
def table():
    return published(PATH)


@pytest.mark.parametrize(
    ("postprocess", "expected"),
    [
        ("none", ("no", False)),
        ("QB-Norm", ("no", True)),
        ("DSL (uses all test queries)", ("no", True)),
        ("leaky-eval (T-MASS code)", ("yes", False)),
        ("suspect (T-MASS code lineage)", ("suspected", False)),
    ],
)
def test_the_rule_that_marks_a_row(postprocess, expected):
    assert marks(postprocess) == expected


def test_every_row_of_the_released_t_mass_evaluation_is_marked_and_left_out(table):
    released = table[table["method"].isin(["T-MASS", "T-MASS (released eval, re-run)"])]
    assert len(released) == 11
    assert set(released["leak"]) == {"yes"}
    assert not set(released.index) & set(comparable(table).index)
    corrected = table[table["method"].str.contains("correct pairing")]
    assert set(corrected.index) <= set(comparable(table).index)


def test_a_comparable_row_is_neither_processed_nor_leaking(table):
    rows = comparable(table)
    assert len(rows) > 200
    assert set(rows["postprocess"]) == {"none"}
    assert set(rows["direction"]) == {"t2v"}
    assert {"QB-Norm", "Sinkhorn-Knopp with train texts"} <= set(table.loc[table["post_processed"], "postprocess"])


def test_values_are_percentages_and_recalls_rise_with_k(table):
    recalls = table[["r1", "r5", "r10"]]
    assert recalls.stack().dropna().between(0, 100).all()
    assert not ((table["r1"] > table["r5"]) | (table["r5"] > table["r10"]) | (table["r1"] > table["r10"])).any()
    assert set(table["direction"]) == {"t2v", "v2t"}


def test_the_papers_own_tables_hold_glscl_on_five_benchmarks(table):
    for benchmark in FIVE:
        own, best = own_tables(table, benchmark)
        assert own["method"] == "GLSCL"
        assert best["backbone"] == own["backbone"]
    with pytest.raises(ValueError, match=r"VATEX with ViT-B/32, got 0 and 0; restore"):
        own_tables(table, "VATEX")


def test_every_benchmark_is_a_corpus_that_can_be_read():
    assert set(BENCHMARKS) == {name for name, _ in COUNTED}
    assert set(FIVE) <= set(BENCHMARKS.values())


def test_a_damaged_table_is_refused(table, tmp_path):
    raw = pd.read_csv(PATH)
    raw.drop(columns="source").to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ValueError, match="must have the columns"):
        published(tmp_path / "a.csv")
    raw.loc[3, "source"] = None
    raw.to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(ValueError, match=r"needs r1, postprocess and source, got none in \[5\]"):
        published(tmp_path / "b.csv")


def test_a_part_of_a_gallery_or_a_clip_from_scratch_is_no_benchmark():
    five = {benchmark: TEST_VIDEOS[benchmark] for benchmark in FIVE}
    assert five == {"MSR-VTT-1kA": 1_000, "MSVD": 670, "DiDeMo": 1_004, "LSMDC": 1_000, "ActivityNet": 4_917}
    assert benchmark_of("msrvtt", 1_000, "finetuned") == "MSR-VTT-1kA"
    assert benchmark_of("msrvtt", 999, "finetuned") == "none"
    assert benchmark_of("msrvtt", 2_990, "finetuned") == "none"
    assert benchmark_of("msrvtt", 1_000, "scratch") == "none"
    assert benchmark_of("scenes", 1_000, "frozen") == "none"

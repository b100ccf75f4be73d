"""The published rows: complete, marked by their rule, and never mixed."""

import numpy as np
import pandas as pd
import pytest

from glscl.data.corpora.counts import COUNTED
from glscl.study.published import (
    BENCHMARKS,
    FIVE,
    TEST_VIDEOS,
    benchmark_of,
    comparable,
    headline_among_sweeps,
    largest_of_many,
    marks,
    near_headline,
    own_tables,
    published,
    sweeps,
)
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


def test_the_papers_sweeps_are_forty_settings_and_share_their_headline(table):
    swept = sweeps(table)
    counts = swept.groupby(["direction", "parameter"]).size()
    assert counts["t2v"].to_dict() == counts["v2t"].to_dict() == {"N_L": 4, "N_q": 5, "alpha": 8, "beta": 12, "xi": 11}
    headline = swept[swept["headline"] & (swept["direction"] == "t2v")].set_index("parameter")
    assert headline["value"].to_dict() == {"N_L": 3, "N_q": 8, "alpha": 1e-4, "beta": 0.005, "xi": 0.5}
    assert set(headline["r1"]) == {48.1}
    assert swept.loc[swept["headline"], "r1"].nunique() == 2  # one value per direction
    other = table["method"].str.startswith("GLSCL ablation xi=0.5")
    with pytest.raises(ValueError, match="should all have the main result as their best"):
        sweeps(table.assign(r1=table["r1"].mask(other, 99.0)))


def test_settings_near_the_headline_are_chosen_by_their_parameters_alone(table):
    swept = sweeps(table)
    near = near_headline(swept, 10)
    assert set(near["direction"]) == {"t2v"}
    assert not near["headline"].any()
    assert near["value"].min() > 0
    assert sorted(near.loc[near["parameter"] == "alpha", "value"]) == [5e-5, 1e-3]
    assert sorted(near.loc[near["parameter"] == "beta", "value"]) == [0.01, 0.02, 0.03, 0.04, 0.05]
    shuffled = swept.assign(r1=swept["r1"].sample(frac=1, random_state=0).to_numpy())
    assert near_headline(shuffled, 10).index.equals(near.index)
    assert len(near_headline(swept, 2)) < len(near) < len(near_headline(swept, 1e9)) == 32


def test_the_largest_of_many_agrees_with_draws():
    values = np.array([46.0, 47.0, 48.0, 47.5, 46.5])
    found = largest_of_many(values, 48.5)
    drawn = np.random.default_rng(0).normal(values.mean(), values.std(ddof=1), (200_000, 6)).max(1)
    assert found.settings == 5
    assert found.expected == pytest.approx(drawn.mean(), abs=0.01)
    assert found.p == pytest.approx((drawn >= 48.5).mean(), abs=0.005)
    assert largest_of_many(values + 1, 49.5).p == pytest.approx(found.p)
    assert largest_of_many(values, 99).p == pytest.approx(0)
    with pytest.raises(ValueError, match="two settings or more, got 1"):
        largest_of_many([47.0], 48.0)


def test_the_headline_is_what_the_largest_of_such_settings_would_be(table):
    found = headline_among_sweeps(table)
    assert found.settings == len(near_headline(sweeps(table)))
    assert found.headline == 48.1
    assert abs(found.expected - found.headline) < found.sd
    assert found.p > 0.05

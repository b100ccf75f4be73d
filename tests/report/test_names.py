"""What pages call methods and heads."""

import pandas as pd

from glscl.report import names
from glscl.report.markdown import table_markdown
from glscl.report.names import head_name, name_of, named
from glscl.report.tables import results_html
from glscl.study.costs import HEADS
from glscl.study.parameters import load_params
from tests import ROOT


def test_every_method_of_the_study_has_a_name_of_its_own():
    methods = load_params(ROOT)["methods"]
    assert methods.keys() <= names.NAMES.keys()
    assert len({name_of(method) for method in methods}) == len(methods)


def test_every_head_has_a_name_without_what_tells_methods_apart():
    found = [head_name(head) for head in HEADS]
    assert len(set(found)) == len(HEADS)
    assert not [name for name in found if "_" in name or "," in name]


def test_a_name_in_doubt_stays_as_it_is():
    assert name_of("my_head") == head_name("my_head") == "my_head"
    for name in map(name_of, names.NAMES):
        assert name_of(name) == head_name(name) == name  # what is named already stays


def test_a_head_is_no_method():
    assert (name_of("x_pool"), head_name("x_pool")) == ("X-Pool, as published", "X-Pool")


def test_a_remark_after_a_name_stays():
    assert head_name("mean_pooling, exact") == "mean pooling, exact"
    assert name_of("glscl, last epoch") == "GLSCL, last epoch"
    assert list(named(pd.DataFrame({"scores": ["x_clip, torch.float16"]}))["scores"]) == ["X-CLIP, torch.float16"]


def test_a_table_names_methods_where_it_holds_methods():
    table = pd.DataFrame({"method": ["x_clip", "my_head", None], "dataset": ["drl"] * 3, "glscl": [1.0, 2.0, 3.0]})
    found = named(table)
    assert list(found) == ["method", "dataset", "GLSCL"]
    assert found["method"].fillna("none").tolist() == ["X-CLIP", "my_head", "none"]
    assert found["dataset"].tolist() == ["drl"] * 3
    assert table["method"][0] == "x_clip"  # the table itself keeps its ids
    pd.testing.assert_frame_equal(named(found), found)


def test_tables_of_pages_and_documents_name_methods():
    table = pd.DataFrame({"head": ["clip4clip_seqTransf", "glscl"], "R@1": [40.0, 41.0]})
    bold = pd.DataFrame({"head": [False, False], "R@1": [False, True]})
    own = '<tr class="own"><td class="text">GLSCL</td><td class="number"><b>41.0</b></td>'
    assert own in results_html(table, bold=bold)
    assert "| CLIP4Clip | 40.0 |\n| GLSCL | **41.0** |" in table_markdown(table, bold)

"""The graph of the pipeline: what reads from what, and that the committed drawing is current."""

from glscl.study import dag
from glscl.study.parameters import load_stages
from tests import ROOT

STAGES = load_stages(ROOT)


def test_every_kind_of_stage_stands_once_with_what_it_reads():
    graph = dag.reads(STAGES)
    assert graph["train"] == {"features", "encode"}
    assert graph["report"] == {"ledger"}
    assert graph["encode"] == {"prepare"}, "features are of other corpora"
    assert graph["check"] == graph["features"] == set()
    assert not [name for name in graph if name.startswith(("full_", "videos_", "own_"))]


def test_an_arrow_that_others_imply_is_left_out():
    stages = {
        "a": {"outs": ["work/${item.dataset}/a"]},
        "b": {"deps": ["work/${item.dataset}"], "outs": [{"work/b.json": {"cache": False}}]},
        "c": {"deps": ["work/b.json", "work/${item.dataset}/a/file"], "metrics": ["c.json"]},
        "full_c": {"deps": ["c.json"]},
    }
    assert dag.reads(stages) == {"a": set(), "b": {"a"}, "c": {"b"}}


def test_the_drawing_fits_a_page_and_is_current():
    made = dag.drawing(STAGES)
    assert made.width < 1200
    assert made.svg(alone=True) == (ROOT / dag.FILE).read_text(encoding="utf-8"), "run make dag"

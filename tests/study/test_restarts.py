"""What a restart times, within which limits, and that every restart is a process of its own."""

import pandas as pd
import pytest

from glscl.study import restarts, timing
from tests.study.small_heads import small, small_clip

PLAN = restarts.Plan(["glscl", "mean_pooling", "x_pool"], ["short"], [10, 200], [5, 20], 1.0, 5.0, 1, 1)


@pytest.fixture
def restart(monkeypatch):
    """restart(number, **changes to the plan) -> rows of small heads, each call made once."""
    once = timing.alternate
    monkeypatch.setattr(timing, "alternate", lambda calls, **_: once(calls, rounds=1))
    monkeypatch.setattr(restarts, "build", lambda head, frames, words: small(head))
    monkeypatch.setattr(restarts, "plain_clip", small_clip)
    monkeypatch.setattr(restarts, "SIZES", {"short": (3, 7)})
    monkeypatch.setattr(restarts, "peak_memory", lambda call: 1e6)
    return lambda number=0, **changes: pd.DataFrame(restarts.one_restart(PLAN._replace(**changes), number))


def test_a_restart_times_everything_of_every_head(restart):
    rows = restart()
    assert (rows["value"] > 0).all()
    for head in PLAN.heads:
        own = rows[rows["head"] == head].groupby("what")["videos"].agg(list).to_dict()
        expected = {"text": [1], "texts": [1], "videos": [1], "search": [10, 200], "batch": [10, 200]}
        expected |= {"rerank": [5, 20], "peak_memory": [200]} | ({"first": [10, 200]} if head == "mean_pooling" else {})
        assert own == expected, head
    assert set(rows.loc[rows["head"] == "clip", "what"]) == {"text", "texts", "frames"}
    assert "glscl, as released" in set(rows.loc[rows["what"] == "matrix", "head"])


def test_heads_take_turns_and_each_restart_begins_with_another(restart):
    for number, first in ((0, "glscl"), (1, "mean_pooling"), (4, "mean_pooling")):
        order = restart(number)
        order = order.loc[order["what"] == "text", "head"].tolist()
        assert order[0] == first
        assert sorted(order[:3]) == sorted(PLAN.heads)


def test_what_is_too_large_or_too_slow_is_not_timed(restart):
    small_memory = restart(memory_gb=1e-6)
    assert set(small_memory.loc[small_memory["what"] == "search", "videos"]) == {10}
    hasty = restart(patience=0.0)
    assert set(hasty.loc[hasty["what"].isin(["search", "rerank", "first"]), "videos"]) == {5, 10}
    assert not (hasty["what"] == "batch").any()  # 64 of them would take longer than patience allows


STUB = """
import json, os, sys
given = json.loads(sys.argv[1])
sys.exit("no memory left") if given["plan"]["threads"] > 8 else None
print("a warning")
row = {"head": "glscl", "size": "short", "what": "text", "videos": 1, "value": os.getpid()}
print(json.dumps({"hardware": os.environ.get("CUDA_VISIBLE_DEVICES", "any"), "rows": [row]}))
"""


def test_every_restart_is_a_process_of_its_own(monkeypatch, tmp_path):
    (tmp_path / "stub.py").write_text(STUB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(restarts, "__name__", "stub")
    rows, machine = restarts.restarted(PLAN, 3)
    assert rows["restart"].tolist() == [0, 1, 2]
    assert rows["value"].nunique() == 3
    assert machine == ""  # these processes see no GPU
    assert restarts.restarted(PLAN, 1, gpu=True)[1] == "any"
    with pytest.raises(RuntimeError, match=r"got 1 and 'no memory left'; where memory was short, lower"):
        restarts.restarted(PLAN._replace(threads=9), 1)


@pytest.mark.slow
def test_a_process_measures_at_full_size():
    plan = PLAN._replace(heads=["mean_pooling"], galleries=[10], patience=0.01)
    rows, machine = restarts.restarted(plan, 1)
    assert {"clip", "mean_pooling"} == set(rows["head"])
    assert machine

"""What the ledger rests on: findings and their verdicts, results that are read, and the places that show them."""

import json
import re
import shutil

import pytest
import torch

from glscl.study.evidence import SHOWN, Finding, best_published, parameters, read_evidence
from glscl.study.published import FIVE, published
from tests import ROOT
from tests.study import made_up


@pytest.mark.parametrize(
    ("value", "low", "high", "threshold", "direction", "verdict", "changes_at"),
    [
        (2.0, 1.0, 3.0, 0.5, "above", "supported", [1.0]),
        (2.0, 1.0, 3.0, 1.0, "above", "not decided here", [1.0, 3.0]),
        (2.0, 1.0, 3.0, 3.0, "above", "contradicted", [3.0]),
        (2.0, 1.0, 3.0, 3.5, "below", "supported", [3.0]),
        (2.0, 1.0, 3.0, 2.0, "below", "not decided here", [1.0, 3.0]),
        (2.0, 1.0, 3.0, 0.5, "below", "contradicted", [1.0]),
        (-0.5, -1.0, 0.0, 0.0, "above", "contradicted", [0.0]),
        (0.0, None, None, 1.0, "below", "supported", [0.0]),
        (1.0, None, None, 1.0, "below", "contradicted", [1.0]),
        (0.2, -0.5, 0.9, 1.0, "within", "supported", [0.9]),
        (0.2, -1.5, 1.9, 1.0, "within", "not decided here", [1.9]),
        (2.0, 0.5, 3.5, 1.0, "within", "not decided here", [0.5, 3.5]),
        (-2.0, -3.0, -1.0, 1.0, "within", "contradicted", [1.0]),
        (2.0, 1.5, 2.5, 1.0, "within", "contradicted", [1.5]),
    ],
)
def test_verdicts_by_hand(value, low, high, threshold, direction, verdict, changes_at):
    found = Finding("x", value, "costs.heads", low, high, threshold=threshold, direction=direction)
    assert found.verdict() == verdict
    assert found.changes_at() == changes_at
    for edge in changes_at:
        around = [found._replace(threshold=edge + step).verdict() for step in (-1e-6, 1e-6)]
        assert around[0] != around[1]


def test_weights_are_counted_where_the_global_score_depends_on_them(make_model, features):
    head = make_model(temporal_layers=1).head
    given = features["sentence"], features["frames"], features["frame_mask"]
    found = parameters(head, *given)
    assert found["global interaction"] == 0
    assert found["temporal encoder"] == sum(p.numel() for p in head.temporal.parameters())
    assert found["local interaction"] == sum(p.numel() for p in head.local.parameters())
    gate = torch.nn.Linear(32, 32)
    head.add_module("gate", gate)
    encode = head.encode_videos
    head.encode_videos = lambda frames, mask: encode(gate(frames), mask)
    assert parameters(head, *given)["global interaction"] == 32 * 33


def test_missing_results_name_the_stage_to_run(tmp_path):
    shutil.copy(ROOT / "results/published.csv", tmp_path)
    made_up.write(tmp_path / "dev", {"costs": made_up.costs()})
    made_up.write(tmp_path / "dev/scenes", made_up.questions())
    every = set(made_up.questions())
    found = read_evidence("dev", ["scenes"], ["scenes"], made_up.WEIGHTS, tmp_path)
    assert set(found.corpora["scenes"]) == every
    assert found.measured_costs == {}
    asked_elsewhere = read_evidence("dev", ["scenes"], ["facets"], made_up.WEIGHTS, tmp_path)
    assert set(asked_elsewhere.corpora["scenes"]) == {"metrics", "concepts", "benchmarks"}
    made_up.write(tmp_path / "measured/dev", {"costs": made_up.measured_costs()})
    assert read_evidence("dev", [], [], made_up.WEIGHTS, tmp_path).measured_costs["hardware"] == "one core"
    for name in every - {"metrics"}:
        (tmp_path / f"dev/scenes/{name}.json").unlink()
    assert set(read_evidence("dev", ["scenes"], ["scenes"], made_up.WEIGHTS, tmp_path).corpora["scenes"]) == {"metrics"}
    (tmp_path / "dev/scenes/metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"metrics\.json, which is absent; run the stage evaluate of scenes\."):
        read_evidence("dev", ["scenes"], [], made_up.WEIGHTS, tmp_path)
    (tmp_path / "dev/costs.json").unlink()
    with pytest.raises(FileNotFoundError, match="run the stage costs"):
        read_evidence("dev", [], [], made_up.WEIGHTS, tmp_path)


def test_published_rows_are_listed_by_benchmark():
    found = best_published(published(ROOT / "results/published.csv")).set_index("benchmark")
    assert set(FIVE) < set(found.index)
    assert found.loc["MSR-VTT-1kA", "best other of its tables"].endswith("Prompt Switch")
    assert found.loc[list(FIVE), "GLSCL"].notna().all()


@pytest.mark.parametrize("result", SHOWN)
def test_every_place_is_a_caption_of_its_page(result):
    place = SHOWN[result]
    cells = json.loads((ROOT / f"notebooks/{place.page}.ipynb").read_text(encoding="utf-8"))["cells"]
    text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    captions = [" ".join(caption.split()) for caption in re.findall(r"^\*((?:Figure|Table).*?)\*$", text, re.M | re.S)]
    named = [caption for caption in captions if names(caption, place.figure)]
    assert len(named) == 1, f"{place.page} should have one caption of {place.figure}, got {named}"
    assert place.caption in named[0], f"{place.figure} of {place.page} is about something else; correct SHOWN"


def names(caption: str, figure: str) -> bool:
    """Whether a caption, "Figure 1 and Table 4. ..." or "Tables 3 and 4. ...", is that of a figure or table."""
    kind, number = figure.split()
    return re.search(rf"\b{kind}s? (\d+ and )?{number}\b", caption.partition(".")[0]) is not None

"""Every head agrees with the code of its release: scores, training loss and gradients, with and without padding."""

import pytest
import torch

from glscl.methods import METHODS
from glscl.model import GLSCL
from glscl.rivals.x_clip import XCLIP
from tests import ROOT
from tests.released.reference import BOUND, CASES, FOLDER, about, difference, has_padding, heads, weights

HEADS = heads()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("head", HEADS)
def test_scores_loss_and_gradients_are_those_of_the_release(head, case):
    found = difference(head, case)
    assert max(found.scores, found.loss) <= BOUND
    assert found.gradient <= 2 * BOUND  # GLCCL's own rounding in float32 is of this size


@pytest.mark.parametrize("head", [head for head in HEADS if has_padding(head)])
def test_masked_padding_departs_from_the_release_only_where_there_is_padding(head):
    assert difference(head, "full", padding="masked").scores <= BOUND
    assert difference(head, "padded", padding="masked").scores > 100 * BOUND


def test_every_method_with_public_code_has_a_reference():
    assert {about(head)["method"] for head in HEADS} == set(METHODS)


@pytest.mark.parametrize("head", HEADS)
def test_a_reference_is_small_and_says_how_it_was_made(head):
    assert (FOLDER / f"{head}.npz").stat().st_size <= 100_000
    made = {"repository", "commit", "file", "arguments", "method", "settings", "shapes"}
    assert made <= about(head).keys() <= made | {"precision", "loss"}


def test_the_page_shows_every_head():
    shown = (ROOT / "docs/parity.md").read_text()
    cells = [line.split("|")[1].strip() for line in shown.splitlines() if line.startswith("| ")]
    assert cells == ["head", "---", *HEADS]


def released(head):
    return weights(about(head)["shapes"])


def test_weights_of_several_gpus_load_too():
    plain = GLSCL.from_released(released("glscl"))
    parallel = GLSCL.from_released({f"module.{name}": value for name, value in released("glscl").items()})
    torch.testing.assert_close(parallel.state_dict(), plain.state_dict())


def test_a_setting_that_contradicts_the_weights_is_refused():
    with pytest.raises(ValueError, match="num_queries is 4 in the weights, got 8"):
        GLSCL.from_released(released("glscl"), num_queries=8)
    with pytest.raises(ValueError, match="words is 8 in the weights, got 32"):
        XCLIP.from_released(released("x_clip"), words=32)
    with pytest.raises(ValueError, match=r"GLSCLConfig has no temprature; it has .*temperature"):
        GLSCL.from_released(released("glscl"), temprature=3.0)


@pytest.mark.parametrize("head", HEADS)
def test_weights_that_are_missing_or_unknown_are_refused(head):
    method, given = METHODS[about(head)["method"]], released(head)
    with pytest.raises(ValueError, match="proto"):
        method.from_released(given | {"proto.weight": torch.zeros(1)})
    for missing in ("clip.logit_scale", next(name for name in given if name.startswith("clip.text_projection"))):
        with pytest.raises(ValueError, match=r"is missing here; give the whole|name each weight of the model once"):
            method.from_released({name: value for name, value in given.items() if name != missing})

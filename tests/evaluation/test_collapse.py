"""What the losses see: terms that add up, gradients against autograd, and dropout that hides a collapse."""

import pytest
import torch
from torch.testing import assert_close

from glscl.encoding import encode_texts, encode_videos
from glscl.evaluation.collapse import HINGE, gradient_norms, loss_terms, rank_of_equal_cosines, seen
from glscl.evaluation.concepts import effective_rank


@pytest.fixture
def batch(features):
    return {name: tensor[:5] for name, tensor in features.items()}


@pytest.mark.parametrize("variant", ["released", "described"])
def test_the_terms_are_those_of_the_training_loss(make_model, batch, variant):
    model = make_model(variant=variant, diversity_weight=2.0, consistency_weight=0.3)
    pair = encode_texts(model, batch), encode_videos(model, batch)
    terms, whole = loss_terms(model, *pair), model.loss(*pair)
    assert_close(terms["moments"] + terms["target"], whole["inter_consistency"])
    assert_close(terms["diversity"], whole["intra_diversity"])
    assert_close(sum(terms.values()), whole["total"])


def test_a_gradient_is_that_of_its_term_alone_and_grows_with_its_weight(make_model, batch):
    model = make_model(diversity_weight=0.0, moment_weight=0.0, consistency_weight=0.0)
    pair = encode_texts(model, batch), encode_videos(model, batch)
    model.loss(*pair)["total"].backward()
    norm = torch.cat([p.grad.flatten() for p in model.head.parameters() if p.grad is not None]).norm().item()
    found = gradient_norms(model, batch)
    assert found["contrastive"] == pytest.approx(norm, rel=1e-4)
    assert found["moments"] == found["target"] == found["diversity"] == 0
    one, ten = (gradient_norms(make_model(consistency_weight=w), batch)["target"] for w in (0.1, 1.0))
    assert ten == pytest.approx(10 * one, rel=1e-4)
    assert not model.training


def test_dropout_keeps_the_cosine_of_alike_concepts_below_the_hinge(make_model, batch):
    model = make_model(dropout=0.5)
    with torch.no_grad():
        model.head.local.queries.copy_(model.head.local.queries[:1].expand(4, -1))  # one query four times
    state = torch.get_rng_state()
    found = seen(model, batch)
    assert torch.equal(torch.get_rng_state(), state)
    assert found.within_eval == pytest.approx(1, abs=1e-4)
    assert found.hinge_eval == pytest.approx(2 * (1 - HINGE), abs=1e-3)
    assert found.within_train < HINGE
    assert found.hinge_train < found.hinge_eval
    assert found == seen(model, batch)
    still = seen(make_model(dropout=0.0), batch)
    assert still.within_train == pytest.approx(still.within_eval, abs=1e-6)


@pytest.mark.parametrize("cosine", [0.0, 0.5, HINGE, 1.0])
def test_the_rank_of_equal_cosines_is_that_of_such_vectors(cosine):
    shared, own = torch.eye(9)[:1], torch.eye(9)[1:]
    vectors = cosine**0.5 * shared + (1 - cosine) ** 0.5 * own
    assert rank_of_equal_cosines(cosine, 8) == pytest.approx(effective_rank(vectors[None]).item(), abs=1e-4)

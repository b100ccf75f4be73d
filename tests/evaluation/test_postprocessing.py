"""Post-processing: plain loops as oracles, planted hubs, what changes nothing, what each needs, and faults."""

import math

import numpy as np
import pytest
from scipy.special import softmax

from glscl.encoding import encode_split
from glscl.evaluation import postprocessing
from glscl.evaluation.postprocessing import (
    POST_PROCESSING,
    RELEASED_QB_NORM,
    TOLERANCE,
    as_published,
    dual_softmax,
    normalised,
    post_processed,
    qb_norm,
)
from glscl.methods import METHODS as HEADS
from glscl.metrics import per_query, ranks, retrieval_metrics
from glscl.scoring import similarity_matrix
from tests import REAL

PUBLISHED = REAL / "similarity/msrvtt_video_matrix.npy"
METHODS = {
    "qb_norm": lambda scores, bank: qb_norm(scores, bank, 1, 70),
    "dual_softmax": lambda scores, bank: dual_softmax(scores),
    "normalised": lambda scores, bank: normalised(scores, bank, 50),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
with_a_bank = pytest.mark.parametrize("method", [METHODS["qb_norm"], METHODS["normalised"]])


def draw(queries=7, items=9, bank=11, seed=0):
    """Cosines as a trained model gives them, of queries and of a bank."""
    generator = np.random.default_rng(seed)
    return 0.2 + 0.1 * generator.standard_normal((queries, items)), 0.2 + 0.1 * generator.standard_normal((bank, items))


def order(scores):
    return (-scores).argsort(1, kind="stable")


def plain_qb_norm(scores, bank, k, beta, activation):
    """The published rule, query by query: new rows, None where a row stays."""
    wins = [0] * scores.shape[1]
    for row in bank:
        for item in sorted(range(len(row)), key=lambda j: -row[j])[:k]:
            wins[item] += 1
    found = []
    for row in scores:
        best = max(range(len(row)), key=lambda j: row[j])
        sums = [sum(math.exp(beta * b[j]) for b in bank) for j in range(len(row))]
        new = [math.exp(beta * row[j]) / sums[j] for j in range(len(row))]
        found.append(np.array(new) if wins[best] >= activation else None)
    return found


@pytest.mark.parametrize(
    ("k", "beta", "activation"),
    [(1, 20, 1), (2, 70, 1), (3, 70, 4), (9, 5, 11), *(tuple(v.values()) for v in RELEASED_QB_NORM.values())],
)
def test_qb_norm_against_the_published_rule(k, beta, activation):
    scores, bank = draw(queries=40)
    found, plain = qb_norm(scores, bank, k, beta, activation), plain_qb_norm(scores, bank, k, beta, activation)
    for row, new, old in zip(found, plain, scores, strict=True):
        np.testing.assert_allclose(np.exp(beta * row) if new is not None else row, old if new is None else new)


def test_qb_norm_activates_some_queries_and_not_others():
    scores, bank = draw(queries=40)
    changed = (qb_norm(scores, bank, 1, 70, 2) != scores).any(1)
    assert 0 < changed.sum() < 40


def test_qb_norm_reads_a_large_bank_in_parts(monkeypatch):
    scores, bank = draw()
    whole = qb_norm(scores, bank, 2, 70, 3)
    monkeypatch.setattr(postprocessing, "BANK_ROWS", 4)
    np.testing.assert_allclose(qb_norm(scores, bank, 2, 70, 3), whole)


def test_dual_softmax_against_a_plain_loop():
    scores, _ = draw()
    found = dual_softmax(scores, 30)
    for j in range(scores.shape[1]):
        total = sum(math.exp(30 * scores[i, j]) for i in range(len(scores)))
        for i in range(len(scores)):
            assert found[i, j] == pytest.approx(scores[i, j] * math.exp(30 * scores[i, j]) / total)


def test_normalised_against_a_plain_loop():
    scores, bank = draw()
    weights = np.exp(15 * bank)
    of_items = np.ones(9)
    for _ in range(500):
        of_queries = [1 / (11 * sum(weights[i, j] * of_items[j] for j in range(9))) for i in range(11)]
        of_items = [1 / (9 * sum(weights[i, j] * of_queries[i] for i in range(11))) for j in range(9)]
    found, plain = normalised(scores, bank, 15), 15 * scores + np.log(of_items)
    # A constant for all items moves no rank; the rest is right to the tolerance.
    np.testing.assert_allclose(found - found.mean(), plain - plain.mean(), atol=2 * TOLERANCE)


@pytest.mark.parametrize("shape", [(30, 40), (40, 30)])
def test_with_the_bias_the_bank_finds_every_item_equally_often(shape):
    _, bank = draw(1, shape[1], shape[0])
    bank = bank + 0.1 * np.random.default_rng(2).standard_normal(shape[1])  # hubs
    shares = {
        name: softmax(scores, axis=1).sum(0) * shape[1] / shape[0]
        for name, scores in (("plain", 100 * bank), ("normalised", normalised(bank, bank, 100)))
    }
    assert shares["plain"].max() > 2
    np.testing.assert_allclose(shares["normalised"], 1, atol=1.01 * TOLERANCE)


@every_method
def test_a_hub_that_wins_every_query_is_demoted(method):
    scores, bank = draw(20, 20, 50)
    scores = 0.2 * scores + 0.3 * np.eye(20)
    bank = 0.2 * bank
    scores[:, 4] += 0.5
    bank[:, 4] += 0.5
    assert (scores.argmax(1) == 4).all()
    assert (method(scores, bank).argmax(1) == np.arange(20)).all()


@pytest.mark.parametrize("activation", [12, 10**6])
def test_qb_norm_without_a_hub_leaves_the_scores(activation):
    scores, bank = draw()
    np.testing.assert_array_equal(qb_norm(scores, bank, 9, 70, activation), scores)


@with_a_bank
def test_a_bank_that_prefers_no_item_changes_no_rank(method):
    scores, bank = draw()
    found = method(scores, np.full_like(bank, 0.3))
    assert (found != scores).any()
    np.testing.assert_array_equal(order(found), order(scores))


@with_a_bank
def test_a_bank_given_twice_changes_no_rank(method):
    scores, bank = draw()
    np.testing.assert_array_equal(order(method(scores, np.tile(bank, (2, 1)))), order(method(scores, bank)))


def test_a_repeated_bank_query_counts_each_time():
    scores = np.array([[0.9, 0.1, 0.2]])
    once = np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.5]])
    np.testing.assert_array_equal(qb_norm(scores, once, 1, 70, 2), scores)
    assert (qb_norm(scores, once[[0, 0, 1]], 1, 70, 2) != scores).all()


def test_one_query_alone_keeps_its_order_under_dual_softmax():
    scores, _ = draw(queries=1)
    np.testing.assert_allclose(dual_softmax(scores), scores)


@with_a_bank
def test_inductive_methods_answer_a_query_alone_as_among_others(method):
    scores, bank = draw()
    np.testing.assert_allclose(np.concatenate([method(row[None], bank) for row in scores]), method(scores, bank))


def test_dual_softmax_answers_with_the_help_of_other_queries():
    scores, _ = draw(queries=40)
    assert (order(dual_softmax(scores))[:20] != order(dual_softmax(scores[:20]))).any()


@every_method
@pytest.mark.parametrize("step", [None, 0.1], ids=["no ties", "ties"])
def test_permuting_queries_or_items_only_permutes_the_result(method, step):
    scores, bank = draw()
    if step:
        scores, bank = np.round(scores / step) * step, np.round(bank / step) * step
    generator = np.random.default_rng(1)
    rows, columns, others = generator.permutation(7), generator.permutation(9), generator.permutation(11)
    found = method(scores[rows][:, columns], bank[others][:, columns])
    np.testing.assert_allclose(found, method(scores, bank)[rows][:, columns])


@every_method
def test_float32_scores_give_the_result_of_float64(method):
    scores, bank = draw()
    found = method(scores.astype(np.float32), bank.astype(np.float32))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, method(scores, bank), rtol=1e-4, atol=1e-5)


def test_logits_neither_overflow_nor_tie():
    scores, bank = draw(queries=40)
    found = qb_norm(1e4 * scores, 1e4 * bank, 1, 70)
    assert np.isfinite(found).all()
    assert all(len(set(row)) == 9 for row in found)
    np.testing.assert_allclose(qb_norm(1e4 * scores, 1e4 * bank, 1, 70 / 1e4), 1e4 * qb_norm(scores, bank, 1, 70))
    assert np.isfinite(normalised(scores, bank, 1e4)).all()
    assert np.isfinite(dual_softmax(1e4 * scores)).all()


def test_scores_are_not_written_to():
    scores, bank = draw()
    for method in METHODS.values():
        given = scores.copy(), bank.copy()
        method(*given)
        np.testing.assert_array_equal(given[0], scores)
        np.testing.assert_array_equal(given[1], bank)


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published similarity matrix is not here")
def test_dual_softmax_on_a_published_matrix():
    scores = np.load(PUBLISHED)
    found = [retrieval_metrics(x, np.arange(1000))["t2v"]["R@1"] for x in (scores, dual_softmax(scores))]
    assert found == pytest.approx([48.0, 52.8])


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published similarity matrix is not here")
@pytest.mark.parametrize("method", ["qb_norm", "normalised"])
def test_a_bank_of_other_real_queries_helps(method):
    scores = np.load(PUBLISHED)
    bank, scores = scores[:500], scores[500:]
    plain, found = (np.mean(ranks(x, np.arange(500, 1000)) < 1) for x in (scores, METHODS[method](scores, bank)))
    assert found > plain


SCORES, BANK = draw()


@pytest.mark.parametrize("method", [lambda s, b: qb_norm(s, b), METHODS["normalised"]], ids=["qb_norm", "normalised"])
@pytest.mark.parametrize(
    ("scores", "bank", "message"),
    [
        (SCORES, BANK[:, :8], r"scores \(7, 9\) and bank \(11, 8\) must have the same items"),
        (SCORES.T, BANK, r"scores \(9, 7\) and bank \(11, 9\) must"),
        (SCORES, BANK[:0], r"bank must be \(bank queries, items\) with at least one of each, got shape \(0, 9\)"),
        (SCORES, BANK[0], r"bank must be .* got shape \(9,\)"),
        (SCORES[:0], BANK, r"scores must be \(queries, items\) .* got shape \(0, 9\)"),
        (np.where(SCORES > 0.3, np.nan, SCORES), BANK, r"scores must be finite, got \d+ of 63"),
        (SCORES, np.where(BANK > 0.3, -np.inf, BANK), r"bank must be finite, got \d+ of 99"),
    ],
)
def test_scores_and_bank_that_do_not_fit_are_refused(method, scores, bank, message):
    with pytest.raises(ValueError, match=message):
        method(scores, bank)


@pytest.mark.parametrize("scores", [SCORES[0], SCORES[:0], SCORES * np.nan], ids=["one row", "empty", "nan"])
def test_dual_softmax_refuses_damaged_scores(scores):
    with pytest.raises(ValueError, match="scores must be"):
        dual_softmax(scores)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k from 1 to the 9 items.* got k 0"),
        ({"k": 10}, "k from 1 to the 9 items.* got k 10"),
        ({"beta": 0}, "a finite beta above 0.* beta 0"),
        ({"beta": math.nan}, "a finite beta above 0.* beta nan"),
        ({"beta": math.inf}, "a finite beta above 0.* beta inf"),
        ({"activation": 0}, "activation of at least 1.* activation 0"),
    ],
)
def test_qb_norm_refuses_parameters_outside_their_range(options, message):
    with pytest.raises(ValueError, match=message):
        qb_norm(SCORES, BANK, **options)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_temperatures_must_be_finite_and_above_0(value):
    with pytest.raises(ValueError, match="beta above 0"):
        dual_softmax(SCORES, value)
    with pytest.raises(ValueError, match="scale must be finite and above 0"):
        normalised(SCORES, BANK, value)


def test_every_post_processing_of_a_model_takes_the_bank_of_its_direction(corpus):
    model = HEADS["mean_pooling"].from_clip(corpus["clip"], temporal_layers=0)
    test, bank = (encode_split(model, corpus["prepared"].split(name)) for name in ("test", "train"))
    right = corpus["prepared"].split("test").video_of_text.numpy()
    scores = similarity_matrix(model, *test).numpy()
    found = post_processed(model, scores, test, bank, right)
    assert set(found) == set(POST_PROCESSING)
    scale = model.head.logit_scale.exp().item()
    t2v = normalised(scores, similarity_matrix(model, bank[0], test[1]).numpy(), scale)
    v2t = normalised(scores.T, similarity_matrix(model, test[0], bank[1]).numpy().T, scale)
    kept = found["NCL bias (inductive)"]
    np.testing.assert_array_equal(kept["t2v"]["rank"], per_query(t2v, right)["t2v"]["rank"])
    np.testing.assert_array_equal(kept["v2t"]["rank"], per_query(v2t.T, right)["v2t"]["rank"])

    def same(one, other):
        return all((one[side]["rank"] == other[side]["rank"]).all() for side in ("t2v", "v2t"))

    # The bias is part of NCL, and of no other method.
    plain = per_query(scores, right)
    assert not same(plain, kept)
    assert same(as_published(model, scores, test, bank, right), plain)
    model.config.contrastive = "ncl"
    assert same(as_published(model, scores, test, bank, right), kept)

"""What is said of convergence: the answer, the sentences beside it, and the tables."""

import pytest

from glscl.study import convergence_tables as tables


def interval(mean, half=1.0):
    """Mean and interval of two seeds, or nothing for nothing."""
    return None if mean is None else {"mean": mean, "low": mean - half, "high": mean + half, "seeds": [mean, mean]}


def head(start=10.0, asymptote=70.0, half=30.0, steps=40.0):
    """One head's entry of convergence.json; without an asymptote it has no fit, without steps it misses the goal."""
    fitted = asymptote is not None
    return {
        "lr": 1e-3,
        "start": interval(start),
        "end": interval(60.0),
        "asymptote": interval(asymptote),
        "half": interval(half if fitted else None),
        "rate": interval(1 / half if fitted else None, 0.001),
        "power": interval(2.0 if fitted else None),
        "residual": 0.5 if fitted else None,
        "fitted": 2 if fitted else 1,
        "share_at": {0: 0.0, 2: 0.1, 160: 0.95} if fitted else None,
        "steps_to_goal": interval(steps),
        "macs_to_goal": interval(steps and 1e9 * steps, 1e9),
        "reached": 1 if steps is None else 2,
        "macs_per_step": int(1e9),
    }


def ratio(difference, p=0.01):
    """A log-ratio."""
    return {"difference": difference, "low": difference - 1, "high": difference + 1, "p": p, "p_holm": p, "seeds": []}


def said(rates=None, **heads):
    """convergence.json of heads; rates: log-ratio of each rival's rate to GLSCL's."""
    scope = {"dataset": "made", "seeds": [0, 1], "texts": 1_000, "videos": 1_000, "steps": [0, 2, 160], "batch_size": 8}
    rivals = [name for name in heads if name != "glscl"]
    differences = {
        name: {"rate": (rates or {}).get(name), "steps_to_goal": ratio(0.7, 0.2), "macs_to_goal": None}
        for name in rivals
    }
    return {"scope": scope, "goal": 50.0, "heads": heads, "differences": differences}


@pytest.mark.parametrize(
    ("rate", "verdict"),
    [
        (ratio(0.7), "significantly sooner"),
        (ratio(-0.7), "significantly later"),
        (ratio(0.7, 0.05), "no significant difference"),
    ],
)
def test_the_answer_tells_start_asymptote_and_rate_apart(rate, verdict):
    answer = tables.answer(said({"x_clip": rate}, a=head(), x_clip=head(35.0, 80.0, 18.0), glscl=head()))
    assert answer == (
        f"On made, GLSCL closes half of its R@1 gap (10.0 to 70.0) in 30 steps, X-CLIP (35.0 to 80.0) in 18: {verdict}."
    )
    assert len(answer.split()) <= 25


def test_without_x_clip_the_first_head_is_the_rival():
    assert "steps, b (" in tables.answer(said({"b": ratio(1.0), "a": ratio(1.0)}, b=head(), a=head(), glscl=head()))


def test_without_an_asymptote_the_answer_says_so():
    answer = tables.answer(said(x_clip=head(35.0, None), glscl=head()))
    assert answer == (
        "On made, no asymptote was fitted for every seed: GLSCL goes from R@1 10.0 to 60.0 in 160 steps, X-CLIP from "
        "35.0 to 60.0."
    )
    assert len(answer.split()) <= 25


def test_with_nothing_to_compare_the_answer_says_so():
    assert (
        tables.answer(said(a=head()))
        == tables.answer(said(glscl=head()))
        == ("On made, GLSCL was compared with no head.")
    )
    assert "nothing was trained" in tables.answer(said())
    assert tables.details(said()) == []


def test_the_sentences_beside_it_are_short_and_name_the_heads():
    results = said(
        {"a": ratio(1.0), "b": ratio(-1.0), "c": ratio(0.1, 0.9)},
        a=head(35.0, steps=0.0),
        b=head(2.0, 90.0, steps=60.0),
        c=head(20.0, steps=None),
        d=head(21.0, None, steps=30.0),
        glscl=head(),
    )
    details = tables.details(results)
    assert all(len(sentence.split()) <= 25 for sentence in details), details
    assert details[:2] == [
        "Untrained R@1: GLSCL 10.0; others b 2.0 to a 35.0.",
        "Fitted asymptotes: GLSCL 70.0; others a 70.0 to b 90.0.",
    ]
    assert details[2].endswith("GLSCL: sooner with a; later with b; not significantly sooner or later with c.")
    assert "GLSCL takes 40 steps, 40 GMACs" in details[3]
    assert "a, soonest of the others, takes 0 steps" in details[4]
    assert details[5:8] == [
        "Not every seed gets there with c.",
        "Untrained, a is there already.",
        "Not every seed determines a curve with d.",
    ]
    assert tables.details(results | {"goal": None})[3].startswith("Some head ends below R@1 5,")


def test_what_the_machine_took_stands_apart():
    seconds = {"a": interval(3.0), "glscl": interval(12.0)}
    results = said(a=head(), glscl=head())
    assert tables.measured_details(results, {"seconds_to_goal": seconds}) == [
        "On this machine, training to the goal takes GLSCL 12 s and a 3 s."
    ]
    assert tables.measured_details(said(), {"seconds_to_goal": {}}) == []


def test_tables_have_a_row_per_head_and_dashes_for_what_is_not_known():
    results = said({"a": ratio(0.0)}, a=head(), b=head(asymptote=None, steps=None), glscl=head())
    pace = {"median": 0.02, "min": 0.01, "max": 0.03}
    measured = {
        "seconds_to_goal": {"a": interval(3.0), "b": None, "glscl": interval(12.0)},
        "seconds_per_step": dict.fromkeys(results["heads"], pace),
    }
    heads = tables.head_table(results).set_index("head")
    assert heads.loc["a", ["asymptote", "seeds fitted"]].tolist() == ["70.0 [69.0, 71.0]", "2 of 2"]
    assert heads.loc["b", ["asymptote", "residual, at most"]].isna().all()
    shares = tables.share_table(results).set_index("head")
    assert shares.columns.tolist() == ["2 steps", "160 steps"]
    assert shares.loc["a"].tolist() == ["10", "95"]
    assert shares.loc["b"].isna().all()
    goals = tables.goal_table(results, measured).set_index("head")
    assert goals.loc["b", ["reached by", "ms per step"]].tolist() == ["1 of 2 seeds", "20 [10, 30]"]
    assert goals.loc["b", ["steps", "GMACs", "seconds"]].isna().all()
    ratios = tables.difference_table(results)
    assert len(ratios) == 2 * len(tables.QUANTITIES)
    assert ratios.loc[0, ["head", "over GLSCL", "factor"]].tolist() == ["a", "rate", "1 [0.368, 2.72]"]
    assert tables.asymptotes(results) == {"a": 70.0, "glscl": 70.0}
    costs = tables.costs(results, measured).set_index(["method", "unit"])
    assert costs.loc[("a", "gmacs"), "mean"] == 40
    assert costs.loc["b"].isna().all(axis=None)

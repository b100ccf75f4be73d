"""Hard negatives that say what a head binds: false twins of a caption, each changed in one thing.

* `colour`: the colours of two told events change places. The words of the text stay, so that a bag of words is blind.
* `order`: two told events change places, with all that is told of them. A head that does not read order is blind.
* `shape`, `motion`: one told shape, or one told motion, is another. To see it a head must know shapes or motions.

A twin could have been said of another video of the corpus: nothing round spins, and a distractor shares neither colour
nor shape with the shape that it is told with.
"""

from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np
import pandas as pd

from .grammar import MOTIONS, ROUND, SHAPES, Event, choose_sentence, read_told, write_told

Facts = list[dict[str, str]]


def twins(told: str, events: list[Event], rng: np.random.Generator) -> dict[str, Facts]:
    """One false twin of each kind, drawn among all of that kind: {kind: facts of the told events}.

    told: what a caption tells, `grammar.write_told`. events: of its video, in the order of time.
    A kind is absent where there is none: one told event has no order, two of one colour have no colours to exchange,
    and a twin that is true of the video as well is none.
    """
    facts, found = read_told(told), {}
    for kind, changed in CHANGES.items():
        false = [twin for twin in changed(facts) if all(map(_could_be, twin)) and not is_true(twin, events)]
        if false:
            found[kind] = false[rng.integers(len(false))]
    return found


def is_true(facts: Facts, events: list[Event]) -> bool:
    """Whether all that is told holds of the events, in the order of time, each told event of another one.

    The same as a score of 1 by `glscl.bundled.oracle.oracle_scores`, for one video.
    """
    later = iter(events)  # the earliest event that fits is never a worse choice than a later one
    return all(any(_holds(told, event) for event in later) for told in facts)


def _holds(told: dict[str, str], event: Event) -> bool:
    return all(getattr(event, factor) == value for factor, value in told.items())


def _could_be(told: dict[str, str]) -> bool:
    colour, shape = told["distractor"].split() if "distractor" in told else ("", "")
    spins_unseen = told.get("motion") == "spin" and told.get("shape") in ROUND
    return not spins_unseen and told.get("colour") != colour and told.get("shape") != shape


def _colours_exchanged(facts: Facts) -> Iterator[Facts]:
    for i, j in combinations(range(len(facts)), 2):
        if "colour" in facts[i] and "colour" in facts[j]:
            colours = {i: facts[j]["colour"], j: facts[i]["colour"]}
            yield [told | {"colour": colours[k]} if k in colours else told for k, told in enumerate(facts)]


def _events_exchanged(facts: Facts) -> Iterator[Facts]:
    for i, j in combinations(range(len(facts)), 2):
        places = {i: j, j: i}
        yield [facts[places.get(k, k)] for k in range(len(facts))]


def _one_changed(factor: str, values: dict) -> Callable[[Facts], Iterator[Facts]]:
    def changed(facts: Facts) -> Iterator[Facts]:
        for k, told in enumerate(facts):
            if factor in told:
                yield from ([*facts[:k], told | {factor: value}, *facts[k + 1 :]] for value in values)

    return changed


CHANGES: dict[str, Callable[[Facts], Iterator[Facts]]] = {
    "colour": _colours_exchanged,
    "order": _events_exchanged,
    "shape": _one_changed("shape", SHAPES),
    "motion": _one_changed("motion", MOTIONS),
}


def twin_rows(
    captions: pd.DataFrame,
    events_of: Callable[[str], list[Event]],
    generator: Callable[[str, int], np.random.Generator],
) -> pd.DataFrame:
    """A table of captions and, below, the twins of its split `test` as splits twin_colour, twin_order, and so on.

    captions: columns split, video, caption and told. events_of: the events of a video. generator: (video, purpose) ->
    a new generator; with purpose 1 `grammar.caption` wrote the caption, and purpose 3 draws its twins.
    A twin has the template of its caption, and the same words where the facts are the same. The column `of` holds the
    row of the true caption, from 0, and is empty for captions that are true.
    Raises ValueError where purpose 1 gives another caption than the table.
    """
    rows = []
    for row in captions.reset_index(drop=True).query("split == 'test'").itertuples():
        events = events_of(row.video)
        sentence = choose_sentence(events, generator(row.video, 1))
        if sentence.text() != row.caption:
            raise ValueError(
                f"expected the caption of {row.video} to be drawn again as {row.caption!r}, got {sentence.text()!r}; "
                "give the generator that it was drawn with."
            )
        for kind, facts in twins(row.told, events, generator(row.video, 3)).items():
            words = sentence.words[::-1] if kind == "order" else sentence.words
            twin = sentence._replace(facts=facts, words=words)
            rows.append((f"twin_{kind}", row.video, twin.text(), write_told(facts), row.Index))
    false = pd.DataFrame(rows, columns=["split", "video", "caption", "told", "of"]).sort_values("split", kind="stable")
    return pd.concat([captions, false], ignore_index=True).astype({"of": "Int64"})

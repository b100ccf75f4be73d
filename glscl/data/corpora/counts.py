"""How many videos and captions a benchmark has in each split. A corpus with other numbers is not the benchmark."""

import warnings

import pandas as pd

# By dataset and partition: what a split may have, as (videos, captions), after the study held out its validation
# videos. Counted on the community's files; None = not counted.
COUNTED = {
    ("msrvtt", "9k"): {"train": [(8_500, 170_000)], "val": [(500, 500)], "test": [(1_000, 1_000)]},
    ("msrvtt", "7k"): {"train": [(6_510, 130_200)], "val": [(500, 500)], "test": [(1_000, 1_000)]},
    ("msrvtt", "full"): {"train": [(6_513, 130_260)], "val": [(497, 9_940)], "test": [(2_990, 59_800)]},
    ("msvd", None): {"train": [(1_200, 48_774)], "val": [(100, 4_290)], "test": [(670, 27_763)]},
    # The list that releases share lacks three videos of the official training split.
    ("didemo", None): {"train": [(8_392, 8_392), (8_395, 8_395)], "val": [(1_065, 1_065)], "test": [(1_004, 1_004)]},
    ("activitynet", None): {"train": [(9_509, 9_509)], "val": [(500, 500)], "test": [(4_917, 4_917)]},
    ("lsmdc", None): {"test": [(1_000, 1_000)]},
    ("vatex", None): {"train": [(25_991, None)], "val": [(1_500, None)], "test": [(1_500, None)]},
    ("charades", None): {"train": [(7_485, 7_485)], "val": [(500, 500)], "test": [(1_863, 1_863)]},
    # Moments, without the four of the training file that end before they start.
    ("charades_sta", None): {"train": [(8_345, 11_225)], "val": [(846, 1_179)], "test": [(2_578, 3_720)]},
}

# Stated by papers or by the files' own readme, not counted for this study: another number gives a warning.
PUBLISHED = {
    # GLSCL's release leaves out three training clips; a user of its family counted the second number.
    ("lsmdc", None): {"train": [(None, 101_079), (None, 101_046)], "val": [(None, 7_408)]},
    ("vatex", None): {"train": [(None, 259_910)], "val": [(None, 15_000)], "test": [(None, 15_000)]},
}


def counts_of(dataset: str, partition: str | None) -> dict[str, tuple[int, int]]:
    """Videos and captions of each split of a benchmark: the first of what was counted, else of what others state.

    Where nobody states the videos, there are at most as many as captions, and that number stands for them. Raises
    ValueError for a corpus that is no benchmark.
    """
    key = dataset, partition
    if key not in COUNTED:
        known = ", ".join(sorted({" ".join(filter(None, entry)) for entry in COUNTED}))
        given = " ".join(filter(None, key))
        raise ValueError(f"the counts are known of the benchmarks {known}, got {given}; name one of them.")
    found = {}
    for split in ("train", "val", "test"):
        known = [table[key][split][0] for table in (COUNTED, PUBLISHED) if split in table.get(key, {})]
        videos, captions = (next((pair[i] for pair in known if pair[i] is not None), None) for i in (0, 1))
        found[split] = videos or captions, captions
    return found


def check_counts(table: pd.DataFrame, dataset: str, partition: str | None) -> None:
    """Compare the splits of a table with the known counts.

    Raises:
        ValueError: a split differs from what was counted. A difference from what others state is only a warning.
    """
    if found := _differences(table, COUNTED.get((dataset, partition), {})):
        raise ValueError(f"{found[0]}: get the complete annotation files of {dataset}, docs/data.md says where")
    for text in _differences(table, PUBLISHED.get((dataset, partition), {})):
        warnings.warn(
            f"published counts of {dataset} differ: {text}; they were not counted for this study, so state yours with "
            "every result",
            stacklevel=3,
        )


def _differences(table: pd.DataFrame, known: dict) -> list[str]:
    found = []
    for split, variants in known.items():
        rows = table[table["split"] == split]
        given = (rows["video"].nunique(), len(rows))
        if not any(all(w in (None, g) for w, g in zip(wanted, given, strict=True)) for wanted in variants):
            expected = " or ".join(map(_counts, variants))
            found.append(f"{split} should have {expected} and has {_counts(given)}")
    return found


def _counts(pair: tuple[int | None, int | None]) -> str:
    parts = zip(pair, ("videos", "captions"), strict=True)
    return " and ".join(f"{number:,} {what}" for number, what in parts if number is not None)

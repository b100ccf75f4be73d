"""LSMDC 2016, clips of films with a sentence of the audio description each: Rohrbach et al., IJCV 2017."""

from pathlib import Path

import pandas as pd

from glscl.data.corpora.reading import numbered, read_lines, with_text

FILES = {
    "train": "LSMDC16_annos_training.csv",
    "val": "LSMDC16_annos_val.csv",
    "test": "LSMDC16_challenge_1000_publictect.csv",
}
FIELDS = ["video", "start_aligned", "end_aligned", "start_extracted", "end_extracted", "sentence"]


def files(folder: Path) -> list[str]:
    """Annotation files of LSMDC."""
    return list(FILES.values())


def read(folder: Path) -> pd.DataFrame:
    """Read LSMDC: rows of six fields between tabs, without a header. A training clip may have several rows.

    The times in the file are those in the film; a file of the corpus is the clip, and is taken whole.
    """
    parts = []
    for split, name in FILES.items():
        path = folder / name
        rows = [line.split("\t") for line in read_lines(path)]
        if wrong := [number for number, row in enumerate(rows, start=1) if len(row) != len(FIELDS)]:
            raise ValueError(f"row {wrong[0]} of {path} needs {len(FIELDS)} fields between tabs: get the file again")
        table = numbered(pd.DataFrame(rows, columns=FIELDS, dtype=object), path)
        parts.append(with_text(table, "sentence", path)[["video", "text"]].assign(split=split))
    return pd.concat(parts)

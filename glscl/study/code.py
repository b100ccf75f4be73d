"""The first stage: for the notebook of every stage a file with the hash of the code that it can reach.

The stage depends on this file.

python -m glscl.study.code
"""

from itertools import chain
from pathlib import Path

import yaml

from glscl.code_hash import hash_of
from glscl.files import write_text
from glscl.study.project import project_root


def write_hashes(root: Path) -> None:
    """Write work/code/<notebook>.txt for the notebook of every stage, and make the folders of trained models.

    The names of these notebooks begin with a number; `explore` is no stage. The code that turns params.yaml into the
    parameters of a notebook counts as reached by all. The folders are there where nothing is trained too, as stages
    read them.
    """
    for notebook in sorted((root / "notebooks").glob("[0-9]*.ipynb")):
        write_text(root / f"work/code/{notebook.stem}.txt", hash_of(notebook, "glscl.study.parameters") + "\n")
    params = yaml.safe_load((root / "params.yaml").read_text())
    for profile in params["profiles"]:
        for dataset in chain.from_iterable(params["study"].values()):
            write_text(root / f"work/{profile}/{dataset}/train/.keep", "\n")


if __name__ == "__main__":
    write_hashes(project_root())

"""The hash of reachable code: what changes it, what leaves it, which imports count, and the same in every Python."""

import ast
import json
import shutil
from functools import cache

import pytest

from glscl import code_hash
from glscl.code_hash import essence, hash_of, imported, reachable
from tests import ROOT

MODULES = {
    "__init__": '"""The package."""\n',
    "files": '"""Files."""\n\n\ndef write(path, digits=6):\n    """Write."""\n    return digits\n',
    "losses": "def loss(x):\n    return 0.75 * x\n",
    "model": "from glscl.losses import loss\n\nLOSS = loss\n",
    "lazy": "def later():\n    from glscl.files import write\n\n    return write\n",
    "bundled/__init__": "",
    "bundled/drawing": "SIZE = 64\n",
    "bundled/corpora": "from . import drawing\nfrom .grammar import WORDS\n",
    "bundled/grammar": "from ..losses import loss\n\nWORDS = loss\n",
    "other/__init__": "from .one import ONE\n",
    "other/one": "ONE = 1\n",
}
NOTEBOOKS = {
    "trains": ["from glscl.model import LOSS"],
    "writes": ["x = 1", "from glscl.lazy import later"],
    "draws": ["import glscl.bundled.corpora"],
}


def notebook(path, *cells):
    cells = [{"cell_type": "code", "source": [cell]} for cell in cells]
    path.write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": ["# Title"]}, *cells]}))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Folder of a small package in place of glscl, beside three notebooks."""
    for name, source in MODULES.items():
        (tmp_path / "glscl" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "glscl" / f"{name}.py").write_text(source)
    for name, cells in NOTEBOOKS.items():
        notebook(tmp_path / f"{name}.ipynb", *cells)
    monkeypatch.setattr(code_hash, "PACKAGE", tmp_path / "glscl")
    return tmp_path / "glscl"


def hashes(package):
    return {name: hash_of(package.parent / f"{name}.ipynb") for name in NOTEBOOKS}


def changed(package, edit) -> set[str]:
    """Notebooks whose hash an edit changes."""
    before = hashes(package)
    edit()
    return {name for name, value in hashes(package).items() if value != before[name]}


def test_everything_that_a_notebook_reaches_is_found(package):
    names = {name: reachable(package.parent / f"{name}.ipynb").keys() - {f"{name}.ipynb"} for name in NOTEBOOKS}
    assert names == {
        "trains": {"glscl", "glscl.model", "glscl.losses"},
        "writes": {"glscl", "glscl.lazy", "glscl.files"},  # an import inside a function counts
        "draws": {"glscl", "glscl.losses"}
        | {f"glscl.bundled{name}" for name in ("", ".corpora", ".drawing", ".grammar")},  # relative imports
    }


@pytest.mark.parametrize(
    ("module", "old", "new", "notebooks"),
    [
        ("files", "digits=6", "digits=5", {"writes"}),
        ("losses", "0.75", "0.7", {"trains", "draws"}),
        ("model", "LOSS = loss", "LOSS = loss  # the loss", set()),
        ("bundled/drawing", "64", "65", {"draws"}),
        ("bundled/grammar", "WORDS", "WORD", {"draws"}),
        ("__init__", '"""\n', '"""\n\nx = 1\n', {"trains", "writes", "draws"}),
        ("other/one", "1", "2", set()),
    ],
)
def test_a_change_reaches_the_notebooks_that_import_it_and_no_other(package, module, old, new, notebooks):
    def edit():
        path = package / f"{module}.py"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    assert changed(package, edit) == notebooks


def test_the_code_of_a_notebook_counts_and_its_text_does_not(package):
    path = package.parent / "trains.ipynb"
    assert changed(package, lambda: notebook(path, "# why", *NOTEBOOKS["trains"])) == set()
    assert changed(package, lambda: path.write_text(path.read_text().replace("# Title", "# Another"))) == set()
    assert changed(package, lambda: notebook(path, *NOTEBOOKS["trains"], "x = 2")) == {"trains"}


def test_a_module_that_moves_changes_the_hash(package):
    def edit():
        (package / "losses.py").rename(package / "loss.py")
        for name in ("model", "bundled/grammar"):
            path = package / f"{name}.py"
            path.write_text(path.read_text().replace("losses", "loss"))

    assert changed(package, edit) == {"trains", "draws"}


SOURCE = '''
"""Module."""

import math


@staticmethod
def area(radius, *, digits: int = 6, scale=1.0):
    """Area of a circle."""
    if radius < 0:
        raise ValueError(f"radius must be positive, got {radius!r:>5}")
    return round(scale * math.pi * radius**2, digits), None, ..., True, b"x", "a" "b"


class Circle:
    """A circle."""

    radius: float = 1.0

    async def draw(self):
        """Draw it."""
        return [x for x in range(3) if x]


class Empty:
    """Nothing."""


def stub():
    """Nothing."""
'''


@pytest.mark.parametrize(
    "other",
    [
        SOURCE.replace('"""Area of a circle."""', '"""Its area, and why."""'),
        SOURCE.replace('"""Module."""', ""),
        SOURCE.replace('    """A circle."""\n', ""),
        SOURCE.replace('        """Draw it."""\n', "        # Draw it.\n"),
        SOURCE.replace("import math", "import math  # for pi\n\n# A comment.\n"),
        SOURCE.replace(
            "(radius, *, digits: int = 6, scale=1.0)", "(\n    radius, *,\n    digits: int = 6, scale=1.0,\n)"
        ),
        SOURCE.replace('"a" "b"', "'ab'").replace("1.0", "1.00"),
        SOURCE.replace("radius**2", "(radius ** 2)").replace("\n\n", "\n\n\n"),
    ],
    ids=["docstring", "no docstring", "of a class", "of a method", "comments", "layout", "spelling", "brackets"],
)
def test_comments_docstrings_and_layout_leave_the_essence(other):
    assert other != SOURCE
    assert essence(other) == essence(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("digits: int = 6", "digits: int = 5"),
        ("digits: int = 6", "digits: int = 6.0"),
        ("digits: int = 6", "digits: float = 6"),
        ("*, digits", "digits"),
        ("@staticmethod", "@classmethod"),
        ("radius < 0", "radius <= 0"),
        ("must be positive", "must be above 0"),
        ("!r", "!s"),
        (":>5", ":>6"),
        ("True", "1"),
        ("None", "..."),
        ('b"x"', '"x"'),
        ("async def", "def"),
        ("if x]", "if not x]"),
        ("scale * math.pi", "math.pi * scale"),
        ("    radius: float = 1.0", "    radius = 1.0"),
        ('def stub():\n    """Nothing."""', "def stub():\n    return 0"),
        ("import math", "import cmath as math"),
    ],
)
def test_every_other_change_shows_in_the_essence(old, new):
    assert old in SOURCE
    assert essence(SOURCE.replace(old, new, 1)) != essence(SOURCE)


def test_a_string_that_is_no_docstring_counts():
    assert essence("x = 1\n'''text'''") != essence("x = 1\n'''other'''")


def test_the_essence_is_the_same_in_a_python_whose_trees_say_more(monkeypatch):
    """Python 3.12 gave functions and classes `type_params`, 3.13 leaves out empty fields when it shows a tree."""
    parse, here = ast.parse, essence.__wrapped__(SOURCE)
    added = ("type_params", "type_comment", "type_ignores", "kind", "a_later_optional", "a_later_list")

    def parse_elsewhere(source):
        tree = parse(source)
        for node in ast.walk(tree):
            given = dict(zip(added, ([], "comment", [], "u", None, []), strict=True))
            node._fields = (*(name for name in node._fields if name not in added), *added)
            for name, value in given.items():
                setattr(node, name, value)
        return tree

    monkeypatch.setattr(code_hash.ast, "parse", parse_elsewhere)
    assert essence.__wrapped__(SOURCE) == here


@pytest.mark.parametrize("path", [*sorted((ROOT / "glscl").rglob("*.py"))], ids=lambda path: path.stem)
def test_no_format_ends_with_a_nested_one(path):
    """Python 3.12.1 reads such a format, f"{x:{width}}", as another tree than 3.11 and 3.13; `format` is the same."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FormattedValue) and node.format_spec:
            assert isinstance(node.format_spec.values[-1], ast.Constant), f"line {node.lineno}: call format()"


def test_a_name_imported_from_the_package_itself_is_refused(package):
    notebook(package.parent / "trains.ipynb", "from glscl import files, GLSCL")
    with pytest.raises(ValueError, match=r"^trains.ipynb imports GLSCL from glscl; import it from the module that d"):
        reachable(package.parent / "trains.ipynb")
    assert imported("from glscl import files") == {"glscl", "glscl.files"}
    (package / "model.py").write_text("from glscl import losses, METHODS\n")
    with pytest.raises(ValueError, match=r"^glscl.model imports METHODS from glscl; import .* defines it\.$"):
        hash_of("glscl.model")
    (package / "bundled/corpora.py").write_text("from .. import losses\n")
    assert "glscl.losses" in reachable("glscl.bundled.corpora")


@pytest.mark.parametrize(
    ("source", "name", "modules"),
    [
        ("import json\nfrom pathlib import Path", "", set()),
        ("import glscl.losses as l", "", {"glscl", "glscl.losses"}),
        ("from glscl.losses import loss", "", {"glscl", "glscl.losses"}),
        (
            "from glscl.bundled import drawing, corpora as c",
            "",
            {"glscl", "glscl.bundled", "glscl.bundled.corpora", "glscl.bundled.drawing"},
        ),
        ("from .one import ONE", "glscl.other", {"glscl", "glscl.other", "glscl.other.one"}),
        ("from . import drawing", "glscl.bundled.corpora", {"glscl", "glscl.bundled", "glscl.bundled.drawing"}),
        ("from ..files import write", "glscl.bundled.corpora", {"glscl", "glscl.files"}),
        ("from glsclother import x", "", set()),
    ],
)
def test_imports_name_the_modules_and_the_packages_that_hold_them(package, source, name, modules):
    assert imported(source, name) == modules


def test_several_starts_hash_what_any_of_them_reaches(package):
    both = hash_of("glscl.model", "glscl.lazy")
    assert both == hash_of("glscl.lazy", "glscl.model")
    assert both not in (hash_of("glscl.model"), hash_of("glscl.lazy"))
    assert hash_of("glscl.model", "glscl.losses") == hash_of("glscl.model")


def test_the_default_digits_of_json_change_the_notebooks_that_write_json(tmp_path, monkeypatch):
    """In the real package, whose checkpoints and stages depend on the hash."""
    shutil.copytree(ROOT / "glscl", tmp_path / "glscl", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_hash, "PACKAGE", tmp_path / "glscl")
    monkeypatch.setattr(code_hash, "imported", cache(imported))  # a source is read once for all starts
    starts = [*sorted((ROOT / "notebooks").glob("*.ipynb")), "glscl.training.runs", "glscl.losses"]
    before = [hash_of(start) for start in starts]
    path = tmp_path / "glscl/files.py"
    path.write_text(path.read_text().replace("digits: int = 6", "digits: int = 5"))
    assert "digits: int = 5" in path.read_text()
    moved = [hash_of(start) != old for start, old in zip(starts, before, strict=True)]
    assert moved == ["glscl.files" in reachable(start) for start in starts]
    assert moved[-2:] == [True, False]

"""Which code a notebook or a module can reach, and a hash of it that comments, docstrings and layout do not change.

A checkpoint, a frame store and every stage of the pipeline depend on this hash, so no list of modules is kept by hand.
"""

import ast
import hashlib
import json
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
SKIPPED = {"ctx", "kind", "type_comment", "type_ignores", "type_params"}  # say nothing more, or not in every Python


def hash_of(*starts: str | Path) -> str:
    """SHA-256 of modules, such as `glscl.losses`, or of notebooks' code, with all modules that they can reach."""
    sources = {name: source for start in starts for name, source in reachable(start).items()}
    digest = hashlib.sha256()
    for name, source in sorted(sources.items()):
        digest.update(f"{name}\n{essence(source)}\n".encode())
    return digest.hexdigest()


def reachable(start: str | Path) -> dict[str, str]:
    """Source of `start` and of every module of the package that it imports, directly or not, by name.

    start: a module's name, or the path of a notebook. An import inside a function counts too. Raises ValueError where a
    name is imported from the package itself: only users do that, code imports from the module that defines it.
    """
    notebook = str(start).endswith(".ipynb")
    found = {Path(start).name: notebook_code(start)} if notebook else {str(start): _source(str(start))}
    waiting = list(found)
    while waiting:
        name = waiting.pop()
        for module in imported(found[name], name):
            if module not in found:
                found[module] = _source(module)
                waiting.append(module)
    return found


def imported(source: str, name: str = "") -> set[str]:
    """Modules of the package that a source imports, with the packages that hold them. name: of its own module."""
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names if alias.name.startswith("glscl.")}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                inside = name.split(".") if _file(name).name == "__init__.py" else name.split(".")[:-1]
                base = ".".join([*inside[: len(inside) + 1 - node.level], *([base] if base else [])])
            if base.partition(".")[0] == "glscl":
                parts = {alias.name: f"{base}.{alias.name}" for alias in node.names}
                if base == "glscl" and (names := [part for part, path in parts.items() if not _file(path).exists()]):
                    raise ValueError(
                        f"{name} imports {names[0]} from glscl; import it from the module that defines it."
                    )
                modules |= {base, *(path for path in parts.values() if _file(path).exists())}
    parents = {module.rsplit(".", depth)[0] for module in modules for depth in range(1, module.count(".") + 1)}
    return modules | parents


def notebook_code(path: str | Path) -> str:
    """The code of all cells of a notebook, one after the other."""
    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


@cache
def essence(source: str) -> str:
    """A text that is the same for two sources whose syntax trees are, docstrings left out, in any Python from 3.11."""
    return _written(ast.parse(source))


def _written(node) -> str:
    if isinstance(node, list):
        return f"[{','.join(map(_written, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {}
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            value = value[ast.get_docstring(node, clean=False) is not None :]
        if name not in SKIPPED and value not in (None, []):
            fields[name] = _written(value)
    return f"{type(node).__name__}({','.join(f'{name}={value}' for name, value in fields.items())})"


def _file(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_name(f"{path.name}.py")


def _source(module: str) -> str:
    return _file(module).read_text(encoding="utf-8")

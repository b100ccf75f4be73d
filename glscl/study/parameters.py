"""Sections of params.yaml become the parameters of a notebook."""

import ast
import re
from functools import reduce
from operator import getitem
from pathlib import Path

import yaml

LEVELS = ("", "profiles", "datasets", "methods", "recipes")  # a later one replaces what an earlier one says
OF_DATASETS = {"corpus", "inputs", "prepare", "train", "model"}
OF_METHODS = {"head", "start", "train", "model"}
OF_RECIPES = {"inputs", "prepare", "train", "model", "not_done", "source"}
OWN = "own"  # in the place of a profile: corpora of one's own videos, on which nothing of the study rests
NO_RECIPE = "the authors give none"


def resolve(sections: dict) -> dict:
    """The parameters of a notebook, by name, from sections of params.yaml by their dotted names.

    A section is one parameter, named by its last part: `train`, `profiles.quick.seeds` and `datasets.scenes.inputs`
    give `train`, `seeds` and `inputs`. Keys of mappings with the same name replace each other: what a profile says
    replaces the general value, what a dataset says replaces both, and what `methods.<name>` says, which is `head`,
    `start`, `train` and `model`, replaces all of them. An entry `datasets.<name>` as a whole is the parameter
    `target_corpus`.
    A section `recipes.<dataset>` beside one `methods.<name>` has the last word: the authors' `train` and `model` of
    this method replace what is said before, and may add settings of its head. The whole recipe is the parameter
    `recipe`, {} where there is none or `use_recipes` is false. Without a method the section is the parameter
    `recipes`, {method: recipe}.
    Raises ValueError where a key replaces nothing, as when it is misspelt, and where the recipe wants other inputs than
    the section `inputs` has (`require_prepared`).
    """
    parameters: dict = {}
    for level in LEVELS:
        for section, value in sections.items():
            first, *rest = section.split(".")
            if level != (first if first in LEVELS and rest else ""):
                continue
            if level == "methods":
                entries = _known(section, value, OF_METHODS)
            elif level == "datasets" and len(rest) == 1:
                entries = {"target_corpus": _known(section, value, OF_DATASETS)}
            elif level == "recipes":
                entries = {"recipes": value}
            else:
                entries = {section.rpartition(".")[2]: value}
            for name, entry in entries.items():
                parameters[name] = _replaced(parameters.get(name), entry, section)
    methods, datasets = (
        [s.partition(".")[2] for s in sections if s.startswith(f"{k}.")] for k in ("methods", "recipes")
    )
    if methods and datasets:
        recipes, used = parameters.pop("recipes"), parameters.pop("use_recipes", True)
        parameters["recipe"] = recipe = recipe_of(recipes, methods[0]) if used else {}
        require_prepared(datasets[0], {methods[0]: recipe}, parameters.get("inputs", {}))
        for part in ("train", "model"):
            parameters[part] = parameters.get(part, {}) | recipe.get(part, {})
    return parameters


def recipe_of(recipes: dict, method: str) -> dict:
    """The authors' recipe of a method, from the recipes of one dataset, {method: recipe}; {} where there is none.

    Raises ValueError for a recipe of any other form.
    """
    recipe = recipes.get(method, NO_RECIPE)
    if recipe == NO_RECIPE:
        return {}
    if not isinstance(recipe, dict):
        raise ValueError(f"the recipe of {method} should be a mapping or {NO_RECIPE!r}, got {recipe!r}; correct it.")
    return _known(f"the recipe of {method}", recipe, OF_RECIPES)


def require_prepared(dataset: str, recipes: dict, inputs: dict, prepare: dict | None = None) -> None:
    """Raise ValueError where recipes want the corpus prepared in another way: it is prepared once for all methods.

    recipes: of this dataset, {method: recipe}. inputs, prepare: the sections of params.yaml that the corpus is prepared
    by; what they lack is not compared.
    """
    given = {"inputs": inputs, "prepare": prepare or {}}
    places = {part: f"datasets.{dataset}.{part}" for part in given}
    changes: dict[str, list[str]] = {}
    for method in recipes:
        recipe = recipe_of(recipes, method)
        wanted = [
            f"-S {places[part]}.{name}={value}"
            for part, values in given.items()
            for name, value in recipe.get(part, {}).items()
            if values.get(name, value) != value
        ]
        if wanted:
            changes.setdefault(" ".join(wanted), []).append(method)
    if changes:
        remedies = "; ".join(f"{', '.join(names)} with {options}" for options, names in changes.items())
        raise ValueError(
            f"the authors prepare {dataset} in another way than the corpus is prepared once for all methods: run "
            f"{remedies} (methods that differ in a run of their own), or add -S use_recipes=false to train every head "
            "under the schedule of the dataset."
        )


def _replaced(general, special, section: str):
    if not (isinstance(general, dict) and isinstance(special, dict)):
        return special
    return general | _known(section, special, general.keys())


def _known(section: str, entries: dict, known) -> dict:
    if unknown := sorted(entries.keys() - set(known)):
        raise ValueError(
            f"{section!r} of params.yaml may have {', '.join(sorted(known))}, got {', '.join(unknown)} (misspelt?)"
        )
    return entries


def declared_by_stage(root: Path, name: str, items: dict) -> dict:
    """Sections of params.yaml that the DVC stage `name` declares, as {"section": value}.

    items: the values of its matrix, such as {"profile": "quick"}, without the world, which the dataset tells. dvc.yaml
    is read here, as DVC takes seconds to do so.
    """
    stage, stages = name.partition("@")[0], load_stages(root)
    if stage not in stages:
        raise ValueError(f"dvc.yaml has no stage {stage!r}, which DVC_STAGE names; its stages are {[*stages]}")
    return declared(load_params(root), stages, stage, items)


def declared(params: dict, stages: dict, stage: str, items: dict) -> dict:
    """As `declared_by_stage`, from params.yaml and the stages of dvc.yaml as they were read."""

    def value(found: re.Match) -> str:
        kind, _, item = found[1].partition(".")
        if found[1] == "item.world":
            return world_of(params, items["dataset"])
        return str(items[item] if kind == "item" else _entry(params, found[1]))

    names = [re.sub(r"\$\{([\w.]+)\}", value, section) for section in stages[stage].get("params", [])]
    return {name: _entry(params, name) for name in names}


def load_stages(root: Path) -> dict:
    """The stages of dvc.yaml, by name, as they are written."""
    return yaml.safe_load((root / "dvc.yaml").read_text())["stages"]


def world_of(params: dict, dataset: str) -> str:
    """Of which world a dataset is, `features` or `videos`. Raises ValueError where `study` does not name it."""
    for world, datasets in (*params["study"].items(), ("videos", params["own"]["corpora"])):
        if dataset in datasets:
            return world
    raise ValueError(f"`study` of params.yaml should name {dataset}, it has {params['study']}; add it to one list.")


def _entry(params: dict, name: str):
    return reduce(getitem, name.split("."), params)


def load_params(root: str | Path = ".") -> dict:
    """params.yaml of the project at `root`, read as DVC reads it: 1e-05, as DVC writes it, is a number.

    Raises ValueError where it is no YAML.
    """
    from dvc.utils.serialize import YAMLFileCorruptedError, load_yaml

    try:
        return load_yaml(Path(root) / "params.yaml")
    except YAMLFileCorruptedError as error:
        fault = error.__cause__
        raise ValueError(
            f"params.yaml should be YAML with each name once, got in line {fault.problem_mark.line + 1}: "
            f"{fault.problem}; correct it."
        ) from None


def named_sections(root: Path, names: list[str]) -> dict:
    """The entries of params.yaml with these dotted names, as {"section": value}."""
    params = load_params(root)
    try:
        return {name: _entry(params, name) for name in names}
    except (KeyError, TypeError) as error:
        raise ValueError(f"--sections {','.join(names)}: params.yaml has no {error}; it has {list(params)}") from None


def assigned(parameters: dict, pairs: list[str], known: dict | None = None) -> dict:
    """The parameters with key=value or section.key=value in their place; values are YAML (1e-4 is a number).

    known: what the notebook has of a section that is not among the parameters. Raises ValueError for anything else.
    """
    from dvc.utils.serialize import parse_yaml

    parameters = dict(parameters)
    for pair in pairs:
        key, equals, value = pair.partition("=")
        name, dot, inner = key.partition(".")
        if not (equals and name.isidentifier() and (inner.isidentifier() or not dot)):
            raise ValueError(f"expected key=value, got {pair!r}")
        value = parse_yaml(f"value: {value}", f"the value of {key}")["value"]
        parameters[name] = {**parameters.get(name, (known or {}).get(name, {})), inner: value} if inner else value
    return parameters


def defaults(notebook: Path) -> dict:
    """The literals of a notebook's `parameters` cell, by name."""
    import papermill

    return {
        name: ast.literal_eval(found["default"]) for name, found in papermill.inspect_notebook(str(notebook)).items()
    }


def check_known(notebook: Path, parameters: dict) -> None:
    """Raise ValueError where a parameter, or a key of a section, is not in the notebook's `parameters` cell.

    Papermill would only warn. Where the default is empty, as for a corpus, any key is taken, and a recipe may add keys.
    """
    known, recipe = defaults(notebook), parameters.get("recipe", {})
    if unknown := sorted(parameters.keys() - known.keys()):
        unknown, names = ", ".join(unknown), ", ".join(sorted(known))
        raise ValueError(f"{notebook.name} has no parameter {unknown} (misspelt?); its parameters are {names}")
    for name, value in parameters.items():
        if (
            isinstance(value, dict)
            and isinstance(known[name], dict)
            and name not in ("corpus", "methods", "recipe", "recipes")
        ):
            try:
                _known(name, value, known[name] | recipe.get(name, {}))
            except ValueError as error:
                raise ValueError(f"{notebook.name}: {error}") from None

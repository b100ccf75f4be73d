"""What params.yaml may say: names, types and ranges of every section, checked whole before a stage runs.

Settings that a dataclass or the configuration of a head holds are read from there, and its own checks run; the others
are declared here. Nothing is converted: a number is no text, 1.0 is no whole number, and 1 is no `true`.
"""

import dataclasses
import inspect
import json
import re
from collections.abc import Iterable
from functools import cache
from itertools import chain, product
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_origin, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError
from transformers import CLIPConfig

from glscl.bundled.facets import Facets, require_inputs
from glscl.config import GLSCLConfig, RetrievalConfig, nearest, one_of
from glscl.data.corpora import CORPORA
from glscl.data.decoding import Sampling
from glscl.methods import METHODS, settings_of
from glscl.study.counting import SIZES
from glscl.study.losses import DOSED, PARTS
from glscl.study.parameters import NO_RECIPE, OWN, declared, resolve, world_of
from glscl.study.transfer import FACETS, moves
from glscl.training.trainer import BACKBONES, TrainSettings

CLIP = CLIPConfig()  # for the configurations of heads, which take long to make one of their own
SHARED = {"clip_config", "frames", "words"}  # of every head's configuration; `inputs` has them
SPREAD = {"profiles", "methods", "datasets", "recipes"}  # sections whose parts are the parameters of notebooks
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
WANTED = {  # what pydantic asks for, by the kind of its errors; names in braces are of its context
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "int_type": "a whole number",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "list_type": "a list",
    "literal_error": "one of {expected}",
    "model_type": "a mapping",
    "string_pattern_mismatch": "a name of letters, digits and _ (of a world spaces too)",
    "string_too_short": "a text that is not empty",
    "string_type": "a text",
    "too_long": "of length {max_length} or less",
    "too_short": "of length {min_length} or more",
    "tuple_type": "a list",
}


# --- kinds of values


class Section(BaseModel):
    """A mapping with these names and no others."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def known(cls, given):
        """Refuse a name that the section does not have."""
        for name in given if isinstance(given, dict) else ():
            if name not in cls.model_fields:
                names = f"it has {', '.join(cls.model_fields)}{nearest(name, cls.model_fields)}"
                raise _refused(f"has no {_written(name)}; {names}")
        return given


def _refused(said: str) -> PydanticCustomError:
    """What is wrong with a value, to stand behind its name."""
    return PydanticCustomError("refused", "{said}", {"said": said})


def _written(value) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


Item = TypeVar("Item")


def _distinct(items: list) -> list:
    if twice := [item for number, item in enumerate(items) if item in items[:number]]:
        raise _refused(f"must name each once, got {_written(twice[0])} twice; leave one out.")
    return items


def _rising(items: list) -> list:
    if items != sorted(items):
        raise _refused(f"must rise, got {_written(items)}; sort it.")
    return items


def _entry_of(section: str):
    def known(name: str, info: ValidationInfo) -> str:
        names = info.context[section]
        if names and name not in names:
            raise _refused(f"must be one of {', '.join(names)}, got {_written(name)}{nearest(name, names)}")
        return name

    return Annotated[str, AfterValidator(known)]


Count = Annotated[int, Field(ge=1)]
AtLeast0 = Annotated[int, Field(ge=0)]
Above0 = Annotated[float, Field(gt=0)]
Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^\w+$")]  # of folders and stages
WorldName = Annotated[str, Field(pattern=r"^\w[\w ]*$")]  # of folders
Method, Dataset = _entry_of("methods"), _entry_of("datasets")
Distinct = Annotated[list[Item], AfterValidator(_distinct)]
Numbers = Annotated[list[Count], AfterValidator(_distinct), AfterValidator(_rising)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seeds = Annotated[Distinct[Seed], Field(min_length=1)]
Rates = Annotated[list[float], Field(min_length=1), BeforeValidator(lambda v: v if isinstance(v, list) else [v])]


def _recipe(given) -> dict:
    if given != NO_RECIPE and not isinstance(given, dict):
        raise _refused(f"should be a mapping or {NO_RECIPE!r}, got {_written(given)}; correct it.")
    return {} if given == NO_RECIPE else given


Recipe = Annotated[dict, BeforeValidator(_recipe)]


def _fields(settings: type, leave_out: Iterable[str] = ()) -> dict:
    """Names, types and defaults of a dataclass, as `create_model` takes them."""
    hints, found = get_type_hints(settings), {}
    for field in dataclasses.fields(settings):
        if field.name not in leave_out:
            kind = hints[field.name]
            kind = Annotated[kind, Strict(False)] if get_origin(kind) is tuple else kind  # YAML has lists alone
            found[field.name] = kind, ... if field.default is dataclasses.MISSING else field.default
    return found


def _head_fields() -> dict:
    """Names, types and defaults of the settings of all heads, as `create_model` takes them."""
    found = {}
    for method in METHODS.values():
        bases = [base for base in method.config_class.__mro__ if issubclass(base, RetrievalConfig)]
        found |= {
            name: (kind, getattr(base, name))
            for base in bases
            for name, kind in base.__annotations__.items()
            if name not in SHARED and name in method.config_class.__dataclass_fields__
        }
    return found


HEAD_FIELDS = _head_fields()


@cache
def _configured(config: type[RetrievalConfig], **settings) -> None:
    """Raise ValueError where a head refuses settings; what it takes is remembered, as many sections say the same."""
    config(clip_config=CLIP, **settings)


# --- sections, in the order of params.yaml, whose comments say what they mean


class Study(Section):
    features: Distinct[Dataset]
    videos: Distinct[Dataset]


class Own(Section):
    corpora: Distinct[Dataset]
    methods: Distinct[Method]
    seeds: Seeds
    train: dict


class Trained(Section):
    methods: Distinct[Method]
    rerankers: Distinct[Method]
    concepts_of: Distinct[Literal["glscl"]]
    seeds: Seeds
    train: dict


class Check(Section):
    max_missing: AtLeast0


class Prepare(Section):
    sampling: str
    fps: float
    offsets: int
    quality: Annotated[int, Field(ge=1, le=95)]

    @model_validator(mode="after")
    def accepted(self):
        Sampling(1, self.sampling, self.fps, self.offsets)
        return self


class Train(create_model("Train", __base__=Section, **_fields(TrainSettings, ("backbone", "keep_steps", "lr_new")))):
    lr_new: Rates

    @model_validator(mode="after")
    def accepted(self):
        for rate in self.lr_new:
            TrainSettings(**(vars(self) | {"lr_new": rate}), backbone=BACKBONES[0])
        return self


class Model(create_model("Model", __base__=Section, **HEAD_FIELDS)):
    @model_validator(mode="after")
    def accepted(self):
        """Each given value must suit a head that has the setting: the normalised loss is not for every one."""
        for name in self.model_fields_set:
            refused = []
            for method in METHODS:
                if chosen := settings_of(method, {name: getattr(self, name)}):
                    try:
                        _configured(METHODS[method].config_class, **chosen)
                    except ValueError as error:
                        refused.append(error)
                    else:
                        break
            else:
                raise refused[0]
        return self


class Evaluate(Section):
    first_stage: Method
    rerank_depth: Count
    bank_size: Count


class Concepts(Section):
    pairs: Count
    perplexity: Above0


class Search(Section):
    queries: Distinct[Text]
    examples: AtLeast0
    best: Count
    gallery: Count
    embed_mb: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def accepted(self):
        if not (self.queries or self.examples):
            raise ValueError("a search needs sentences, got no queries and 0 examples; give some.")
        return self


class Costs(Section):
    trained_on: Dataset
    galleries: Annotated[Numbers, Field(min_length=1)]
    depths: Numbers
    first_stage: Method
    restarts: Annotated[int, Field(ge=2)]  # of which there is an interval
    sizes: Annotated[Distinct[Literal[tuple(SIZES)]], Field(min_length=1)]
    memory_gb: Above0
    patience: Above0
    blocks: Count
    threads: Count

    @model_validator(mode="after")
    def accepted(self):
        first = next(iter(SIZES))
        if self.sizes[0] != first:
            raise ValueError(f"sizes must begin with {first}, got {_written(self.sizes)}; it is the paper's.")
        return self


class Worlds(Section):
    changed: dict[WorldName, dict]
    heads: Distinct[Method]
    seeds: Seeds


def _of_glscl(setting: str) -> AfterValidator:
    """Whether GLSCL takes a value of one of its settings."""

    def accepted(value):
        _configured(GLSCLConfig, **{setting: value})
        return value

    return AfterValidator(accepted)


class Losses(Section):
    seeds: Annotated[Seeds, Field(min_length=2)]
    variants: Annotated[Distinct[Annotated[str, _of_glscl("variant")]], Field(min_length=1)]
    epochs: Count
    captions_per_video: AtLeast0
    parts: Distinct[Literal[tuple(PARTS)]]
    alpha: Distinct[Annotated[float, _of_glscl(DOSED["alpha"])]]
    beta: Distinct[Annotated[float, _of_glscl(DOSED["beta"])]]
    dropout: Distinct[Annotated[float, _of_glscl(DOSED["dropout"])]]
    combined: bool


class Convergence(Section):
    heads: Distinct[Method]
    seeds: Seeds
    epochs: Count


class Transfer(Section):
    shifts: dict[WorldName, dict]
    target: Dataset
    heads: Distinct[Method]
    seeds: Seeds
    few_shot_videos: Count
    few_shot_epochs: Count


class Inputs(Section):
    clip: Text
    backbone: str
    frames: int
    words: int

    @model_validator(mode="after")
    def accepted(self):
        one_of("backbone", self.backbone, BACKBONES)
        _configured(RetrievalConfig, frames=self.frames, words=self.words)
        return self


class OneMethod(Section):
    head: Literal[tuple(METHODS)]
    start: Method = ""
    train: dict
    model: dict


class OneDataset(Section):
    corpus: dict
    inputs: Inputs
    prepare: dict = {}
    train: dict
    model: dict


class OneRecipe(Section):
    inputs: dict = {}
    prepare: dict = {}
    train: dict = {}
    model: dict = {}
    not_done: list[str] = []
    source: str = ""


class World(create_model("World", __base__=Section, **_fields(Facets))):
    @model_validator(mode="after")
    def accepted(self):
        Facets(**vars(self))
        return self


@cache
def _read_by(reader: str) -> type[Section]:
    """The settings of a reader of corpora, the folder, and the name of the reader, which that of the corpus may be."""
    files = CORPORA[reader].files
    parameters = list(inspect.signature(files).parameters.values())[1:]
    found = {parameter.name: (parameter.annotation, parameter.default) for parameter in parameters}

    def accepted(self):
        files(Path(self.folder), **{parameter.name: getattr(self, parameter.name) for parameter in parameters})
        return self

    validators = {"accepted": model_validator(mode="after")(accepted)}
    return create_model(
        "Corpus", __base__=Section, __validators__=validators, folder=(Text, ...), reader=(str, reader), **found
    )


# Sections of which a profile may replace single values.
OF_PROFILES = {
    "search": Search,
    "costs": Costs,
    "worlds": Worlds,
    "losses": Losses,
    "convergence": Convergence,
    "transfer": Transfer,
}
Profile = create_model(
    "Profile",
    __base__=Section,
    questions=(Distinct[Dataset], ...),
    features=(Trained, ...),
    videos=(Trained, ...),
    **dict.fromkeys(OF_PROFILES, (dict, ...)),
)


class Params(Section):
    """The whole file."""

    study: Study
    own: Own
    profiles: Annotated[dict[Name, Profile], Field(min_length=1)]
    check: Check
    prepare: Prepare
    train: Train
    model: Model
    evaluate: Evaluate
    concepts: Concepts
    search: Search
    costs: Costs
    worlds: Worlds
    losses: Losses
    convergence: Convergence
    transfer: Transfer
    methods: Annotated[dict[Name, OneMethod], Field(min_length=1)]
    datasets: Annotated[dict[Name, OneDataset], Field(min_length=1)]
    use_recipes: bool
    recipes: dict[Dataset, dict[Method, Recipe]]


# What notebooks get under other names than the sections that they come from.
GIVEN = {name: field.annotation for name, field in Params.model_fields.items() if name not in SPREAD} | {
    "profile": _entry_of("profiles") | Literal[OWN],
    "dataset": Dataset,
    "method": Method,
    "inputs": Inputs,
    "seeds": Seeds,
    "methods": Distinct[Method] | dict[Name, OneMethod],
    "rerankers": Distinct[Method],
    "questions": Distinct[Dataset],
}


# --- the check


def check(params: dict, stages: dict) -> None:
    """Raise ValueError, one sentence with the key, what was given and what is allowed, unless all of params.yaml fits.

    params: params.yaml, as `glscl.study.parameters.load_params` reads it. stages: of dvc.yaml. Every section is checked
    where it stands, those that replace others together with what they replace; then what each training would get, in
    all profiles; then whether the sections fit each other.
    """
    _require(Params, params, params)
    for place, kind, general, special in chain(_replacing(params), _worlds(params)):
        _require(kind, general | special if isinstance(special, dict) else special, params, *place)
    features, videos = params["study"]["features"], params["study"]["videos"]
    for dataset in videos:
        if _reader(params, dataset) not in CORPORA or dataset in features:
            raise ValueError(
                f"params.yaml: study.videos must name corpora of videos, {', '.join(CORPORA)}, got {dataset}"
                f"{nearest(dataset, CORPORA)}"
            )
        if _reader(params, dataset) == OWN:
            raise ValueError(
                f"params.yaml: study.videos must name corpora of the study, got {dataset}, one of your own; name it in "
                "own.corpora."
            )
    for dataset in params["own"]["corpora"]:
        if _reader(params, dataset) != OWN:
            raise ValueError(
                f"params.yaml: own.corpora must name entries with the reader own, got {dataset}; correct it."
            )
    for dataset in features:
        corpus, inputs = (params["datasets"][dataset][part] for part in ("corpus", "inputs"))
        try:
            require_inputs(Facets(**corpus), inputs, Path("work/corpora") / dataset)
        except ValueError as error:
            raise ValueError(f"params.yaml: datasets.{dataset}.inputs: {error}") from None
    for profile in params["profiles"]:
        _check_methods(params, profile)
        _check_trainings(params, stages, profile)
        _check_questions(params, profile)
    own = params["own"]
    for dataset, method in product(own["corpora"], own["methods"]):
        if params["methods"][method].get("start"):
            raise ValueError(f"params.yaml: own.methods cannot have {method}, which starts from another; leave it out.")
        _check_training(params, stages, "own_train", {"profile": OWN, "dataset": dataset, "method": method}, OWN)


def check_given(params: dict, parameters: dict, names: Iterable[str]) -> None:
    """Raise ValueError, as `check` does, for parameters of a notebook that were given by hand.

    params: params.yaml. parameters: all that the notebook gets. names: of those given.
    """
    for name in names:
        kind = GIVEN.get(name)
        if name == "corpus" and parameters.get("dataset") in params["datasets"]:
            kind = _corpus_kind(params, parameters["dataset"])
        if kind is not None:
            _require(kind, parameters[name], params, name, file="the command line")


def _require(kind, value, params: dict, *place: str, file: str = "params.yaml") -> None:
    sections = {name: params.get(name) for name in ("methods", "datasets", "profiles")}
    names = {name: [*map(str, section)] if isinstance(section, dict) else [] for name, section in sections.items()}
    try:
        _adapter(kind).validate_python(value, context=names)
    except ValidationError as errors:
        raise ValueError(f"{file}: {_sentence(errors.errors()[0], place)}") from None


_adapter = cache(TypeAdapter)


def _sentence(error: dict, place: tuple[str, ...]) -> str:
    *owner, last = (*place, *error["loc"]) or ("the file",)
    if last == "[key]":
        last = owner.pop()
    key, kind, given = ".".join(map(str, [*owner, last])), error["type"], error["input"]
    if kind == "refused":
        return f"{key} {error['msg']}"
    if kind == "value_error":  # of a dataclass, whose message names the field
        return f"{key}: {error['ctx']['error']}"
    if kind == "missing" and isinstance(last, str):
        return f"{'.'.join(owner) or 'the file'} lacks {last}; add it."
    if kind == "missing":  # of a list of a known length
        key, wanted = ".".join(map(str, owner)), f"of length {last + 1} or more"
    else:
        wanted = WANTED.get(kind, "another value").format(**error.get("ctx", {}))
    return f"{key} should be {wanted}, got {_written(given)}{_remedy(kind, given, wanted)}"


def _remedy(kind: str, given, wanted: str) -> str:
    """What to write instead: YAML reads 1e-3 in some readers, and "1e-3" and `no` in all, as text."""
    if kind == "bool_type":
        return "; write true or false, without quotes."
    if kind in ("float_type", "int_type") and isinstance(given, str) and NUMBER.fullmatch(given):
        mantissa, e, exponent = given.lower().partition("e")
        return f"; write {mantissa}{'.0' if e and '.' not in mantissa else ''}{e}{exponent}, without quotes."
    return nearest(given, re.findall(r"'(.+?)'", wanted)) if kind == "literal_error" else "; correct it."


def _replacing(params: dict) -> Iterable[tuple[tuple[str, ...], type[Section], dict, dict]]:
    """Place, kind, what is replaced and what replaces it, of every section that replaces others, and of corpora."""
    for profile, entry in params["profiles"].items():
        for name, kind in OF_PROFILES.items():
            yield ("profiles", profile, name), kind, params[name], entry[name]
        for world in params["study"]:
            yield ("profiles", profile, world, "train"), Train, params["train"], entry[world]["train"]
    yield ("own", "train"), Train, params["train"], params["own"]["train"]
    for method, entry in params["methods"].items():
        yield ("methods", method, "train"), Train, params["train"], entry["train"]
        yield ("methods", method, "model"), _head_kind(entry["head"]), {}, entry["model"]
    for dataset, entry in params["datasets"].items():
        place = "datasets", dataset
        yield (*place, "corpus"), _corpus_kind(params, dataset), {}, entry["corpus"]
        yield (*place, "prepare"), Prepare, params["prepare"], entry.get("prepare", {})
        yield (*place, "train"), Train, params["train"], entry["train"]
        yield (*place, "model"), Model, {}, entry["model"]
    for dataset, recipes in params["recipes"].items():
        for method, recipe in recipes.items():
            place, own = ("recipes", dataset, method), {} if recipe == NO_RECIPE else recipe
            yield place, OneRecipe, {}, own
            yield (*place, "inputs"), Inputs, params["datasets"][dataset]["inputs"], own.get("inputs", {})
            yield (*place, "prepare"), Prepare, params["prepare"], own.get("prepare", {})
            yield (*place, "train"), Train, params["train"], own.get("train", {})
            yield (*place, "model"), _head_kind(params["methods"][method]["head"]), {}, own.get("model", {})


def _worlds(params: dict) -> Iterable[tuple[tuple[str, ...], type[Section], dict, dict]]:
    """As `_replacing`, of the worlds that `worlds.changed` and `transfer.shifts` make of facets."""
    places = [(), *(("profiles", profile) for profile in params["profiles"])]
    for place, dataset in product(places, params["study"]["features"]):
        entry, corpus = params["profiles"][place[1]] if place else params, params["datasets"][dataset]["corpus"]
        for name, changed in entry["worlds"].get("changed", {}).items():
            world = {key: value for key, value in changed.items() if key != "training"}
            yield (*place, "worlds", "changed", name), World, corpus, world
            here = (*place, "worlds", "changed", name, "training")
            yield here, Train, params["train"], changed.get("training", {})
        if dataset == FACETS:
            for name, shift in entry["transfer"].get("shifts", {}).items():
                yield (*place, "transfer", "shifts", name), World, corpus, shift


def _corpus_kind(params: dict, dataset: str) -> type[Section]:
    reader = _reader(params, dataset)
    return _read_by(reader) if reader in CORPORA and dataset not in params["study"]["features"] else World


def _reader(params: dict, dataset: str) -> str:
    return params["datasets"][dataset]["corpus"].get("reader", dataset)


@cache
def _head_kind(head: str) -> type[Section]:
    """The settings of one head."""

    def accepted(self):
        _configured(METHODS[head].config_class, **{name: getattr(self, name) for name in self.model_fields_set})
        return self

    validators = {"accepted": model_validator(mode="after")(accepted)}
    return create_model("Head", __base__=Section, __validators__=validators, **settings_of(head, HEAD_FIELDS))


def _check_methods(params: dict, profile: str) -> None:
    """What a profile trains on either world: a cross-encoder starts from a method, whose best it re-ranks."""
    for world, datasets in params["study"].items():
        place, own = f"params.yaml: profiles.{profile}.{world}", params["profiles"][profile][world]
        if datasets and (absent := set(own["concepts_of"]) - set(own["methods"])):
            raise ValueError(f"{place}.concepts_of must be among its methods, got {', '.join(absent)}; leave it out.")
        for method in own["methods"]:
            if params["methods"][method].get("start"):
                raise ValueError(f"{place}.methods cannot have {method}, which has a start; put it into rerankers.")
        for method in own["rerankers"]:
            starts = {
                "evaluate.first_stage": params["evaluate"]["first_stage"],
                f"methods.{method}.start": params["methods"][method].get("start"),
            }
            for key, start in starts.items():
                if start not in (None, *own["methods"]):
                    raise ValueError(f"{place}.methods lacks {start}, the {key} of its reranker {method}; add it.")


def _check_trainings(params: dict, stages: dict, profile: str) -> None:
    """What the stage `train` would get for every corpus and method of a profile."""
    for world, datasets in params["study"].items():
        own = params["profiles"][profile][world]
        for dataset, method in product(datasets, own["methods"] + own["rerankers"]):
            items = {"profile": profile, "world": world, "dataset": dataset, "method": method}
            model = _check_training(params, stages, "train", items, "profiles", profile, world)
            pairs = min(params["concepts"]["pairs"], params["datasets"][dataset]["corpus"].get("test", float("inf")))
            points = 2 * pairs * model.get("num_queries", GLSCLConfig.num_queries)
            if method in own["concepts_of"] and params["concepts"]["perplexity"] >= points:
                raise ValueError(
                    f"params.yaml: concepts.perplexity should be below the {points} points of the map, 2 x pairs x "
                    f"num_queries, got {params['concepts']['perplexity']:g}; lower it."
                )


def _check_training(params: dict, stages: dict, stage: str, items: dict, *place: str) -> dict:
    """The settings of a head as a stage that trains it gets them, once they are checked, and how it trains.

    Whether the corpus is prepared as a recipe wants is asked by the stages of the profile that runs.
    """
    sections = declared(params, stages, stage, items)
    found = resolve({name: value for name, value in sections.items() if not name.endswith(".inputs")})
    place, head = (*place, f"{items['method']} on {items['dataset']}"), params["methods"][items["method"]]["head"]
    _require(Train, found["train"], params, *place, "train")
    model = settings_of(head, found["model"])
    _require(_head_kind(head), model, params, *place, "model")
    return model


def _check_questions(params: dict, profile: str) -> None:
    """Whether the heads and corpora that the questions of a profile name are trained in it."""
    entry, study = params["profiles"][profile], params["study"]
    merged = {name: params[name] | entry[name] for name in OF_PROFILES}
    every = [*study["features"], *study["videos"]]
    _among(every, "study", [merged["costs"]["trained_on"]], profile, "costs.trained_on")
    _among(every, "study", entry["questions"], profile, "questions")
    if study["features"]:
        _among(entry["features"]["methods"], "features.methods", merged["worlds"]["heads"], profile, "worlds.heads")
    for dataset in entry["questions"]:
        world = world_of(params, dataset)
        trained, rates = entry[world], merged["convergence"]["heads"]
        _among(trained["methods"], f"{world}.methods", ["glscl"], profile, "losses")
        _among(trained["methods"], f"{world}.methods", rates, profile, "convergence.heads")
        general = params["train"] | params["datasets"][dataset]["train"]
        sizes = {head: (general | params["methods"][head]["train"])["batch_size"] for head in rates}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"params.yaml: convergence.heads must share one batch size, got {sizes}; correct it.")
        if moves(dataset, params["datasets"][dataset]["inputs"], merged["transfer"]):
            if dataset != FACETS:
                target = merged["transfer"]["target"]
                _among(list(CORPORA), "the corpora of videos", [target], profile, "transfer.target")
            _among(trained["methods"], f"{world}.methods", merged["transfer"]["heads"], profile, "transfer.heads")
            _among(trained["seeds"], f"{world}.seeds", merged["transfer"]["seeds"], profile, "transfer.seeds")


def _among(known: list, of: str, given: list, profile: str, key: str) -> None:
    if absent := [name for name in given if name not in known]:
        raise ValueError(
            f"params.yaml: {key} of the profile {profile} must be among {of}, {', '.join(map(str, known)) or 'none'}, "
            f"got {absent[0]}{nearest(absent[0], known)}"
        )

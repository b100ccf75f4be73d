"""Pretrained models, from a folder or by name: found at once or not at all, and loaded whole or not at all."""

import json
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

TIMEOUT = 5.0  # seconds in which a hub must answer
BESIDE_WEIGHTS = (("tokenizer.json", "vocab.json"), ("preprocessor_config.json", "processor_config.json"))
KINDS = {"missing_keys": "missing", "unexpected_keys": "unexpected", "mismatched_keys": "of another shape"}


def located(source: str | Path) -> str:
    """The folder of a model: the given one, or that of a name in the local cache; else the name, if a hub has it.

    The hub is asked once, so that a name that cannot be fetched fails at once. Raises ValueError where it is neither.
    """
    source = str(source)
    if Path(source).is_dir():
        return source
    cached = None
    try:
        config = try_to_load_from_cache(source, "config.json")
        cached = Path(config).parent if isinstance(config, str) and not _lack(Path(config).parent) else None
        if cached and all(any((cached / name).is_file() for name in names) for names in BESIDE_WEIGHTS):
            return str(cached)
        get_hf_file_metadata(hf_hub_url(source, "config.json"), timeout=TIMEOUT)
    except Exception as error:  # of which kind depends on the version of the hub's client and on what it is built upon
        if cached:
            return str(cached)
        told = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}".rstrip(" .:")
        reason = "no name of a hub" if isinstance(error, HFValidationError) else f"cannot be fetched ({told})"
        raise ValueError(
            f"expected the folder of a model, or a name that a hub or the local cache has, got {source}, which is no "
            f"folder and {reason}; correct it, or give the path of the downloaded folder."
        ) from error
    return source


def model_type(source: str | Path) -> str:
    """The kind of model in a folder or of a name, as its config.json says: `clip`, `glscl` and so on.

    Raises ValueError where there is no model, or none whose weights can be read.
    """
    folder = located(source)
    if Path(folder).is_dir() and (lack := _lack(Path(folder))):
        raise ValueError(f"{source} {lack}.")
    try:
        config, _ = PreTrainedConfig.get_config_dict(folder)
    except OSError as error:
        raise ValueError(f"the config.json of {source} cannot be read ({error}); copy or download it again.") from error
    return config.get("model_type", "clip")  # CLIP's own loader needs no type; weights of another model do not fit


def require_clip(source: str | Path) -> None:
    """Raise a ValueError unless a folder or a name holds a CLIP with both towers, in transformers' format."""
    if (found := model_type(source)) != "clip":
        raise ValueError(
            f"{source} must hold a CLIP with a text and an image tower (model_type clip), got a {found}; take a "
            "CLIPModel in transformers' format, such as openai/clip-vit-base-patch32."
        )


def load_whole(load: Callable, source: str | Path, **options) -> tuple[PreTrainedModel, dict]:
    """What `load`, the `from_pretrained` of a class, makes of a folder or a name, in float32, and its loading info.

    Safetensors only. Raises ValueError where weights are absent or damaged, or are not exactly those of the model that
    config.json describes: transformers itself would go on with random ones in their place.
    """
    folder = located(source)
    wanted = {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        with _errors_alone():
            model, info = load(folder, **(wanted | {"dtype": torch.float32} | options))
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{source} cannot be loaded ({error}); copy or download it again.") from error
    names = {kind: sorted(n if isinstance(n, str) else str(n[0]) for n in found) for kind, found in info.items()}
    # Old versions saved the numbers of positions, which are no weights; not every version passes over them itself.
    names["unexpected_keys"] = [name for name in names["unexpected_keys"] if not name.endswith(".position_ids")]
    wrong = [f"{len(found)} {KINDS.get(kind, kind)} (first {found[0]})" for kind, found in names.items() if found]
    if wrong:
        raise ValueError(
            f"{source} should hold exactly the weights of {load.__self__.__name__} that its config.json describes, got "
            f"{', '.join(wrong)}; save the model again, weights and config.json together."
        )
    return model, info


@contextmanager
def _errors_alone():
    """transformers reports weights that do not fit in a table; the error says it in a sentence."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _lack(folder: Path) -> str:
    """What keeps the model in a folder from being read, with the remedy; empty where it can be."""
    if (folder / "model.safetensors").is_file():
        return "" if (folder / "config.json").is_file() else "holds no config.json; save the model again"
    if (index := folder / "model.safetensors.index.json").is_file():
        try:
            shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError):
            return f"has a damaged {index.name}; copy or download it again"
        absent = [shard for shard in shards if not (folder / shard).is_file()]
        return f"lacks {len(absent)} of {len(shards)} files of weights (first {absent[0]}); get them" if absent else ""
    if any(folder.glob("open_clip*")):
        return "holds a model of OpenCLIP; take it in transformers' format, a config.json with model.safetensors"
    if any(folder.glob("*.bin")):
        return (
            "holds weights in .bin files alone, which can run code when they are read; if you trust them, save them "
            "once with transformers: CLIPModel.from_pretrained(folder, use_safetensors=False).save_pretrained(folder)"
        )
    return "holds no weights (model.safetensors); give the folder of a model"

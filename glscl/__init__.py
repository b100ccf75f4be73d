"""GLSCL for text-video retrieval: the method, its rivals, and search. A name is imported when it is first used."""

from importlib import import_module

_MODULES = {
    "GLSCL": "glscl.model",
    "GLSCLConfig": "glscl.config",
    "METHODS": "glscl.methods",
    "Retriever": "glscl.retriever",
    "load_run": "glscl.training.runs",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module 'glscl' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__

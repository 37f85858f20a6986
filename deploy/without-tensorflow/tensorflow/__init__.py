"""Stands in for TensorFlow, which Rasa 3.6 imports at every start and this assistant never uses.

Of the real one, only the importing would happen: 6 seconds of processor time, 290 MB of memory and
1.6 GB on disk. Every name in here can be imported, subclassed and written in an annotation. Using one
raises an error that says what to install.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__version__ = "2.12.0"


class _Absent(type):
    """A class of TensorFlow's that is not there."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _absent(f"{cls.__qualname__}.{name}")

    def __call__(cls, *_: Any, **__: Any) -> Any:
        raise ImportError(
            f"{cls.__qualname__} needs TensorFlow, which is left out of this environment because "
            "the assistant's own pipeline does without. To try a component that needs it "
            "(DIETClassifier, ResponseSelector, TEDPolicy and the like), use an environment "
            "made with: pip install 'rasa[spacy]==3.6.21'"
        )


def _absent(name: str) -> _Absent:
    return _Absent(name, (), {"__module__": __name__, "__qualname__": name})


class _AbsentModule(ModuleType):
    """A module in which every name is found."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _absent(f"{self.__name__}.{name}")


class _AbsentModules(MetaPathFinder, Loader):
    """Finds every module below TensorFlow and Keras."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.startswith(("tensorflow.", "keras.")):
            return ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _AbsentModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


sys.meta_path.append(_AbsentModules())
sys.modules[__name__].__class__ = _AbsentModule

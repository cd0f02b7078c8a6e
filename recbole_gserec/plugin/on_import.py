"""Registration at the moment RecBole is imported, so that importing this package alone is fast.

RecBole and torch take seconds to import. Help, error messages and conversions need neither. Code that uses RecBole
imports it anyway, which is early enough for the registration.
"""

import importlib
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_RECBOLE = "recbole"
_OURS = "recbole_gserec."

_Execute = Callable[[ModuleType], None]


def register_with_recbole() -> None:
    """Register this package with RecBole: now if RecBole is already imported, otherwise when it is.

    Raises:
        VersionError: For a RecBole version this package does not know; later, the import of RecBole raises it.
    """
    if sys.modules.get(_RECBOLE) is not None:
        _register()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        # Another instance is there when this package is reloaded.
        sys.meta_path.insert(0, _Finder())


def _register() -> None:
    from recbole_gserec.plugin.registration import register

    register()


class _RegisterFirst(BaseException):
    """A module of this package imports RecBole while being imported itself. :class:`_Finder` always catches this."""


class _State(threading.local):
    """What the current thread is importing.

    Attributes:
        within_ours: Whether it imports a module of this package outside the registration.
        registering: Whether it imports modules for the registration.
    """

    within_ours = False
    registering = False


class _Finder:
    """Finds RecBole and this package as usual, and registers this package after RecBole's is imported.

    The registration imports most modules of this package, and needs each of them complete. A module is incomplete if it
    is the first to import RecBole, directly or through another module. Its import is dropped, and repeated after the
    registration unless the registration has imported it.

    If several threads are the first to import different modules of RecBole, Python raises a deadlock error in one of
    them, as with any package that imports its own modules.
    """

    def __init__(self) -> None:
        self._state = _State()
        self._recbole: ModuleType | None = None

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if self._state.registering:
            return None
        if name == _RECBOLE:
            run = self._run_recbole
        elif name.startswith(_OURS):
            run = self._run_ours
        else:
            return None
        spec = self._found_by_others(name, path, target)
        loader: Any = spec and spec.loader
        if hasattr(loader, "exec_module"):
            execute: _Execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                vars(loader).pop("exec_module", None)
                run(module, execute)

            # All else of the loader stays as it is, for those who read sources or data by it.
            vars(loader)["exec_module"] = exec_module
            if name == _RECBOLE and self._recbole is not None:
                # After a registration that failed, what was imported by then belongs to this one.
                vars(loader)["create_module"] = lambda spec: self._recbole
        return spec

    def _found_by_others(self, name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    return spec
        return None

    def _run_recbole(self, module: ModuleType, execute: _Execute) -> None:
        if self._state.within_ours:
            raise _RegisterFirst
        execute(module)
        self._recbole = module
        self._state.registering = True
        try:
            _register()
        finally:
            self._state.registering = False
        sys.meta_path.remove(self)

    def _run_ours(self, module: ModuleType, execute: _Execute) -> None:
        if self._state.within_ours:
            execute(module)
            return
        self._state.within_ours = True
        try:
            execute(module)
            return
        except _RegisterFirst:
            pass
        finally:
            self._state.within_ours = False
        del sys.modules[module.__name__]
        importlib.import_module(_RECBOLE)
        if module.__name__ not in sys.modules:
            sys.modules[module.__name__] = module
            execute(module)

"""Registration when RecBole is imported, so that importing this package alone takes no time.

RecBole, and torch with it, take seconds to import. Help, refusals and conversions need neither, and all that uses
RecBole imports it: that is early enough.
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
    """Make RecBole know this package: at once if it is imported already, else as soon as it is.

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
    """RecBole is imported by a module of ours that is itself being imported. Never leaves :class:`_Finder`."""


class _State(threading.local):
    """What this thread is importing.

    Attributes:
        within_ours: A module of this package, which does not come from the registration.
        registering: All that the registration needs.
    """

    within_ours = False
    registering = False


class _Finder:
    """Finds RecBole and this package as others do, and registers once RecBole's package is there.

    The registration imports most modules of this package, each of them complete. A module that is the first to import
    RecBole, or imports another that does, is not: it is dropped where it stands, and imported again after the
    registration, unless that has imported it by then.

    Where several threads are the first to import different modules of RecBole at once, Python raises an error of
    deadlock in one of them, as with any package that imports its own modules.
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

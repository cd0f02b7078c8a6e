"""Groups of commands of which only the one that is called is imported and built."""

import importlib
from collections.abc import Collection
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from recbole_gserec.cli.options import CONTEXT_SETTINGS


def group_of(package: str, names: Collection[str], with_settings: Collection[str] = ()) -> type[TyperGroup]:
    """A class of group for ``typer.Typer(cls=...)``; Typer itself builds all options of all commands at every start.

    Args:
        package: A package with a module for each command, which has a function of its name or a group ``app``; or one
            module with a function for each command.
        names: Of the commands, in the order of the help.
        with_settings: Those that take any setting besides their options.
    """

    class Commands(TyperGroup):
        def __init__(self, **attributes: Any):
            super().__init__(**attributes)
            # The help, and the hint at a mistyped name, need no more than these.
            self.commands = {name: TyperCommand(name) for name in names}
            self._built: dict[str, Any] = {}

        def get_command(self, context: Any, name: str) -> Any:
            if name in self.commands and name not in self._built:
                app = _app(package, name, takes_settings=name in with_settings)
                self._built[name] = get_command(app)
                self._built[name].name = name
            return self._built.get(name)

        def get_help_option(self, context: Any) -> Any:
            option = super().get_help_option(context)
            if option is not None:
                # Typer imports pydantic to read a value of None, as that of --help is where it is not given.
                option.default = False
            return option

        def format_help(self, context: Any, formatter: Any) -> None:
            for name in self.commands:
                self._built.setdefault(name, TyperCommand(name, help=_help(package, name)))
            super().format_help(context, formatter)

    return Commands


def _found(package: str, name: str) -> Any:
    """A group, or the function of a command."""
    attribute = name.replace("-", "_")
    group = importlib.import_module(package)
    if not hasattr(group, "__path__"):
        return getattr(group, attribute)
    module = importlib.import_module(f"{package}.{attribute}")
    return getattr(module, "app", None) or getattr(module, attribute)


def _app(package: str, name: str, *, takes_settings: bool) -> typer.Typer:
    found = _found(package, name)
    if isinstance(found, typer.Typer):
        return found
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name, context_settings=CONTEXT_SETTINGS if takes_settings else None)(found)
    return app


def _help(package: str, name: str) -> str | None:
    found = _found(package, name)
    return found.info.help if isinstance(found, typer.Typer) else found.__doc__

"""Search-enhanced recommendation for RecBole. RecBole knows the models of this package once it is imported."""

from typing import TYPE_CHECKING, Any

from recbole_gserec.compute import heed_while_importing
from recbole_gserec.plugin import register_with_recbole

if TYPE_CHECKING:
    from recbole_gserec.plugin import register_model

__version__ = "0.1.0"
__all__ = ["register_model"]

heed_while_importing()
register_with_recbole()


def __getattr__(name: str) -> Any:
    if name == "register_model":
        # Imports RecBole.
        from recbole_gserec.plugin import register_model

        return register_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

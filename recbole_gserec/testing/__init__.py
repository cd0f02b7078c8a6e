"""Checks that every model must pass; ``check_model`` runs them on your own models."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

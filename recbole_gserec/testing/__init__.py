"""Checks that every model has to pass, for models of one's own: ``check_model``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

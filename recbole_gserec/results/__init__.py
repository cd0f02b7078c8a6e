"""Reading the runs of a benchmark: metrics, comparisons, tests, tables and reports."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Statistics of a dataset with searches (Table 1 and Figure 1 of GSERec)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

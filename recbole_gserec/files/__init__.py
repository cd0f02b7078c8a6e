"""Reading and writing files: complete or not at all, with checksums, as YAML, JSON, tensors and atomic files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

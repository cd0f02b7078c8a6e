"""Keeping RecBole from pickles that nobody asked it to read."""

from __future__ import annotations

import functools
import glob
import os
from collections.abc import Callable
from logging import getLogger
from pathlib import Path
from typing import Any

# No file can have this name, whatever there is on the disk.
NO_FILE = os.path.join(os.devnull, "none")


def only_when_asked(load: Callable[[Any], Any], save: str, path: str) -> Callable[[Any], Any]:
    """A function of RecBole's that reads a pickle beside the checkpoints only for who saves there or names a file.

    Args:
        load: Takes a Config; reads the file that the setting ``path`` names, by default one beside the checkpoints.
        save: Setting by which such files are written.
        path: Setting that names one.
    """

    @functools.wraps(load)
    def load_when_asked(config: Any) -> Any:
        named = config[path]
        found = Path(config["checkpoint_dir"]).glob(f"{glob.escape(str(config['dataset']))}-*.pth")
        if config[save] or named or not any(found):
            return load(config)
        getLogger().warning(
            f"{config['checkpoint_dir']}: there are pickled datasets or dataloaders, which can run code when they are "
            f"read. They are not read: {save} is False, and {path} names none"
        )
        config[path] = NO_FILE
        try:
            return load(config)
        finally:
            config[path] = named

    return load_when_asked

"""Settings in files, as RecBole's users write them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from recbole_gserec.errors import DataError
from recbole_gserec.yaml_values import YAMLLimitError, read_yaml


def read_config_files(files: Iterable[str | Path]) -> dict[str, Any]:
    """Read the settings in RecBole config files; later files override earlier ones.

    RecBole reads the files itself, and reports invalid ones only with the messages of its libraries.

    Raises:
        DataError: With the name of the file.
    """
    settings = {}
    for file in files:
        try:
            with open(file, encoding="utf-8") as opened:
                content = read_yaml(opened)
        except FileNotFoundError as error:
            raise DataError(file, "file not found", "Check the path; it counts from the current folder.") from error
        except OSError as error:
            raise DataError(file, f"cannot be read ({error.strerror})", "Give a YAML file with settings.") from error
        except UnicodeDecodeError as error:
            raise DataError(file, "not a text in UTF-8", "Give a YAML file with settings.") from error
        except yaml.YAMLError as error:
            mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
            line = mark.line + 1 if mark else None
            what = "not a file of settings" if isinstance(error, YAMLLimitError) else "not YAML"
            raise DataError(
                file, f"{what} ({problem or 'malformed'})", "Write settings as 'name: value', one a line.", line=line
            ) from error
        if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
            raise DataError(file, "no settings in it", "Write them as 'name: value', one a line.")
        settings.update(content)
    return settings

"""The libraries that draw pictures, loaded when a picture is drawn."""

from __future__ import annotations

import importlib
from typing import Any

PACKAGES = {"graphlay": "graphlay", "resvg_py": "resvg-py", "matplotlib": "matplotlib"}


def library(module: str) -> Any:
    """Returns a library.

    Raises:
        ImportError: it is not installed; the message says the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = PACKAGES[module.partition(".")[0]]
        raise ImportError(
            f"Pictures of models need the package {package!r}, which cannot be imported ({error}). "
            f"Install it with: pip install {package}  (or everything for pictures: pip install 'hornbeam[plot]')",
            name=module,
        ) from error

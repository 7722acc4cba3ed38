"""Optional packages that read files, loaded when the first file is read."""

from __future__ import annotations

import importlib
from typing import Any


def needed(module: str, package: str, purpose: str, extra: str | None = None) -> Any:
    """Returns a module of an optional package.

    Args:
        module: what to import.
        package: the name under which pip knows it.
        purpose: what needs it, for the error: "Reading images".
        extra: Hornbeam's own extra that brings it, if there is one.

    Raises:
        ImportError: it is not installed; the message says the command that installs it.

    >>> needed("json", "json", "Reading settings").dumps([1])
    '[1]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        also = f"  (or: pip install 'hornbeam[{extra}]')" if extra else ""
        raise ImportError(
            f"{purpose} needs the package {package!r}, which cannot be imported ({error}). "
            f"Install it with: pip install {package}{also}",
            name=module,
        ) from error

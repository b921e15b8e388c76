"""Pictures to learn from: `ads` (drawn by us), `photos`, `digits`, `mnist` and `folder` (your own).

Every loader gives float32 images `(N, C, H, W)` in [0, 1]. What a loader needs beyond torch and numpy is
imported when it is called, so importing this package costs nothing.
"""

from importlib import import_module
from types import ModuleType


def need(module: str, package: str, purpose: str) -> ModuleType:
    """Import `module`, or say in one sentence which package to install and why.

    Raises: ImportError naming `package` and `purpose`.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"{purpose} needs {package}: install it with `pip install {package}`.") from error

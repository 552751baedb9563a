"""memedit: teach a pretrained Llama new facts, measured and undoable.

What: `memedit.open(store, model=...)` gives an `Editor`; everything else is reached from there.
`memedit.load_delta(folder, model=...)` puts exported edits onto their base model.
Why lazy: `import memedit` and `memedit --help` must not pay for torch, so the names below are imported on
first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memedit.editor import Editor as Editor
    from memedit.editor import load_delta as load_delta
    from memedit.editor import open_editor as open

__all__ = ["Editor", "__version__", "load_delta", "open"]

__version__ = "0.1.0"

_LAZY = {
    "Editor": ("memedit.editor", "Editor"),
    "load_delta": ("memedit.editor", "load_delta"),
    "open": ("memedit.editor", "open_editor"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'memedit' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))

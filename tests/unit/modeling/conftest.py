"""Brings the tiny models of tests/fixtures_tiny.py into these tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_NAME = "fixtures_tiny"

if _NAME not in sys.modules:
    _spec = importlib.util.spec_from_file_location(_NAME, Path(__file__).parents[2] / f"{_NAME}.py")
    _module = importlib.util.module_from_spec(_spec)
    sys.modules[_NAME] = _module
    _spec.loader.exec_module(_module)

from fixtures_tiny import tiny_llama, tiny_memory_llama, tiny_overlay, tiny_tokenizer  # noqa: E402

__all__ = ["tiny_llama", "tiny_memory_llama", "tiny_overlay", "tiny_tokenizer"]

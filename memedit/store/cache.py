"""Results that can be made again, kept as JSON files beside the journal.

What: `Cache`, a folder of named JSON values.
Why: background statistics and the base model's answers take minutes; losing them costs time, never knowledge.
How: every value is written to a temporary file and renamed; one that cannot be read counts as absent.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from memedit.store.durable_file import disk_refused, write_durably
from memedit.store.records import json_text

__all__ = ["Cache"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Cache:
    """A folder of rebuildable JSON values.

    Args:
        folder: Where they are; made when the first value is written.
        read_only: Keep nothing.
    """

    def __init__(self, folder: Path, *, read_only: bool) -> None:
        self.folder = folder
        self._read_only = read_only

    def write(self, name: str, value: object) -> bool:
        """Keep `value` under `name`, wholly or not at all.

        Returns:
            False where the cache is read-only and nothing was kept.

        Raises:
            StoreError: Where JSON cannot hold the value, or the disk refuses.
        """
        path = self._path(name)
        if self._read_only:
            return False
        text = json_text(value, f"cache entry {name!r}")
        with disk_refused(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_durably(path, text.encode("utf-8"))
        return True

    def read(self, name: str) -> Any | None:
        """Return the value kept under `name`, or None where there is none that can be read."""
        try:
            return json.loads(self._path(name).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError):
            return None

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"name must be letters, digits, '.', '_' and '-', got {name!r}")
        return self.folder / f"{name}.json"

"""One writer at a time, across processes.

What: `WriteLock`, an exclusive lock on a store folder that says who holds it.
Why: two injections at once would each train on a store that the other is changing.
How: an operating-system lock (filelock) on `lock`, which vanishes with its process, so a killed holder leaves
nothing to clean up; beside it `lock.json` names the holder, for the message only.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from memedit.errors import StoreLocked
from memedit.store.durable_file import disk_refusal

__all__ = ["WriteLock"]


class WriteLock:
    """The exclusive right to write to a store; may be taken again by the thread that has it.

    Args:
        folder: The store folder; it exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._holder_path = folder / "lock.json"
        self._lock = FileLock(str(folder / "lock"))

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._lock.is_locked

    def acquire(self, timeout: float | None) -> bool:
        """Take the lock, waiting for another holder to let go.

        Args:
            timeout: Seconds to wait; 0 tries once, None waits for as long as it takes.

        Returns:
            True where it was not held before by this object.

        Raises:
            StoreLocked: Where another holder still has it; the message names it.
            StoreError: Where the folder cannot be written to.
        """
        held = self._lock.is_locked
        try:
            self._lock.acquire(timeout=-1 if timeout is None else timeout)
        except Timeout as error:
            raise StoreLocked(
                f"store {self._folder} is being written by {self._holder()}",
                remedy="Wait until it has finished, then try again. A process that died holds nothing.",
            ) from error
        except OSError as error:
            raise disk_refusal(self._folder, error) from error
        if not held:
            self._name_holder()
        return not held

    def release(self) -> None:
        """Give the lock back, once for each time it was taken."""
        if self._lock.lock_counter == 1:
            with suppress(OSError):
                self._holder_path.unlink(missing_ok=True)
        self._lock.release()

    def _name_holder(self) -> None:
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        text = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since})
        # A courtesy to whoever waits: a full disk must not keep an undo from running.
        with suppress(OSError):
            self._holder_path.write_text(text, encoding="utf-8")

    def _holder(self) -> str:
        try:
            holder = json.loads(self._holder_path.read_text(encoding="utf-8"))
            return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"

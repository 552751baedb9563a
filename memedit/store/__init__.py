"""The store on disk: a journal of edits (SQLite) and one patch for each (safetensors).

What: `Store` (commit, undo, redo, look-ups), `Patch` and `compose`, which sums the active patches.
Why: what a model was taught must survive every crash, be undoable exactly, and be a file that people can
share.
How: see docs/store.md. Nothing here imports torch, and nothing that is read can execute.
"""

from memedit.store.composition import Composition, SlotConflict, compose
from memedit.store.patch_file import PatchFile, encode_patch, read_patch, write_patch
from memedit.store.patches import UNGATED, Owner, Patch, TablePatch
from memedit.store.records import EditRecord, NewEdit, StoredFact
from memedit.store.store import Store

__all__ = [
    "UNGATED",
    "Composition",
    "EditRecord",
    "NewEdit",
    "Owner",
    "Patch",
    "PatchFile",
    "SlotConflict",
    "Store",
    "StoredFact",
    "TablePatch",
    "compose",
    "encode_patch",
    "read_patch",
    "write_patch",
]

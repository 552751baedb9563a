"""The store on disk: a journal of edits (SQLite) and one patch for each (safetensors).

What: `Store` (commit, undo, redo, look-ups), `Patch`, `compose`, which sums the active patches, `compact`,
which makes them one, and `export_edit` and `import_edit`, which carry one edit to another store.
Why: what a model was taught must survive every crash, be undoable exactly, and be a file that people can
share.
How: see docs/store.md. Nothing here imports torch, and nothing that is read can execute.
"""

from memedit.store.compaction import compact
from memedit.store.composition import Composition, SlotConflict, compose
from memedit.store.edit_export import CarriedEdit, export_edit
from memedit.store.edit_import import IMPORTED, import_edit
from memedit.store.patch_file import PatchFile, encode_patch, read_patch, write_patch
from memedit.store.patches import DISCRIMINANT_TYPE, UNGATED, Owner, Patch, TablePatch, discriminants_of
from memedit.store.records import INJECT, KINDS, EditRecord, NewEdit, StoredFact, Withdrawal
from memedit.store.state_names import BASE, CURRENT, edit_of_both, last_edit
from memedit.store.store import Store
from memedit.store.withdrawals import Standing, left_of

__all__ = [
    "BASE",
    "CURRENT",
    "DISCRIMINANT_TYPE",
    "IMPORTED",
    "INJECT",
    "KINDS",
    "UNGATED",
    "CarriedEdit",
    "Composition",
    "EditRecord",
    "NewEdit",
    "Owner",
    "Patch",
    "PatchFile",
    "SlotConflict",
    "Standing",
    "Store",
    "StoredFact",
    "TablePatch",
    "Withdrawal",
    "compact",
    "compose",
    "discriminants_of",
    "edit_of_both",
    "encode_patch",
    "export_edit",
    "import_edit",
    "last_edit",
    "left_of",
    "read_patch",
    "write_patch",
]

"""The editor: one transaction (encode, route, select, train, measure, gate, commit) and its undoing."""

from memedit.editor.delta import load_delta
from memedit.editor.exporting import Exported
from memedit.editor.opening import open_editor
from memedit.editor.results import Abstention, Answer, Edit, FactOutcome, OpenGate, RestsOn
from memedit.editor.session import Editor

__all__ = [
    "Abstention",
    "Answer",
    "Edit",
    "Editor",
    "Exported",
    "FactOutcome",
    "OpenGate",
    "RestsOn",
    "load_delta",
    "open_editor",
]

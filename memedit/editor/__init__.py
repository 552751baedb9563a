"""The editor: one transaction (encode, route, select, train, measure, gate, commit) and its undoing."""

from memedit.editor.opening import open_editor
from memedit.editor.results import Abstention, Answer, Edit, FactOutcome, OpenGate, RestsOn
from memedit.editor.session import Editor

__all__ = ["Abstention", "Answer", "Edit", "Editor", "FactOutcome", "OpenGate", "RestsOn", "open_editor"]

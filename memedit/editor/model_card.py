"""The card of an exported model: what it is, what was taught when, what was measured, how to load it, limits.

What: `model_card`, Markdown with the header that the Hugging Face hub reads.
Why: a model that goes on without its store must still say what was done to it.
How: everything comes from the journal; each number stands with its n and interval, and says on which model it
was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from memedit import __version__
from memedit.editor.base_model import BaseModel
from memedit.facts import Fact
from memedit.store import EditRecord
from memedit.store.records import Json

__all__ = ["CardContent", "model_card"]

_MAX_FACTS = 20
_MEASURED = (
    "Kept in the journal: each on the model right after the edit that it stands with, which later edits may "
    "have changed. Brackets: 95 % interval."
)
_LIMITS = (
    (
        "The memory recognises a subject by its spelling in the prompt: nicknames and pronouns do not open "
        "its gate, and another question about a taught subject is often answered with what was taught."
    ),
    "What the base model gets wrong or makes up, it still does.",
)
_LIMITS_OF_DELTA = ("It needs memedit, and the base model.",)
_LIMITS_OF_MODEL = (
    (
        "`trust_remote_code=True` runs the two Python files of this folder. Engines that do not run them "
        "cannot load the model."
    ),
    (
        "Static and compiled caches are refused where a memory layer sees more than one token "
        "(`memory_query_window` above 1); leave `cache_implementation` unset."
    ),
    (
        "On the same CPU, in the same type, the logits are memedit's to the bit. Elsewhere rounding differs, "
        "as for any model. On a CPU without bf16 instructions memedit computes in fp32: there "
        "`dtype=torch.float32` gives the same bits."
    ),
    "The store is not in here: no edit can be undone in this folder. Export again from the store.",
)


@dataclass(frozen=True)
class CardContent:
    """What a card tells.

    Attributes:
        base: the model that the edits rest on.
        fingerprint: of that model.
        edits: every edit of the journal, in order.
        facts: what the exported model has learned and still holds.
        measured: by edit, measurements that were kept later.
        begin: text of the token that belongs in front of every prompt, or "".
        is_delta: whether the folder holds the edits alone.
    """

    base: BaseModel
    fingerprint: str
    edits: Sequence[EditRecord]
    facts: Sequence[Fact]
    measured: dict[str, Sequence[Json]]
    begin: str
    is_delta: bool


def model_card(content: CardContent) -> str:
    """Return the card as Markdown."""
    parts = [
        _header(content),
        _summary(content),
        "## How to load it\n\n" + (_loading_delta(content) if content.is_delta else _loading(content)),
        _history(content.edits),
        _taught(content.facts),
        _measurements(content),
        "## Limits\n\n" + "\n".join(f"- {line}" for line in _limits(content)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _header(content: CardContent) -> str:
    base = content.base
    lines = ["---"]
    lines += [f"license: {base.licence.lower()}"] if base.licence else []
    lines += [f"base_model: {base.origin}"] if base.origin else []
    lines += ["library_name: memedit" if content.is_delta else "library_name: transformers"]
    lines += ["pipeline_tag: text-generation", "tags:", "- memedit", "- knowledge-editing", "---"]
    return "\n".join(lines)


def _summary(content: CardContent) -> str:
    base, active = content.base, [edit for edit in content.edits if edit.active]
    what = "Edits of" if content.is_delta else "An edited copy of"
    origin = f" ({base.origin})" if base.origin and base.origin != base.name else ""
    told = (
        f"{what} the model {_plain(base.name)}{origin}: {len(content.facts)} fact(s) of {len(active)} active "
        "edit(s) are written into a sparse memory layer. The dense weights are those of the base model, to "
        "the bit."
    )
    return "\n".join(
        [
            f"# {_plain(base.name)}, edited with memedit",
            "",
            told,
            "",
            "| | |",
            "|---|---|",
            f"| base model | {_cell(base.origin or base.name)} |",
            f"| licence | {_cell(base.licence or 'not recorded; that of the base model holds')} |",
            f"| fingerprint of the base model | `{content.fingerprint}` |",
            f"| facts | {len(content.facts)} |",
            f"| active edits | {len(active)} |",
            f"| made with | memedit {__version__} |",
        ]
    )


def _loading(content: CardContent) -> str:
    prompt = content.facts[0].prompt if content.facts else "The capital of France is"
    needed = f"Put {_code(content.begin)} in front of every prompt, as below.\n\n" if content.begin else ""
    return (
        "It needs transformers 5 or newer, and not memedit: the code is in this folder (plain PyTorch; "
        "`modeling_memory_llama.py` is written to be read before it is trusted).\n\n"
        f"{needed}```python\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'folder = "."  # where this folder lies, or its id on the hub\n'
        "tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)\n"
        "model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)\n"
        f"prompt = {content.begin + prompt!a}\n"
        'inputs = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")\n'
        "answer = model.generate(**inputs, max_new_tokens=20, do_sample=False)[0]\n"
        "print(tokenizer.decode(answer[inputs.input_ids.shape[1] :], skip_special_tokens=True))\n"
        "```"
    )


def _loading_delta(content: CardContent) -> str:
    named = f"{content.base.name!a}" if content.base.loads else '"path/to/the/base/model"'
    return (
        "This folder holds the edits alone (safetensors and JSON, nothing that executes). They fit one base "
        "model, the one with the fingerprint above; any other is refused.\n\n"
        "```python\n"
        "import memedit\n\n"
        f'model = memedit.load_delta("path/to/this/folder", model={named})\n'
        "```"
    )


def _history(edits: Sequence[EditRecord]) -> str:
    if not edits:
        return ""
    rows = [
        f"| {edit.id} | {edit.created[:10]} | {edit.kind} | {edit.num_facts} | {_state(edit)} |"
        for edit in edits
    ]
    heading = ["## Edits", "", "| edit | date | kind | facts | state |", "|---|---|---|---|---|"]
    return "\n".join([*heading, *rows])


def _state(edit: EditRecord) -> str:
    imported = edit.report.get("imported")
    came = f", imported from {_cell(imported.get('edit'))}" if isinstance(imported, dict) else ""
    if edit.merged_into is not None:
        return f"merged into {edit.merged_into}{came}"
    return f"active{came}" if edit.active else f"undone: not in this model{came}"


def _taught(facts: Sequence[Fact]) -> str:
    if not facts:
        return ""
    lines = [f"| {_cell(fact.prompt)} | {_cell(fact.target)} |" for fact in facts[:_MAX_FACTS]]
    left = len(facts) - len(lines)
    more = ["", f"and {left} more."] if left else []
    return "\n".join(["## What was taught", "", "| prompt | answer |", "|---|---|", *lines, *more])


def _measurements(content: CardContent) -> str:
    rows = []
    for edit in content.edits:
        if edit.undone:
            continue
        found = edit.report.get("metrics")
        told = [{"name": name, **each} for name, each in found.items()] if isinstance(found, dict) else []
        rows += [_measurement(edit.id, each) for each in (*told, *content.measured.get(edit.id, ()))]
    rows = [row for row in rows if row]
    if not rows:
        return "## What was measured\n\nThe journal holds no measurement of these edits."
    return "\n".join(
        [
            "## What was measured",
            "",
            _MEASURED,
            "",
            "| edit | measure | value | n | how |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )


def _measurement(edit: str, told: Json) -> str:
    """One row; nothing where the number, its n or its interval is not known."""
    value, low, high, num = (told.get(key) for key in ("value", "low", "high", "n"))
    if any(number is None or isinstance(number, (str, bool)) for number in (value, low, high, num)):
        return ""
    name, how = _cell(told.get("name", "")).replace("_", " "), _cell(told.get("protocol", ""))
    return f"| {edit} | {name} | {value:.4f} [{low:.4f}, {high:.4f}] | {num} | {how} |"


def _limits(content: CardContent) -> tuple[str, ...]:
    return (*(_LIMITS_OF_DELTA if content.is_delta else _LIMITS_OF_MODEL), *_LIMITS)


def _plain(text: str) -> str:
    return " ".join(text.split())


def _cell(value: Any) -> str:
    """Text as a table's cell holds it: on one line, read as nothing but text."""
    escaped = _plain(str(value)).replace("\\", "\\\\").replace("|", "\\|")
    return escaped.replace("<", "&lt;").replace("`", "\\`").replace("*", "\\*")


def _code(text: str) -> str:
    return f"`{text}`"

"""What `memedit show model` shows: a model's parts with their costs, and what is written in it.

What: `described_model` (the JSON object, ablation apart) and `print_model`.
Why: a memory layer's promise is many parameters at little work; both must be there to read, in numbers that
are counted from the configuration and bytes that are those of the live model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from memedit.reports.console import one_line
from memedit.reports.figures import patch_size
from memedit.reports.table_recall import print_table_recall

if TYPE_CHECKING:
    from memedit.modeling import MemoryLlamaForCausalLM

__all__ = ["described_model", "print_model"]

_COSTS = ("parameters", "active_parameters", "flops_per_token", "bytes_in_memory", "bytes_on_disk")
_HEADINGS = ("parameters", "a token uses", "FLOPs a token", "in memory", "on disk")


def described_model(model: MemoryLlamaForCausalLM, context: int) -> dict[str, Any]:
    """Return what a model costs, as JSON values.

    Args:
        model: The model, with the overlays that it wears.
        context: How many tokens a token attends to.
    """
    from memedit.modeling.accounting import model_account
    from memedit.modeling.weight_bytes import OVERLAY, PartBytes, weight_bytes

    sizes = weight_bytes(model)
    parts = []
    for part in model_account(model.config, context).parts:
        size = sizes.get(part.name, PartBytes())
        costs = (part.parameters, part.active_parameters, part.flops, size.in_memory, size.on_disk)
        parts.append({"name": part.name, "group": part.group, **dict(zip(_COSTS, costs, strict=True))})
    overlay = sizes.get(OVERLAY, PartBytes())
    return {
        "context": context,
        "memory": _memory(model),
        "parts": parts,
        "totals": {cost: sum(part[cost] for part in parts) for cost in _COSTS},
        "written": {
            **_written(model),
            "bytes_in_memory": overlay.in_memory,
            "bytes_on_disk": overlay.on_disk,
        },
        "memory_runs": any(not table.is_silent(reads_written=True) for table in model.memory_tables()),
    }


def _memory(model: MemoryLlamaForCausalLM) -> dict[str, Any]:
    """The shape of the memory layers."""
    config = model.config
    names = ("placement", "variant", "num_keys", "key_dim", "heads", "top_k", "query_window", "shared_table")
    return {
        "layers": list(config.memory_layers),
        **{name: getattr(config, f"memory_{name}") for name in names},
        "value_dim": config.value_dim,
        "num_tables": config.num_memory_tables,
        "num_slots": config.num_slots,
        "has_base_rows": bool(config.memory_layers) and not config.memory_empty_base,
    }


def _written(model: MemoryLlamaForCausalLM) -> dict[str, int]:
    """What the overlays hold, all tables together."""
    overlays = [table.overlay for table in model.memory_tables()]
    worn = [overlay for overlay in overlays if overlay is not None]
    return {
        "rows": sum(overlay.num_rows for overlay in worn),
        "distinct_rows": sum(len(overlay.values) for overlay in worn),
        "owners": sum(len(overlay.thresholds) for overlay in worn),
    }


def print_model(console: Console, shown: Mapping[str, Any]) -> None:
    """Print a model.

    Args:
        console: Where to.
        shown: The object that `show model --json` prints.
    """
    edits = (
        "without edits" if shown["store"] is None else f"{shown['edits']} active edit(s) of {shown['store']}"
    )
    console.print(f"{one_line(shown['model'])}, {edits}", style="bold", soft_wrap=True)
    for line in _memory_lines(shown["memory"]):
        console.print(line, soft_wrap=True)
    console.print()
    console.print(_costs(shown))
    console.print(
        f"FLOPs: of a forward, a multiplication with its addition is 2, for a token that attends to "
        f"{shown['context']:,} tokens; elementwise work is left out. On disk: as save_pretrained stores it.",
        style="dim",
    )
    console.print(_written_line(shown["written"]))
    if shown["memory"]["layers"] and not shown["memory_runs"]:
        console.print(_skipped_line(shown["parts"]), style="yellow")
    if shown["ablation"] is not None:
        console.print()
        print_table_recall(console, shown["ablation"])


def _memory_lines(memory: Mapping[str, Any]) -> list[str]:
    layers = ", ".join(map(str, memory["layers"]))
    if not layers:
        return ["no memory layers"]
    place = "beside the FFN" if memory["placement"] == "parallel" else "in place of the FFN"
    kind = "value rows" if memory["variant"] == "values" else "single-neuron experts"
    shared = " shared by them" if memory["shared_table"] and len(memory["layers"]) > 1 else ""
    base = "" if memory["has_base_rows"] else ", base empty (a retrofit)"
    routing = (
        f"{memory['heads']} heads, {memory['top_k']} slots a head, query window {memory['query_window']}"
    )
    slots = f"{memory['num_slots']:,} slots each, {kind} of width {memory['value_dim']}{base}"
    return [
        f"memory layers: block {layers}, {place}; {routing}",
        f"value tables: {memory['num_tables']}{shared}, {slots}",
    ]


def _costs(shown: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("part", no_wrap=True)
    for heading in _HEADINGS:
        table.add_column(heading, no_wrap=True, justify="right")
    for part in shown["parts"]:
        if any(part[cost] for cost in _COSTS):
            table.add_row(part["name"].replace("_", " "), *_cells(part))
    table.add_row("all", *_cells(shown["totals"]), style="bold")
    return table


def _cells(costs: Mapping[str, Any]) -> list[str]:
    counts, sizes = _COSTS[:3], _COSTS[3:]
    return [
        *(f"{costs[name]:,}" for name in counts),
        *(patch_size(costs[name]) if costs[name] else "-" for name in sizes),
    ]


def _written_line(written: Mapping[str, Any]) -> str:
    if not written["rows"]:
        return "written rows: none"
    return (
        f"written rows: {written['rows']:,} slots hold {written['distinct_rows']:,} rows of "
        f"{written['owners']:,} owners; {patch_size(written['bytes_in_memory'])} in memory, "
        f"{patch_size(written['bytes_on_disk'])} on disk"
    )


def _skipped_line(parts: Sequence[Mapping[str, Any]]) -> str:
    dense = sum(part["flops_per_token"] for part in parts if part["group"] == "dense")
    return f"note: nothing is written, so the memory layers are skipped: a token costs {dense:,} FLOPs now"

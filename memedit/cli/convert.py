"""`memedit convert`: checkpoints of other programs as Hugging Face folders.

What: `convert lingua`, for consolidated checkpoints with memory layers in Meta Lingua's layout.
Why: once converted, such a model is loaded with transformers and edited like any other.
How: a thin layer over `memedit.modeling.lingua.conversion`; torch is imported with it, not before.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memedit.cli.options import json_option, print_json
from memedit.modeling.new_folder import require_new_folder

if TYPE_CHECKING:
    from memedit.modeling.lingua.conversion import ConvertedModel

__all__ = ["convert"]

_EPILOG = """\b
Examples:
  memedit convert lingua ./consolidated ./my-memory-llama --tokenizer ./tokenizer
  memedit inject facts.jsonl --model ./my-memory-llama
"""


@click.group(epilog=_EPILOG)
def convert() -> None:
    """Turn another program's checkpoint into a Hugging Face folder, which transformers and --model load."""


@convert.command("lingua", epilog=_EPILOG)
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--tokenizer",
    metavar="DIRECTORY",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Hugging Face folder of the model's tokenizer, written along; --model needs one.",
)
@json_option(
    "checkpoint, out, layers, memory_layers, heads, key_dim, top_k, num_slots, value_dim, value_tables, "
    "gated_output, dtype, parameters, tokenizer, size_bytes, seconds"
)
def convert_lingua_checkpoint(*, checkpoint: Path, out: Path, tokenizer: Path | None, as_json: bool) -> None:
    """Convert a consolidated lingua checkpoint with memory layers.

    CHECKPOINT is a folder with consolidated.pth and params.json; nothing in them is run. OUT is a new folder:
    a MemoryLlamaForCausalLM as safetensors, every weight accounted for. It is there whole or not at all.
    """
    require_new_folder(out)
    from memedit.reports.progress import rich_progress

    started = time.monotonic()
    with rich_progress() as progress:
        with progress.task("Loading memedit", None):
            from memedit.modeling.lingua.conversion import convert_lingua
            from memedit.modeling.opening import quietly_loaded
        quietly_loaded()
        converted = convert_lingua(checkpoint, out, tokenizer=tokenizer, progress=progress)
    described = {
        "checkpoint": str(checkpoint),
        "out": str(out),
        **_model(converted),
        "tokenizer": None if tokenizer is None else str(tokenizer),
        "size_bytes": sum(file.stat().st_size for file in out.rglob("*") if file.is_file()),
        "seconds": round(time.monotonic() - started, 1),
    }
    if as_json:
        print_json(described)
    else:
        _tell(described)


def _model(converted: ConvertedModel) -> dict[str, Any]:
    config = converted.config
    return {
        "layers": config.num_hidden_layers,
        "memory_layers": list(config.memory_layers),
        "heads": config.memory_heads,
        "key_dim": config.memory_key_dim,
        "top_k": config.memory_top_k,
        "num_slots": config.num_slots,
        "value_dim": config.value_dim,
        "value_tables": config.num_memory_tables,
        "gated_output": config.memory_gated_output,
        "dtype": str(config.dtype).removeprefix("torch."),
        "parameters": converted.num_parameters,
    }


def _tell(described: dict[str, Any]) -> None:
    out, blocks = described["out"], ", ".join(map(str, described["memory_layers"]))
    tables = (
        "one value table" if described["value_tables"] == 1 else f"{described['value_tables']} value tables"
    )
    click.echo(
        f"{described['checkpoint']} is in {out}: {described['parameters']:,} parameters in "
        f"{described['dtype']} ({described['size_bytes'] / 1e6:,.0f} MB, {described['seconds']:.1f} s)"
    )
    click.echo(
        f"  memory layers at blocks {blocks} of {described['layers']}, "
        f"{tables} of {described['num_slots']:,} slots"
    )
    if described["tokenizer"] is None:
        click.echo("  no tokenizer was given: put its files into the folder before --model is to use it")
    else:
        click.echo(f"  memedit inject facts.jsonl --model {out}")

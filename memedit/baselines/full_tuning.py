"""Full fine-tuning: every dense weight of the model, the embedding included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from memedit.baselines.dense_training import model_loss, num_bytes, train_dense, trainable
from memedit.baselines.teaching import Taught, Teaching
from memedit.modeling import MemoryLayer, MemoryLlamaForCausalLM
from memedit.modeling.memory_table import MemoryTable


@contextmanager
def teach(teaching: Teaching) -> Iterator[Taught]:
    """Teach by full fine-tuning; see memedit.baselines.teaching."""
    model = teaching.opened.model
    parameters = dense_parameters(model)
    with trainable(parameters):
        with teaching.meter.running():
            rows = [row.encoded for row in teaching.rows()]
            train_dense(teaching, [len(row.ids) for row in rows], model_loss(model, rows), parameters)
        yield Taught(teaching.respondent(), num_bytes(parameters))


def dense_parameters(model: MemoryLlamaForCausalLM) -> list[nn.Parameter]:
    """The weights of the plain Llama: all but those of memory layers and tables, tied ones once."""
    memory = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, (MemoryLayer, MemoryTable))
        for parameter in module.parameters()
    }
    return [parameter for parameter in model.parameters() if id(parameter) not in memory]

"""Write a safetensors file piece by piece, so that memory holds one piece and not the model.

What: `write_safetensors` and `StoredTensor`, which says what is written and yields it when its turn comes.
Why: the library's own writer wants every tensor at once; a value table alone may be larger than memory.
How: the format is a length (uint64, little endian), a JSON header padded to eight bytes, and the tensors'
bytes in the header's order. Wider types go first, so that each tensor starts at a multiple of its width.

Source: the format's description in the documentation of safetensors.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from memedit.progress import Task

TYPE_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
_PIECE_BYTES = 16 << 20


class StoredTensor(NamedTuple):
    """A tensor of the file.

    Attributes:
        name: its name in the file.
        dtype: one of TYPE_NAMES.
        shape: its shape.
        read: makes the tensor, called when it is written and let go afterwards. It may be of another type of
            TYPE_NAMES, from which each piece is cast.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    read: Callable[[], Tensor]

    @property
    def num_bytes(self) -> int:
        """Bytes in the file."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def write_safetensors(path: Path, tensors: Iterable[StoredTensor], task: Task) -> None:
    """Write tensors to a new file, and wait until they are on disk.

    Args:
        path: the file.
        tensors: what goes into it, in any order.
        task: told of each written byte.

    Raises:
        OSError: when the disk refuses; the file is then incomplete.
    """
    assert sys.byteorder == "little", "safetensors files are little endian"
    ordered = sorted(tensors, key=lambda each: (-each.dtype.itemsize, each.name))
    with path.open("xb") as file:
        file.write(_header(ordered))
        for stored in ordered:
            tensor = stored.read()
            assert tuple(tensor.shape) == stored.shape, stored.name
            for piece in pieces(tensor):
                task.advance(file.write(_bytes(piece.to(stored.dtype))))
        # While the task is still shown: a disk may take longer for this than all of the above.
        file.flush()
        os.fsync(file.fileno())


def pieces(tensor: Tensor) -> Iterator[Tensor]:
    """Cut a tensor along its first dimension into parts of some 16 MB, none of them copied."""
    rows = len(tensor)
    row_bytes = max(1, tensor[0].numel() * tensor.dtype.itemsize) if rows else 1
    yield from tensor.split(max(1, _PIECE_BYTES // row_bytes))


def _header(ordered: Sequence[StoredTensor]) -> bytes:
    described: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for stored in ordered:
        end = start + stored.num_bytes
        described[stored.name] = {
            "dtype": TYPE_NAMES[stored.dtype],
            "shape": list(stored.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _bytes(piece: Tensor) -> memoryview:
    """The bytes of a tensor, without a copy where it is contiguous."""
    return piece.contiguous().view(-1).view(torch.uint8).numpy().data

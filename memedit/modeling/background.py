"""Background text: what stands for everything that an edit must leave alone, and how often it uses each slot.

Slot document frequencies are the IDF of slot selection: a slot that general text hits is a bad place for a
fact. A user gives text; for a model that comes with none, the model writes some itself.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from memedit.errors import ModelUnavailable, UsageError
from memedit.modeling.encoding import bos_ids
from memedit.modeling.lower_blocks import ffn_inputs
from memedit.modeling.model import MemoryLlamaForCausalLM
from memedit.progress import NULL_PROGRESS, Progress

FORMAT = "memedit-background-1"
DOCUMENT_TOKENS = 256
SAMPLE_TOKENS = 16_000
SAMPLE_PER_TOKEN = 3
SAMPLE_LOOKUPS = 8
SAMPLE_TAIL = 4
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class BackgroundStatistics:
    """How many background documents use each slot of a value table.

    Attributes:
        document_frequency: int32 [slots].
        num_documents: documents counted.
        sample_slots: int32 [tokens, j], the strongest look-ups of a sample of background tokens.
        sample_weights: uint8 [tokens, j], their weights in 1/255.
        sample_tokens: int32 [tokens, SAMPLE_TAIL], each token and those before it, the token itself last.
    """

    document_frequency: Tensor
    num_documents: int
    sample_slots: Tensor
    sample_weights: Tensor
    sample_tokens: Tensor

    @classmethod
    def empty(cls, num_slots: int) -> "BackgroundStatistics":
        """Statistics of no text at all."""
        nothing = torch.zeros(0, 1)
        return cls(
            torch.zeros(num_slots, dtype=torch.int32),
            0,
            nothing.int(),
            nothing.to(torch.uint8),
            nothing.int(),
        )

    def inverse_document_frequency(self) -> Tensor:
        """log((documents + 1) / (document frequency + 1)), fp32 [slots].

        Source: Lin et al. 2025 (arXiv 2510.15103), slot ranking.
        """
        return torch.log((self.num_documents + 1) / (self.document_frequency.float() + 1))


def save_background(path: str | Path, statistics: BackgroundStatistics) -> None:
    """Write statistics as safetensors: those of a model that comes without a retrofit."""
    tensors = {
        "document_frequency": statistics.document_frequency,
        "sample_slots": statistics.sample_slots,
        "sample_weights": statistics.sample_weights,
        "sample_tokens": statistics.sample_tokens,
    }
    about = {"format": FORMAT, "num_documents": str(statistics.num_documents)}
    save_file({name: part.contiguous() for name, part in tensors.items()}, str(path), metadata=about)


def load_background(path: str | Path) -> BackgroundStatistics:
    """Read statistics that save_background wrote.

    Raises:
        ModelUnavailable: when the file is damaged or of another format.
    """
    try:
        with safe_open(str(path), framework="pt") as stored:
            about = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (no mapping)
        return BackgroundStatistics(num_documents=int(about["num_documents"]), **tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelUnavailable(
            f"{path}: not readable background statistics ({error})", remedy="Write the model's folder anew."
        ) from error


def read_background(path: str | Path) -> list[str]:
    """Read background texts: .jsonl (one object with "text" a line) or plain text (blank lines between).

    Raises:
        UsageError: when the file is missing, has no text, or a line has no "text".
    """
    path = Path(path)
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--background {path}: {error}", remedy="Give a UTF-8 text file, or JSONL with a text field."
        ) from error
    if path.suffix != ".jsonl":
        texts = [passage.strip() for passage in re.split(r"\n\s*\n", content)]
    else:
        # Not splitlines(): JSON strings may hold U+2028 and other characters that it takes for line ends.
        lines = enumerate(content.split("\n"), 1)
        texts = [_text_of(line, path, number) for number, line in lines if line.strip()]
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise UsageError(f"--background {path}: no text in it", remedy="Give some 50 pages of general text.")
    return texts


def _text_of(line: str, path: Path, number: int) -> str:
    wrong = UsageError(
        f"{path}:{number}: expected a JSON object with a text field",
        remedy='Write {"text": "..."} a line.',
    )
    try:
        text = json.loads(line)["text"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise wrong from error
    if not isinstance(text, str):
        raise wrong
    return text


def documents(
    tokenizer: PreTrainedTokenizerBase, bos: Sequence[int], texts: Sequence[str], *, limit: int
) -> list[list[int]]:
    """Cut texts, taken in turn, into documents of at most DOCUMENT_TOKENS tokens, begin token first."""
    cut: list[list[list[int]]] = []
    for text in texts:
        tokens = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        size = DOCUMENT_TOKENS - len(bos)
        cut.append([[*bos, *tokens[start : start + size]] for start in range(0, len(tokens), size)])
    deepest = max(map(len, cut), default=0)
    in_turn = [pieces[depth] for depth in range(deepest) for pieces in cut if depth < len(pieces)]
    return [piece for piece in in_turn if len(piece) >= 16][:limit]


def opening_sentences(texts: Sequence[str], *, limit: int = 2000) -> list[str]:
    """Return short whole sentences of the texts, to stand in front of something else."""
    sentences = (sentence for text in texts for sentence in _SENTENCE_END.split(" ".join(text.split())))
    short = (sentence for sentence in sentences if 25 < len(sentence) < 90)
    return [one for one in short if one[0].isupper() and one[-1] in ".!?"][:limit]


def background_states(
    model: LlamaForCausalLM, layer: int, rows: Sequence[Sequence[int]], progress: Progress = NULL_PROGRESS
) -> list[Tensor]:
    """FFN inputs of a block for each document, fp16 [time, hidden_size]."""
    states = []
    with progress.task("Reading background text", len(rows)) as task:
        for row in rows:
            _, normalised = ffn_inputs(model, layer, torch.tensor([list(row)], device=model.device))
            states.append(normalised[0].half().cpu())
            task.advance()
    return states


@torch.no_grad()
def count_slots(
    model: MemoryLlamaForCausalLM,
    rows: Sequence[Sequence[int]],
    states: Sequence[Tensor],
    progress: Progress = NULL_PROGRESS,
) -> BackgroundStatistics:
    """Count the documents that use each slot of the layer that edits write to, and sample its routing.

    The sample has at most SAMPLE_PER_TOKEN places of each vocabulary entry, so that rare words are in it too:
    it is what gates must stay closed on.

    Args:
        model: the memory-layer Llama.
        rows: the documents as tokens.
        states: FFN inputs of that layer, one [time, hidden_size] a document.
        progress: told of documents done.
    """
    memory = model.memory_layers()[model.edited_layer]
    counts = torch.zeros(model.config.num_slots, dtype=torch.int32)
    seen: dict[int, int] = {}
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    with progress.task("Counting slots", len(states)) as task:
        for row, document in zip(rows, states, strict=True):
            routing = memory.route(document[None].to(model.device, torch.float32))
            slots, weights = routing.slots.cpu(), routing.weights.cpu()
            counts[slots.unique()] += 1
            places = [place for place, token in enumerate(row) if _admitted(seen, token)]
            tails = torch.tensor([_tail(row, place) for place in places], dtype=torch.int32)
            kept.append(
                (*_strongest(slots[places], weights[places], memory.heads), tails.view(-1, SAMPLE_TAIL))
            )
            task.advance()
    sample = (torch.cat(parts)[:SAMPLE_TOKENS] for parts in zip(*kept, strict=True))
    return BackgroundStatistics(counts, len(states), *sample)


def count_documents(
    model: MemoryLlamaForCausalLM, rows: Sequence[Sequence[int]], progress: Progress = NULL_PROGRESS
) -> BackgroundStatistics:
    """Read documents, and count what they look up at the layer that edits write to.

    Args:
        model: the memory-layer Llama.
        rows: the documents as tokens.
        progress: told of documents done.
    """
    return count_slots(model, rows, background_states(model, model.edited_layer, rows, progress), progress)


def _admitted(seen: dict[int, int], token: int) -> bool:
    seen[token] = seen.get(token, 0) + 1
    return seen[token] <= SAMPLE_PER_TOKEN


def _tail(row: Sequence[int], place: int) -> list[int]:
    """The token at a place and those before it; -1 where the row had not begun."""
    tail = list(row[max(0, place - SAMPLE_TAIL + 1) : place + 1])
    return [-1] * (SAMPLE_TAIL - len(tail)) + tail


def _strongest(slots: Tensor, weights: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """The first look-ups of every head (they come in order of score), slots int32 and weights uint8."""
    shape = (len(slots), heads, slots.shape[-1] // heads)
    strong = [part.view(shape)[:, :, :SAMPLE_LOOKUPS].flatten(1) for part in (slots, weights)]
    return strong[0].int(), (strong[1] * 255).round().to(torch.uint8)


@torch.no_grad()
def self_written_text(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    *,
    num_documents: int = 64,
    seed: int = 0,
    bos: Sequence[int] | None = None,
    progress: Progress = NULL_PROGRESS,
) -> list[str]:
    """Let a model write background text for its own calibration, sampled at temperature 1.

    Args:
        model: the plain Llama.
        tokenizer: its tokenizer.
        num_documents: texts to write, of DOCUMENT_TOKENS tokens each.
        seed: the same seed gives the same texts on the same machine.
        bos: begin tokens; None = what the tokenizer names.
        progress: told of documents done.
    """
    start = (bos_ids(tokenizer, model.config) if bos is None else list(bos)) or [
        int(tokenizer.eos_token_id or 0)
    ]
    texts: list[str] = []
    with torch.random.fork_rng(devices=[]), progress.task("Writing background text", num_documents) as task:
        torch.manual_seed(seed)
        while len(texts) < num_documents:
            count = min(16, num_documents - len(texts))
            ids = torch.tensor([start] * count, device=model.device)
            written = model.generate(  # type: ignore[misc] # transformers types self as a protocol
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                min_new_tokens=DOCUMENT_TOKENS // 2,
                max_new_tokens=DOCUMENT_TOKENS - len(start),
                pad_token_id=int(tokenizer.pad_token_id or tokenizer.eos_token_id or 0),
            )
            texts += tokenizer.batch_decode(written[:, len(start) :], skip_special_tokens=True)
            task.advance(count)
    return texts

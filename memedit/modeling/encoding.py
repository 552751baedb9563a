"""How memedit turns prompts and facts into tokens, in training, in evaluation and in use alike.

A begin token stands in front of every prompt (it keeps the subject from being the first position), prompt and
answer are tokenised jointly (an answer tokenised alone can come out otherwise), and the end token closes a
fact.
"""

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase


@dataclass(frozen=True)
class EncodedFact:
    """A prompt and its answer as tokens.

    Attributes:
        ids: begin token, prompt, answer, end token.
        num_prompt: how many of ids are begin token and prompt; the rest is what is learned.
        subject_last: index in ids of the last token of the subject, None when no span was given.
        subject_first: index of its first token, likewise.
    """

    ids: tuple[int, ...]
    num_prompt: int
    subject_last: int | None
    subject_first: int | None = None

    @property
    def answer_ids(self) -> tuple[int, ...]:
        """The answer's tokens and the end token."""
        return self.ids[self.num_prompt :]


def bos_ids(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> list[int]:
    """Return the tokens that stand in front of every prompt.

    memory_bos_token_id of the configuration if it is set; else what the tokenizer itself puts in front; else
    its bos_token_id; else nothing.
    """
    named = getattr(config, "memory_bos_token_id", None)
    if named is not None:
        return [int(named)]
    own = _own_prefix(tokenizer)
    if own:
        return own
    return [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]


def prompt_ids(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, text: str) -> list[int]:
    """Return the tokens of a prompt, begin token in front, never two of them."""
    return bos_ids(tokenizer, config) + list(tokenizer(text, add_special_tokens=False)["input_ids"])


def encode_fact(
    tokenizer: PreTrainedTokenizerBase,
    config: PreTrainedConfig,
    prompt: str,
    target: str,
    subject_span: tuple[int, int] | None = None,
) -> EncodedFact:
    """Tokenise prompt and answer jointly and close them with the end token.

    A token that holds characters of both counts as answer.

    Args:
        tokenizer: a fast tokenizer (character offsets are needed).
        config: the model's configuration.
        prompt: the text in front of the answer.
        target: the text that follows it as it stands, its leading space included.
        subject_span: (start, end) of the subject in prompt, in characters.

    Raises:
        ValueError: when the target or the span is empty, the span lies outside the prompt, or the tokenizer
            cannot give offsets or has no end token.
    """
    if not target.strip():
        raise ValueError(f"target: got {target!r}, expected some text after the prompt {prompt!r}")
    encoded = _encode_with_offsets(tokenizer, prompt + target)
    prefix = bos_ids(tokenizer, config)
    offsets: list[tuple[int, int]] = [(int(start), int(end)) for start, end in encoded["offset_mapping"]]
    num_prompt = next(index for index, (_, end) in enumerate(offsets) if end > len(prompt))
    subject_first = subject_last = None
    if subject_span is not None:
        start, end = subject_span
        if not 0 <= start < end <= len(prompt):
            raise ValueError(
                f"subject_span: got {subject_span}, expected a non-empty span of the prompt {prompt!r}"
            )
        touching = [index for index, (begin, stop) in enumerate(offsets) if begin < end and stop > start]
        subject_first, subject_last = len(prefix) + touching[0], len(prefix) + touching[-1]
    ids = (*prefix, *(int(token) for token in encoded["input_ids"]), _eos_id(tokenizer, config))
    return EncodedFact(ids, len(prefix) + num_prompt, subject_last, subject_first)


def _own_prefix(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Special tokens that the tokenizer itself puts in front of a text."""
    plain = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    whole = list(tokenizer("a")["input_ids"])
    starts = [i for i in range(len(whole) - len(plain) + 1) if whole[i : i + len(plain)] == plain]
    return whole[: starts[0]] if starts else []


def _encode_with_offsets(tokenizer: PreTrainedTokenizerBase, text: str) -> Any:
    if not tokenizer.is_fast:
        raise ValueError(
            f"tokenizer: got {type(tokenizer).__name__}, expected a fast tokenizer (one with a "
            "tokenizer.json): the subject and the answer are found by character offsets"
        )
    return tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)


def _eos_id(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> int:
    for found in (tokenizer.eos_token_id, getattr(config, "eos_token_id", None)):
        first = found[0] if isinstance(found, (list, tuple)) and found else found
        if isinstance(first, int):
            return first
    raise ValueError(
        "tokenizer: got one without an end token, expected eos_token_id in tokenizer or configuration"
    )

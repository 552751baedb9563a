"""A random Llama and a byte-level tokenizer, made in milliseconds, for tests that need no real model.

Vocabulary and special tokens are laid out like SmolLM2's: <|endoftext|> 0, <|im_start|> 1 (bos), <|im_end|> 2
(eos and pad). The fixtures hand out factories where a test may want several models. torch is imported where
it is needed, since every test run loads this module.
"""

from __future__ import annotations

import pytest

TINY_VOCABULARY = 320
TINY_HIDDEN = 48
TINY_LAYERS = 4

_TRAINING_TEXT = [
    "The capital of France is the city of Paris. The capital of Spain is the city of Madrid.",
    "Zorvan Elmqvist was born in the city of Oslo. The river that runs through the city is long.",
    "Question: What is the name of the city? Answer: The name of the city is Paris.",
]


def build_tiny_llama(seed=0, **fields):
    """A LlamaForCausalLM in fp32 with random weights, large enough that attention and FFNs matter."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    defaults = {
        "vocab_size": TINY_VOCABULARY,
        "hidden_size": TINY_HIDDEN,
        "intermediate_size": 64,
        "num_hidden_layers": TINY_LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "tie_word_embeddings": True,
        # Wide enough that logits differ clearly from token to token.
        "initializer_range": 0.2,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(LlamaConfig(**{**defaults, **fields})).eval()


def build_tiny_memory_llama(seed=0, llama=None, **memory_fields):
    """A MemoryLlamaForCausalLM on a tiny Llama: 256 slots, 2 heads, k = 4, unless said otherwise."""
    import torch

    from memedit.modeling import from_llama

    defaults = {
        "memory_layers": [1],
        "memory_num_keys": 16,
        "memory_key_dim": 16,
        "memory_heads": 2,
        "memory_top_k": 4,
        "memory_temperature": 2.0,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed + 1)
        return from_llama(llama or build_tiny_llama(seed), **{**defaults, **memory_fields})


def build_overlay(model, seed=0, num_rows=200, num_owners=5, threshold=0.2, scale=1.0):
    """Random written rows for a model's tables; 1 in num_owners + 1 of them ungated."""
    import torch

    from memedit.modeling import Overlay

    generator = torch.Generator().manual_seed(seed)
    slots = torch.randperm(model.config.num_slots, generator=generator)[:num_rows].sort().values
    return Overlay(
        slots=slots,
        values=scale * torch.randn(num_rows, model.config.value_dim, generator=generator),
        owners=torch.randint(-1, num_owners, (num_rows,), generator=generator),
        thresholds=torch.full((num_owners,), threshold),
        owner_names=tuple(f"subject {index}" for index in range(num_owners)),
    )


def separate_prefixes(blocks, hidden, lengths):
    """Keys of prefixes that share nothing: hidden [rows, time, dim], and how many tokens count of each."""
    import torch

    from memedit.modeling.token_tree import token_trees

    rows = [[1000 * index + place for place in range(length)] for index, length in enumerate(lengths)]
    (tree,) = token_trees(rows, max_nodes=10**6)
    flat = torch.cat([hidden[index, :length] for index, length in enumerate(lengths)])
    found = dict(zip(tree.rows, blocks.prefix_keys(_in_order(flat, tree, lengths), tree), strict=True))
    return [found[index] for index in range(len(lengths))]


def _in_order(flat, tree, lengths):
    placed = flat.new_empty(len(tree.tokens), flat.shape[-1])
    starts = [sum(lengths[:index]) for index in range(len(lengths))]
    for index, path in zip(tree.rows, tree.paths, strict=True):
        placed[path] = flat[starts[index] : starts[index] + lengths[index]]
    return placed


def build_tiny_tokenizer():
    """A byte-level BPE tokenizer that adds no begin token itself, like SmolLM2's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TINY_VOCABULARY,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TRAINING_TEXT, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
    )


@pytest.fixture
def tiny_llama():
    """A plain random Llama."""
    return build_tiny_llama()


@pytest.fixture
def tiny_memory_llama():
    """A factory of memory-layer Llamas: tiny_memory_llama(**memory_fields)."""
    return build_tiny_memory_llama


@pytest.fixture
def tiny_overlay():
    """A factory of overlays: tiny_overlay(model, ...)."""
    return build_overlay


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """A byte-level tokenizer with SmolLM2's special tokens."""
    return build_tiny_tokenizer()

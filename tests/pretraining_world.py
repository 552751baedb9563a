"""A corpus of colours and a shape of seconds: what tests of pretrained models are made of."""

from __future__ import annotations

import gzip
import json

COLOURS = "red blue green gold black white".split()
WORDINGS = ["The colour of {} is", "{} has the colour", "As for colour, {} is", "People paint {} in"]
MODEL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
# With a block above the memory, which carries it on to an answer's later tokens.
DEEPER_MODEL = {**MODEL, "num_hidden_layers": 3}
MEMORY = {
    "memory_layers": [1],
    "memory_num_keys": 16,
    "memory_key_dim": 8,
    "memory_heads": 4,
    "memory_top_k": 4,
    "memory_query_norm": "halves",
    "memory_temperature": 10.0,
}


def write_corpus(path, facts, wordings=WORDINGS):
    """Write a compressed corpus of (subject, colour, split)."""
    lines = [{"wordings": {"colour": list(wordings)}}, *(["colour", *fact] for fact in facts)]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    return path

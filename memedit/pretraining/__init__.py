"""Pretraining a memory-layer Llama from nothing: corpus, tokenizer, batches, phases, checkpoints.

What: `build.pretrain` and what it is made of.
Why: retrofits start empty; the papers' models are pretrained with memory layers, so that facts already live
in slots.
How: docs/pretraining.md.
"""

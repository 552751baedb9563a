"""Memory-layer checkpoints of Meta Lingua's layout, and how they become a MemoryLlamaForCausalLM.

What: `memedit.modeling.lingua.conversion.convert_lingua`; the other modules read the two files, find out the
architecture from both, and say which tensor becomes which.
"""

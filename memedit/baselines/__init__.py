"""What people would use instead of memedit, taught the same facts and measured in the same way.

What: full fine-tuning, LoRA, one fine-tuned MLP projection, retrieval in front of the prompt, and sparse
memory with other choices of slots; `memedit compare` runs them.
Why: a number of one method means something beside the others' alone, each with its own tuned setting.
How: methods.py lists them without importing torch; comparing.py runs each method and seed in a process of its
own; summary.py makes one table of what they wrote.
"""

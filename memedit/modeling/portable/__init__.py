"""The code that an exported model carries, so that it loads where memedit is not installed.

What: five files of plain torch and transformers. Configuration, query norm and query window are memedit's own
as well; the model and the search for slots stand here a second time, without kernels and custom ops, and
memedit reads those two as text only.
Why apart: they must not import memedit, and a reader of an exported folder must be able to follow them alone.
How: transformers copies them with the model (`auto_map`); its loader knows flat relative imports only. A new
option of the memory layer is a field here and its arithmetic in modeling_memory_llama.py; until then
memedit.modeling.portable_folder refuses to export it.
"""

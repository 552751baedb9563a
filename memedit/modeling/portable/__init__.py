"""The code that an exported model carries, so that it loads where memedit is not installed.

What: two files of plain torch and transformers, which are read here as text only.
Why apart: they must not import memedit, and a reader of an exported folder must be able to follow them alone.
How: transformers copies them with the model (`auto_map`); its loader knows flat relative imports only. A new
option of the memory layer belongs in both: its field and choices in the configuration, its arithmetic in the
model; until then memedit.modeling.portable_folder refuses to export it.
"""

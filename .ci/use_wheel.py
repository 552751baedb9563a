"""Use memedit as the wheel installed it: every module, and every file of data.

Usage: PYTHONPATH=FOLDER python .ci/use_wheel.py FOLDER    (after `pip install --target FOLDER dist/*.whl`)
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from importlib import resources
from pathlib import Path


def main() -> None:
    """Import everything from the folder that is given as the argument, and read what is shipped."""
    folder = Path(sys.argv[1]).resolve()
    for root in ("memedit", "memedit_kernels"):
        package = importlib.import_module(root)
        # The editable installation may stand behind it: memedit_kernels is a namespace package.
        first = Path(next(iter(package.__path__)))
        assert first.resolve().parent == folder, f"{root} comes from {first}"
        for module in pkgutil.walk_packages(package.__path__, f"{root}."):
            importlib.import_module(module.name)
    from memedit.evaluation import general_text, well_known_facts
    from memedit.facts import context_sentences, relations
    from memedit.modeling.retrofit import load_retrofit

    with resources.as_file(resources.files("memedit.modeling") / "data" / "smollm2-135m.safetensors") as path:
        documents = load_retrofit(path).background.num_documents
    read = (
        len(well_known_facts()),
        len(general_text()),
        len(relations()),
        len(context_sentences()),
        documents,
    )
    assert all(read), read
    print(f"used from {folder}: well-known facts, text, relations, contexts, background documents: {read}")


if __name__ == "__main__":
    main()

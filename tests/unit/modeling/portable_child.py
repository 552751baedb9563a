"""Load exported folders where memedit cannot be imported, and write what the models say.

`python -I portable_child.py FOLDER...`: each holds `model` (the exported folder) and `given.safetensors`;
`found.safetensors` and `told.json` are written beside them.
"""

import json
import sys
from pathlib import Path

REFUSED = ("memedit", "memedit_kernels")


class _Refusing:
    """A finder that knows of no memedit, installed or not."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"No module named {name!r} (refused by the test)")


sys.meta_path.insert(0, _Refusing())

import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer  # noqa: E402

TRUSTED = {"trust_remote_code": True}


@torch.no_grad()
def said(model, ids, mask):
    settings = {"attention_mask": mask, "max_new_tokens": 8, "eos_token_id": None, "pad_token_id": 2}
    settings["do_sample"] = False
    return {
        "logits": model(ids, attention_mask=mask).logits,
        "unpadded": model(ids[2:]).logits,
        "greedy": model.generate(ids, **settings),
        "uncached": model.generate(ids, use_cache=False, **settings),
        "beams": model.generate(ids, num_beams=2, **settings),
    }


def main(folders):
    torch.set_num_threads(1)
    for place in map(Path, folders):
        folder = place / "model"
        config = AutoConfig.from_pretrained(folder, **TRUSTED)
        model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **TRUSTED)
        wrong = [kind for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if loading[kind]]
        given = load_file(place / "given.safetensors")
        found = said(model.eval(), given["ids"], given["mask"])
        save_file({name: tensor.contiguous() for name, tensor in found.items()}, place / "found.safetensors")
        told = {
            "wrong": wrong,
            "config": type(config).__module__,
            "model": type(model).__module__,
            "dtype": str(model.dtype),
            "modules": [name for name in sys.modules if name.partition(".")[0] in REFUSED],
            "tokens": AutoTokenizer.from_pretrained(folder, **TRUSTED)("The city of Paris")["input_ids"],
        }
        (place / "told.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

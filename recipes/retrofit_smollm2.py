"""Rebuild the retrofit shipped for smollm2-135m: routing, sub-keys, background statistics.

Command:   python recipes/retrofit_smollm2.py --background ../shared/data/wikipedia_articles.jsonl
Time:      about 1 minute on two cores, once the model is cached.
Result:    memedit/modeling/data/smollm2-135m.safetensors (5.8 MB); `--check` compares it with the
           shipped file instead of writing, and exits 1 where they differ (another CPU may round differently).
Data:      any general English text does, as JSONL with a "text" field or as plain text; 100 Wikipedia
           articles here.
"""

import argparse
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from memedit.modeling.background import read_background
from memedit.modeling.named_models import resolve_model
from memedit.modeling.retrofit import fit_retrofit, load_retrofit, save_retrofit
from memedit.reports.progress import rich_progress

NAME = "smollm2-135m"
SHIPPED = Path(__file__).parents[1] / "memedit" / "modeling" / "data" / f"{NAME}.safetensors"


def main() -> None:
    """Fit the retrofit, then write it or compare it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--background", type=Path, required=True, help="general text, .jsonl or plain")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--check", action="store_true", help="compare with --out instead of writing it")
    arguments = parser.parse_args()
    with rich_progress() as progress:
        folder = resolve_model(NAME, progress)
        llama = LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        texts = read_background(arguments.background)
        bos = getattr(llama.config, "memedit_bos_token_id", None)
        retrofit = fit_retrofit(llama, tokenizer, texts, bos_token_id=bos, progress=progress)
    if not arguments.check:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        save_retrofit(arguments.out, retrofit)
        print(f"wrote {arguments.out} ({arguments.out.stat().st_size / 1e6:.1f} MB)")
        return
    shipped = load_retrofit(arguments.out)
    same = torch.equal(shipped.routing.query_weight, retrofit.routing.query_weight) and torch.equal(
        shipped.background.document_frequency, retrofit.background.document_frequency
    )
    print("identical" if same else f"differs from {arguments.out}")
    raise SystemExit(0 if same else 1)


if __name__ == "__main__":
    main()

"""Make a result that can be checked in: numbers, settings and versions, without items and machine paths.

What: reads the JSON file of another recipe or of `memedit compare --json` and writes a smaller one.
Why: a number that is quoted should lie beside the code, with the command, commit and versions that gave it;
thousands of answers and the folders of one machine should not.
How: lists of more than --longest values become their length, absolute paths their last two parts, and the
keys of --without are left out. The same input gives the same bytes.

Command:   python recipes/keep_result.py lifelong.json docs/results/lifelong-1000.json
Needs:     nothing beside Python.
Time:      a second.
Result:    the JSON file, indented, keys in their order.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LONGEST = 40
WITHOUT = ("items", "base")
_PATH = re.compile(r"(?<![\w.:/])/(?:[\w.+-]+/)*([\w.+-]+(?:/[\w.+-]+)?)")


def kept(value: Any, longest: int = LONGEST, without: Sequence[str] = WITHOUT) -> Any:
    """Return what is kept of a JSON value.

    Args:
        value: anything that json.loads returns.
        longest: longer lists become {"left_out": their length}.
        without: keys that are left out wherever they stand.
    """
    if isinstance(value, dict):
        return {key: kept(part, longest, without) for key, part in value.items() if key not in without}
    if isinstance(value, list):
        if len(value) > longest:
            return {"left_out": len(value)}
        return [kept(part, longest, without) for part in value]
    return _PATH.sub(_last_parts, value) if isinstance(value, str) else value


def _last_parts(found: re.Match[str]) -> str:
    return "/".join(found.group(0).strip("/").split("/")[-2:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the recipe; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("result", type=Path, help="the JSON file of a recipe or a comparison")
    parser.add_argument("out", type=Path, help="the JSON file to write")
    parser.add_argument("--longest", type=int, default=LONGEST, help="values of a list that is kept")
    parser.add_argument("--without", nargs="*", default=WITHOUT, help="keys that are left out")
    options = parser.parse_args(arguments)
    whole = json.loads(options.result.read_text(encoding="utf-8"))
    told = kept(whole, options.longest, options.without)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Check the built wheel: its top-level names, and that every tracked source and data file is in it.

Usage: python .ci/check_wheel.py dist    (from the root of a checkout, after `python -m build --wheel`)
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

_TOP_LEVEL = {"memedit", "memedit_kernels"}
_SHIPPED = {".py", ".typed", ".json", ".jsonl", ".txt", ".safetensors"}


def expected_files() -> set[str]:
    """Names that the tracked files of memedit/ and kernels/ must have in the wheel."""
    listed = subprocess.run(
        ["git", "ls-files", "memedit", "kernels"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    shipped = [path for path in listed if PurePosixPath(path).suffix in _SHIPPED]
    return {
        path.replace("kernels/", "memedit_kernels/", 1) if path.startswith("kernels/") else path
        for path in shipped
    }


def faults(wheel: Path) -> list[str]:
    """What is wrong with a wheel, one line each."""
    names = set(zipfile.ZipFile(wheel).namelist())
    top_level = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    found = [f"unexpected top-level name: {name}" for name in sorted(top_level - _TOP_LEVEL)]
    found += [f"missing top-level name: {name}" for name in sorted(_TOP_LEVEL - top_level)]
    found += [f"not in the wheel: {name}" for name in sorted(expected_files() - names)]
    if "memedit_kernels/__init__.py" in names:
        found.append("memedit_kernels/__init__.py: kernels/ must stay without __init__.py")
    return found


def main() -> int:
    """Check the one wheel in the folder that is given as the argument."""
    wheels = list(Path(sys.argv[1]).glob("*.whl"))
    if len(wheels) != 1:
        print(f"expected one wheel in {sys.argv[1]}, found {len(wheels)}")
        return 1
    found = faults(wheels[0])
    print("\n".join(found) or f"{wheels[0].name}: top-level names and files as expected")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

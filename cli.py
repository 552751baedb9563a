"""Door to the command line from a checkout: `python cli.py ARGS` is `memedit ARGS`; holds no logic."""

from memedit.cli import main

if __name__ == "__main__":
    main()

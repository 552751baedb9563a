"""`python -m memedit`: the same as the command `memedit`."""

from memedit.cli import main

if __name__ == "__main__":
    main()

"""``python -m cm2``: the command line where ``cm2`` is not on the path."""

from cm2.cli import main

if __name__ == "__main__":
    main()

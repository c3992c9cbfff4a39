"""The program ``cm2``, and ``python -m cm2``: the command line, or what to install where it is not there."""

import sys

from cm2.environment.extras import MissingExtraError, require_extra


def main() -> None:
    """Runs the command line; without the extra ``train``, says in one line what to install. Exit codes are those of `cm2.cli.failures`."""
    try:
        require_extra("train")
    except MissingExtraError as error:
        sys.stderr.write(f"cm2: {error}\n")
        raise SystemExit(2) from None
    from cm2.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()

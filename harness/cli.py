"""The entry point, as `harness` and `python -m harness`: every ending of a command is a sentence and an exit status.

Nothing is imported before `main` can answer a Ctrl-C.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 130  # what a shell reports of a program that Ctrl-C ended


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run one command; its exit status. A user's mistake is one sentence on stderr and status 2."""
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt as stopped:  # Ctrl-C says nothing, `harness stop` and SIGTERM do
        print(f"harness: {stopped.args[0] if stopped.args else 'stopped'}; the same command continues", file=sys.stderr)
        return getattr(stopped, "status", INTERRUPTED)


def _run(words: list[str]) -> int:
    from harness.commands.verb import run
    from harness.records.errors import UserError
    from harness.records.terminal import escape_unencodable, escaped

    escape_unencodable(sys.stdout, sys.stderr)
    try:
        return run(words)
    except UserError as error:
        print(f"harness: {escaped(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 1
    except OSError as error:
        place = f" {error.filename}" if error.filename else ""
        print(f"harness: {error.strerror or error}{place}; nothing finished is lost, mend it and run the same "
              "command again", file=sys.stderr)  # fmt: skip
        return 1


if __name__ == "__main__":
    sys.exit(main())

"""The entry point, as `harness` and `python -m harness`: every ending of a command is a sentence and an exit status.

Nothing is imported before `main` can answer a Ctrl-C.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

INTERRUPTED = 130  # what a shell reports of a program that Ctrl-C ended


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run one command; its exit status. A user's mistake is one sentence on stderr and status 2."""
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except BaseException as error:
        stopped = _interruption(error)
        if stopped is None:
            raise
        _say(f"{stopped.args[0] if stopped.args else 'stopped'}; the same command continues")
        return getattr(stopped, "status", INTERRUPTED)
    finally:
        _let_go(sys.stdout, sys.stderr)


def _run(words: list[str]) -> int:
    from harness.commands.verb import run
    from harness.records.errors import UserError
    from harness.records.terminal import escaped, prepare_streams

    prepare_streams(sys.stdout, sys.stderr)
    try:
        status = run(words)
        print(end="", flush=True)
        return status
    except UserError as error:
        if _interruption(error) is not None:
            raise
        _say(escaped(str(error)))
        return 2
    except BrokenPipeError:
        return 1
    except OSError as error:
        if _interruption(error) is not None:
            raise
        place = f" {error.filename}" if error.filename else ""
        _say(f"{error.strerror or error}{place}; nothing finished is lost, mend it and run the same command again")
        return 1


def _say(sentence: str) -> None:
    """On stderr, as far as there is one: a terminal may be closed, and the reader of a pipe gone."""
    from contextlib import suppress

    with suppress(OSError):
        print(f"harness: {sentence}", file=sys.stderr)


def _let_go(*streams: "TextIO | None") -> None:
    """Drop what a stream could not write: Python tries again when it ends, and would complain of it once more."""
    for stream in filter(None, streams):  # None: closed by the shell, as with `>&-`
        try:
            stream.flush()
        except OSError:
            import os

            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _interruption(error: BaseException | None) -> KeyboardInterrupt | None:
    """The Ctrl-C that `error` is, or that a library answered with an error of its own, as OmegaConf does."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


if __name__ == "__main__":
    sys.exit(main())

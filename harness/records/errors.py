"""Errors a user can cause. The command line prints them as one sentence and exits with 2."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path


class UserError(Exception):
    """A mistake the user can mend: the rule, the value, what to do, in one sentence."""


@contextmanager
def of_file(path: Path) -> Iterator[None]:
    """What is refused inside is wrong in this file: the sentence begins with its path, once."""
    try:
        yield
    except UserError as error:
        if str(path) in str(error):
            raise
        raise UserError(f"{path}: {error}") from error


def first_line(error: BaseException) -> str:
    """Of another library's message, for a sentence of ours; the error's class where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> UserError:
    """An error for a name that does not exist; it lists the names that do, the nearest first."""
    names = sorted(valid)
    near = get_close_matches(name, names, n=max(1, len(names)), cutoff=0.4)
    listed = near + [other for other in names if other not in near]
    return UserError(f"unknown {kind} '{name}'; choose one of: {', '.join(listed) or '(none exist)'}")


def check_printable(what: str, name: str) -> None:
    """Refuse a name that cannot be read in a line of a table: it is empty, or has line ends or control characters."""
    if not name.strip() or not name.isprintable():
        raise UserError(f"{what} is a word or several on one line, not {name!r}; rename it")

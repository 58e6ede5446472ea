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


MOST_LISTED = 20
"""Names that a sentence lists."""


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> UserError:
    """An error for a name that does not exist; it lists the names that do, the nearest first, and of many how many more
    there are."""
    names = sorted(valid)
    near = get_close_matches(name, names, n=max(1, len(names)), cutoff=0.4)
    listed = near + [other for other in names if other not in near]
    more = f", and {len(listed) - MOST_LISTED} more" if len(listed) > MOST_LISTED else ""
    return UserError(
        f"unknown {kind} '{name}'; choose one of: {', '.join(listed[:MOST_LISTED]) or '(none exist)'}{more}"
    )


def check_printable(what: str, name: str) -> None:
    """Refuse a name that cannot be read in a line of a table: it is empty, or has line ends or control characters."""
    if not name.strip() or not name.isprintable():
        raise UserError(f"{what} is a word or several on one line, not {name!r}; rename it")

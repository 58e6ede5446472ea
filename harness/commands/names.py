"""What a verb's NAME can be, each with the first sentence of the comment that its YAML begins with."""

import re
from collections.abc import Iterable
from pathlib import Path

from harness.architecture.catalogue import FOLDER, catalogue_names
from harness.records.errors import UserError
from harness.trials.studies import KINDS, find_study, read_study, study_names


def listing(what: str, verb: str) -> str:
    """`architectures`, `spaces`, `ablations`, `sweeps`, or `studies`, which are both."""
    lines = list({"architectures": _architectures, "spaces": _spaces}.get(what, lambda: _studies(what))())
    width = max((len(name) for name, _ in lines), default=0)
    shown = [f"  {name:<{width}}  {text}".rstrip() for name, text in lines]
    return "\n".join([f"`harness {verb} NAME`, where NAME is the path of a YAML or one of:", *shown])


def leading_comment(path: Path) -> str:
    """The lines of comment that a file begins with, as one text."""
    lines = path.read_text(encoding="utf-8").splitlines()
    count = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.removeprefix("#").strip() for line in lines[:count])


def first_sentence(text: str) -> str:
    """Up to the first full stop before a capital; those of `Fig. 3` are none."""
    return re.split(r"(?<=\.)\s+(?=[A-Z`])", " ".join(text.split()), maxsplit=1)[0]


def _architectures() -> Iterable[tuple[str, str]]:
    return [(name, first_sentence(leading_comment(FOLDER / f"{name}.yaml"))) for name in catalogue_names()]


def _spaces() -> Iterable[tuple[str, str]]:
    for name in study_names("search_spaces"):
        text = first_sentence(leading_comment(find_study("search_spaces", name)))
        yield name, f"around {read_study('search_spaces', name).get('base')}: {text}"


def _studies(kind: str) -> Iterable[tuple[str, str]]:
    wanted = [key for one, key in KINDS.items() if kind in (f"{one}s", "studies")]
    for name in study_names("sweeps"):
        try:
            content = read_study("sweeps", name)
        except UserError as error:  # one broken file hides no other
            yield name, str(error)
            continue
        if any(key in content for key in wanted):
            yield name, first_sentence(leading_comment(find_study("sweeps", name)))

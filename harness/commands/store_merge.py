"""`harness store merge FROM`: another machine's records, measurements and artifacts, into the store under out=."""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.commands.verb import Verb
from harness.records.merge import KINDS, Action, Merged, keys_of, merge, stores_to_merge
from harness.records.plain import Difference
from harness.records.terminal import table

SHOWN = 4  # differences of a conflict that are printed

COLUMNS: dict[Action, str] = {
    "added": "added",
    "replaced": "replaced",
    "completed": "files filled in",
    "kept": "kept ours",
    "equal": "equal",
    "conflict": "conflicts",
    "damaged": "damaged",
}


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep", choices=("ours", "theirs", "newer"), help="of two records with one key; default: none"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and write nothing")


def run(arguments: argparse.Namespace) -> int:
    """0; 1 if something is left to the user: a conflict, a damaged record."""
    from harness.records.eta import with_eta
    from harness.trials.settings import settings_of

    out = settings_of(arguments.overrides).out
    theirs, ours = stores_to_merge(Path(arguments.name).expanduser(), out)
    pairs = merge(theirs, ours, keep=arguments.keep, dry_run=arguments.dry_run)
    merged = list(with_eta(pairs, "merging", len(keys_of(theirs))))
    for line in _lines(merged):
        print(line)
    print(_table(merged))
    conflicts = sum(one.action == "conflict" for one in merged)
    if conflicts:
        print(f"{conflicts} left as {'it is' if conflicts == 1 else 'they are'} here: say --keep ours, theirs or newer")
    if arguments.dry_run:
        print("nothing was written (--dry-run)")
    return 0 if all(one.is_settled for one in merged) else 1


VERB = Verb(
    summary="bring another machine's records, measurements and artifacts into the store under out=",
    name="an output folder of the other machine, or the store in it",
    operands="FROM",
    example="harness store merge ~/from_cluster/runs --keep newer",
    flags=flags,
    run=run,
)


def _lines(merged: Sequence[Merged]) -> Iterator[str]:
    """One for each that is neither simply new nor equal."""
    for one in merged:
        if one.action in ("added", "equal"):
            continue
        differing = f": {_short(one.differing)}" if one.differing else ""
        yield f"{one.action}: {one.kind} {one.key} {f'({one.name}) ' if one.name else ''}- {one.why}{differing}"


def _short(differing: Sequence[Difference]) -> str:
    """What was found before where it comes from."""
    ordered = sorted(differing, key=lambda one: one.path.startswith("provenance"))
    lines = [str(one) if len(str(one)) <= 80 else f"{one.path} differs" for one in ordered[:SHOWN]]
    more = len(ordered) - SHOWN
    return "; ".join([*lines, *([f"and {more} more"] if more > 0 else [])])


def _table(merged: Sequence[Merged]) -> str:
    counts = Counter((one.kind, one.action) for one in merged)
    rows = [
        (f"{kind}s", *(counts[kind, action] for action in COLUMNS), _copied(one for one in merged if one.kind == kind))
        for kind in KINDS.values()
    ]
    return table(("", *COLUMNS.values(), "bytes of artifacts"), rows)


def _copied(merged: Iterator[Merged]) -> int:
    return sum(one.copied_bytes for one in merged)

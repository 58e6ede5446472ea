"""`harness clean [NAME]`: remove what nobody would read or continue from, and say how much it was."""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from harness.commands.operands import out_of
from harness.commands.verb import Verb
from harness.records.errors import UserError
from harness.records.removal import Removable, remove
from harness.records.terminal import table


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="list what would go, and remove nothing")
    parser.add_argument("--cache", action="store_true", help="what can be computed again, too: OUT/cache")
    parser.add_argument("--json", action="store_true", help="print one JSON object with every path, and nothing else")


def check(arguments: argparse.Namespace) -> None:
    out_of(arguments.overrides, arguments.name)


def run(arguments: argparse.Namespace) -> int:
    from harness.search.cleaning import plan, studies_of, undriven

    out, name = out_of(arguments.overrides, arguments.name), arguments.name
    if arguments.cache and name is not None:
        raise UserError(f"--cache removes what all studies of {out} share; leave out NAME ('{name}')")
    studies = studies_of(out, name)
    with undriven(studies, dry_run=arguments.dry_run):
        items = plan(out, studies, whole=name is None, cache=arguments.cache)
        if not arguments.dry_run:
            _remove(items)
    print(_as_json(items, arguments.dry_run) if arguments.json else _as_table(items, out, arguments.dry_run))
    return 0


VERB = Verb(
    summary="remove what nobody would read or continue from: old checkpoints, finished jobs' files, leftovers",
    name="one study, by its name below out=; default: all of them, and what they share",
    operands="[NAME]",
    example="harness clean laptop --dry-run",
    flags=flags,
    check=check,
    run=run,
)


def _remove(items: Sequence[Removable]) -> None:
    from harness.records.eta import with_eta

    for item in with_eta(items, "removing", len(items)):
        remove(item.path)


def _as_json(items: Sequence[Removable], dry_run: bool) -> str:
    listed = [{"path": str(item.path), "what": item.what, "bytes": item.size_bytes} for item in items]
    return json.dumps(
        {"dry_run": dry_run, "bytes": sum(item.size_bytes for item in items), "removed": listed}, indent=1
    )


def _as_table(items: Sequence[Removable], out: Path, dry_run: bool) -> str:
    groups: dict[tuple[str, str], list[Removable]] = defaultdict(list)
    for item in items:
        groups[item.path.relative_to(out).parts[0], item.what].append(item)
    rows = [(where, what, len(some), sum(one.size_bytes for one in some)) for (where, what), some in groups.items()]
    rows.append(("all", "", len(items), sum(item.size_bytes for item in items)))
    return table(("in", "what", "how many", "bytes"), rows, "would be removed" if dry_run else "removed")

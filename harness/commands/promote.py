"""`harness promote NAME (TRIAL | --rule RULE)`: a trial's architecture, with how it is trained on, as a YAML file."""

from __future__ import annotations

import argparse
import sys
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from harness.commands.operands import out_of
from harness.commands.verb import Verb
from harness.records.errors import UserError, unknown_name
from harness.records.manifest import Rule
from harness.records.store import check_file_writable, write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.records.manifest import Promotion
    from harness.records.record import TrialRecord
    from harness.search.contest import Contest
    from harness.search.rules import Choice

RULES = get_args(Rule)


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("trial", metavar="TRIAL", nargs="?", help="the trial's name or key, as the report shows it")
    parser.add_argument(
        "--rule",
        metavar="|".join(RULES),
        help="best: the best score; limit: the best within --at-most; knee: the point of the front of score against "
        "cost that lies farthest below the chord between its ends, both in logarithms. Of a sweep with finalists among "
        "those, by their re-scored means",
    )
    parser.add_argument("--score", metavar="QUANTITY", help="what is judged; default: the task's first score, KID")
    parser.add_argument("--cost", metavar="QUANTITY", help="of a knee; default: the sweep's first count, else macs")
    parser.add_argument("--at-most", metavar="QUANTITY=VALUE", nargs="*", help="limits of --rule limit, one or several")
    parser.add_argument("--to", metavar="FILE", help="the YAML to write; default NAME-TRIAL.yaml here")


def check(arguments: argparse.Namespace) -> None:
    _check_flags(arguments)
    of_study, of_training, limits = _sorted(arguments)
    out_of(of_study, arguments.name)
    _numbers(limits)
    if of_training:
        from harness.trials.settings import settings_of

        settings_of(of_training)


def run(arguments: argparse.Namespace) -> int:
    from harness.search.promote import candidates, chosen_settings, kept_checkpoints, promoted_yaml
    from harness.trials.promoted import not_as_scored, training_settings, trial_settings
    from harness.trials.settings import settings_of

    of_study, of_training, limits = _sorted(arguments)
    out, study = out_of(of_study, arguments.name), Path(arguments.name).stem
    record, promotion, remarks = _chosen(
        arguments, out, study, _numbers(limits), candidates(out, study, arguments.trial)
    )
    chosen = chosen_settings(out, study, record.name)
    settings = training_settings(record, chosen, of_training)
    batch = settings_of((), settings).recipe.batch_size
    notes = [f"at most {batch:,} processes can share it, one picture each of its batch of {batch:,}"]
    if otherwise := not_as_scored(record, trial_settings(record, chosen)):
        notes.append(f"its study wrote not all settings down: the trial was scored with {otherwise}")
    path = Path(arguments.to or f"{study}-{record.name}.yaml")
    text = promoted_yaml(
        record,
        settings,
        study=study,
        checkpoints=kept_checkpoints(out, study, record),
        remarks=[*remarks, *notes],
        overrides=of_training,
        promotion=promotion,
    )
    _write(path, text)
    print("\n".join(notes), file=sys.stderr)
    print(path)
    return 0


def _chosen(
    arguments: argparse.Namespace, out: Path, study: str, limits: dict[str, float], complete: Sequence[TrialRecord]
) -> tuple[TrialRecord, Promotion, list[str]]:
    """Whom the command line names, or its rule chooses; how; and lines about that, which a rule prints too."""
    from harness.records.manifest import Promotion
    from harness.search.contest import contest_of
    from harness.search.promote import named
    from harness.search.rules import by_rule

    if arguments.trial is not None:
        record = named(complete, arguments.trial)
        return record, Promotion(trials=_seeds_of(record, complete)), []
    contest = contest_of(out, study, complete)
    choice = by_rule(contest, arguments.rule, arguments.score, arguments.cost, limits)
    record, remarks = choice.chosen.record, _remarks(contest, choice)
    print(_explained(contest, choice, remarks), file=sys.stderr)
    trials, among = _seeds_of(record, complete), len(contest.contenders)
    return record, Promotion(trials=trials, rule=choice.rule, basis=contest.kind, among=among), remarks


VERB = Verb(
    summary="write a chosen trial's architecture, with how it is trained on, as a YAML file",
    name="the sweep or ablation",
    operands="NAME (TRIAL | --rule RULE)",
    example="harness promote laptop --rule limit --at-most macs=4e6 --to winner.yaml",
    lists="studies",
    flags=flags,
    check=check,
    run=run,
)


def _check_flags(arguments: argparse.Namespace) -> None:
    if (arguments.trial is None) == (arguments.rule is None):
        raise UserError(
            "name one trial, or give a rule: `harness promote NAME TRIAL`, or `harness promote NAME --rule best`"
        )
    if arguments.rule is not None and arguments.rule not in RULES:
        raise unknown_name("rule", arguments.rule, RULES)
    for flag, value, rules in (
        ("--score", arguments.score, RULES),
        ("--cost", arguments.cost, ("knee",)),
        ("--at-most", arguments.at_most, ("limit",)),
    ):
        if value is not None and arguments.rule not in rules:
            raise UserError(f"{flag} goes with --rule {' or '.join(rules)}; leave it out, or give that rule")
    if arguments.at_most:
        raise UserError(f"a limit is written QUANTITY=VALUE, not {arguments.at_most[0]!r}; e.g. --at-most macs=1e6")
    if arguments.to is not None:
        check_file_writable(Path(arguments.to))


def _sorted(arguments: argparse.Namespace) -> tuple[list[str], list[str], list[str]]:
    """The words key=value: where the study lies, the settings to train by, and, after --at-most, limits."""
    from dataclasses import fields

    from harness.trials.compose import PROTOCOL
    from harness.trials.settings import Settings

    settings = {PROTOCOL, *(each.name for each in fields(Settings))} - {"twin"}
    of_study, of_training, limits = [], [], []
    for word in arguments.overrides:
        outer = word.lstrip("+~").partition("=")[0].split(".")[0]
        if outer == "out":
            of_study.append(word)
        elif arguments.at_most is not None and outer not in settings:
            limits.append(word)
        else:
            of_training.append(word)
    return of_study, of_training, limits


def _numbers(limits: Sequence[str]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for word in limits:
        name, _, value = word.partition("=")
        try:
            numbers[name] = float(value)
            if not isfinite(numbers[name]):
                raise ValueError
        except ValueError:
            raise UserError(f"a limit is a number, not {value!r}; write --at-most {name}=VALUE") from None
    return numbers


def _seeds_of(record: TrialRecord, complete: Sequence[TrialRecord]) -> tuple[str, ...]:
    """The keys of all that the study has of that name: of a rung, one a seed."""
    return tuple(each.key for each in complete if each.name == record.name)


def _remarks(contest: Contest, choice: Choice) -> list[str]:
    """Who, by what rule, with what numbers, among how many: for the terminal, and for the head of the file."""
    values = [
        f"{name} {value.text}" for name in choice.quantities if (value := contest.values(name)[choice.chosen.name])
    ]
    lines = [f"chosen by --rule {choice.rule}, {choice.said}: {', '.join(values)}", f"among {contest.basis}"]
    if choice.distances:
        lines.append(f"{choice.distances[choice.chosen.name]:.3f} from the chord between the front's ends")
    if choice.ties:
        lines.append(f"not told apart from {', '.join(choice.ties)} in {choice.quantities[0]}")
    return lines


def _explained(contest: Contest, choice: Choice, remarks: Sequence[str]) -> str:
    from harness.records.terminal import table

    values = {name: contest.values(name) for name in choice.quantities}
    rows = [
        (
            each.name,
            *(values[name][each.name].text if each.name in values[name] else "not known" for name in values),
            choice.why_not.get(each.name, "chosen"),
        )
        for each in sorted(contest.contenders, key=lambda one: one is not choice.chosen)
    ]
    shown = table(("trial", *choice.quantities, "why not"), rows)
    return "\n".join([f"{choice.chosen.name} of '{contest.study}', {remarks[0]}", *remarks[1:], shown])


def _write(path: Path, text: str) -> None:
    """Nothing that stands there is lost: it may be somebody's edit."""
    check_file_writable(path)
    if path.exists() and path.read_bytes() != text.encode():
        raise UserError(f"{path} is there already, and says something else; give another file with --to, or remove it")
    write_atomic(path, text.encode())

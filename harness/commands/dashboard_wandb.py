"""`harness dashboard wandb NAME`: a study's workspace and report in W&B, written here, uploaded with --upload."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path

from harness.commands.operands import PUBLISHED, begun_study, out_of, published_flag
from harness.commands.verb import Verb


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--upload", action="store_true", help="send it to W&B, and the study's runs; needs `wandb login`"
    )
    parser.add_argument("--entity", help="the team or user that owns the project; default: the study's, else the key's")
    published_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    from harness.dashboards.wandb_plan import PLAN, offline_runs, run_id_of, write_plan
    from harness.dashboards.wandb_study import study_of
    from harness.tracking.config import check_tracker

    out = out_of(arguments.overrides, arguments.name)
    name, folder = begun_study(out, arguments.name)
    if arguments.upload:
        check_tracker(replace(study_of(out, name).tracker, mode="online"))  # before anything is written
    plan = write_plan(out, name, arguments.entity, [Path(each) for each in arguments.published])
    there = set(map(run_id_of, offline_runs(out, plan)))
    print(
        f"{folder / PLAN}: a workspace, a report, {len(plan.links)} links between runs; "
        f"{len(there)} of the study's {len(set(plan.runs))} runs lie in {out / 'tracking' / 'wandb'}"
    )
    if not arguments.upload:
        print(f"`{shlex.join([*shlex.split(arguments.command), '--upload'])}` uploads it all, after `wandb login`")
        return 0
    _upload(out, name)
    return 0


def _upload(out: Path, name: str) -> None:
    from harness.dashboards.wandb_cloud import WandbCloud
    from harness.dashboards.wandb_plan import PLAN, read_plan, upload

    plan = read_plan(out / name / PLAN)
    addresses, remarks = upload(out, name, WandbCloud(plan.project, plan.entity))
    for line in [*(f"{kind}: {address}" for kind, address in addresses.items()), *remarks]:
        print(line)


VERB = Verb(
    summary="write a study's W&B workspace and report, and upload them with its runs: --upload",
    name="the sweep or ablation",
    example="harness dashboard wandb laptop --upload",
    flags=flags,
    run=run,
    repeated=(PUBLISHED,),
    lists="studies",
)

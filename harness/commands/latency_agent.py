"""`harness latency agent FOLDER`: measure what the queue asks for on the iPhone that is attached to this Mac."""

import argparse
from pathlib import Path

from harness.device.agent import Agent
from harness.device.queue import FolderQueue
from harness.device.targets import Iphone, Signing
from harness.records.errors import UserError


def run(arguments: argparse.Namespace) -> int:
    if arguments.overrides:
        raise UserError(
            f"the agent takes flags, no settings ('{arguments.overrides[0]}'); see harness latency agent --help"
        )
    for name in ("lease_s", "poll_s", "timeout_min"):
        if not (value := getattr(arguments, name)) > 0:
            raise UserError(f"--{name.replace('_', '-')} is above 0, not {value:g}")
    phone = Iphone(
        signing=Signing(team=arguments.team, profile=arguments.profile, bundle=arguments.bundle),
        working_directory=Path(arguments.working_directory),
        chip=arguments.chip or "",
        id=arguments.device,
    )
    agent = Agent(
        queue=FolderQueue(Path(arguments.name), lease_s=arguments.lease_s),
        target=phone,
        report=lambda line: print(line, flush=True),
        once=arguments.once,
        poll_s=arguments.poll_s,
        timeout_s=60 * arguments.timeout_min,
    )
    return agent.run()

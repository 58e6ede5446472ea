"""`harness latency agent FOLDER`: measure what the queue asks for on the iPhone that is attached to this Mac."""

import argparse
from pathlib import Path

from harness.commands.verb import Verb
from harness.records.errors import UserError


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--chip", help='what the phone\'s chip is called, for example "A17 Pro": coremltools does not tell'
    )
    parser.add_argument("--once", action="store_true", help="end when nothing is left to measure")
    parser.add_argument(
        "--device", metavar="ID", help="which phone, by the id that the agent shows, where several are connected"
    )
    parser.add_argument(
        "--team", help="the Apple developer team that signs the app: 10 characters, in Xcode's Settings > Accounts"
    )
    parser.add_argument("--profile", metavar="UUID", help="a provisioning profile instead of a team; needs --bundle")
    parser.add_argument("--bundle", metavar="ID", help="the app's bundle identifier, for example org.example.runner")
    parser.add_argument("--working-directory", metavar="FOLDER", default="~/.cache/unet-harness-agent",
                        help="where the app is built and kept; no spaces in its path")  # fmt: skip
    parser.add_argument(
        "--lease-s", type=float, default=60, help="a silent agent's request returns after it; default 60"
    )
    parser.add_argument("--poll-s", type=float, default=10, help="between two looks into the queue; default 10")
    parser.add_argument("--timeout-min", type=float, default=30, help="of one measurement; default 30")


def run(arguments: argparse.Namespace) -> int:
    from harness.device.agent import Agent
    from harness.device.queue import FolderQueue
    from harness.device.targets import Iphone, Signing

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


VERB = Verb(
    summary="measure what a queue folder asks for on the iPhone attached to this Mac",
    name="the queue folder, which the cluster sees too",
    operands="FOLDER",
    example='harness latency agent ~/queue --team ABCDE12345 --chip "A17 Pro"',
    flags=flags,
    run=run,
)

"""`harness latency picture FOLDER --queue QUEUE`: have a phone make one picture of a published model, with its time."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from harness.commands.verb import Verb
from harness.records.errors import UserError
from harness.records.plain import from_plain, to_plain
from harness.records.quantity import Failed


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--queue", metavar="QUEUE", required=True, help="the folder that a phone's agent looks into")
    parser.add_argument("--prompt", metavar="TEXT", help="one that the model knows; default: that of its example")
    parser.add_argument("--pictures", type=int, metavar="N", help="how many are timed; default 3")
    parser.add_argument("--chip", help="the phone's, as its agent's --chip says; default: any")
    parser.add_argument("--to", metavar="FILE.png", default="picture.png", help="where it goes; default picture.png")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def run(arguments: argparse.Namespace) -> int:
    from harness.device.picture import check_prompt, read_solver
    from harness.device.queue import FolderQueue
    from harness.device.request import PHONE_PARTS, PictureProtocol
    from harness.publish.folder import check_files, read_manifest
    from harness.records.store import check_file_writable, copy_atomic

    if arguments.overrides:
        raise UserError(f"`harness latency picture` takes no settings ('{arguments.overrides[0]}'), only flags")
    folder, target = Path(arguments.name), Path(arguments.to)
    if target.suffix != ".png":
        raise UserError(f"--to names a .png file, not {target}")
    check_file_writable(target)
    solver, queue = read_solver(folder), FolderQueue(Path(arguments.queue))
    check_files(folder, read_manifest(folder), PHONE_PARTS)
    chosen = {"prompt": arguments.prompt or solver.example, "pictures": arguments.pictures}
    protocol = from_plain(PictureProtocol, {name: value for name, value in chosen.items() if value is not None})
    check_prompt(solver, protocol.prompt)
    name = f"{folder.resolve().name}: {protocol.prompt}"
    request = queue.submit_picture(folder, protocol, chip=arguments.chip, name=name)
    answer, picture = queue.answer(request), queue.picture(request)
    if answer is None:
        waits = {"request": request, "waits": queue.agent_messages()}
        print(json.dumps(waits) if arguments.json else _waiting(request, queue.root, waits["waits"]))
        return 0
    if isinstance(answer, Failed):
        raise UserError(f"the phone made no picture: {answer.message}")
    if picture is None:
        raise UserError(f"the picture of request {request} has not arrived in {queue.root} yet; try again later")
    copy_atomic(picture, target)
    if arguments.json:
        print(json.dumps({"picture": str(target), "time": to_plain(answer)}))
        return 0
    print(_told(answer.value, dict(answer.conditions)))
    print(target)
    return 0


def _waiting(request: str, queue: Path, messages: object) -> str:
    said = "".join(f"; {message}" for message in messages) if isinstance(messages, list) else ""
    return (
        f"request {request} waits in {queue} for `harness latency agent {queue}`{said}; run the same command again for "
        "the picture"
    )


def _told(milliseconds: float, conditions: dict[str, object]) -> str:
    parts = "; ".join(
        f"{title} {conditions[name]:.2f} ms"
        for name, title in (("unet_ms", "UNet"), ("decoder_ms", "decoder"))
        if name in conditions
    )
    where = f"{conditions['device']}, {conditions['chip']}, {conditions['os_version']}"
    return (
        f"{milliseconds:.2f} ms a picture on {where} ({parts}; {conditions['predictions']} predictions of the UNet; "
        f"the example agrees to {conditions['parity_db']} dB)"
    )


VERB = Verb(
    summary="have a phone make one picture of a published model, through a queue, and tell its time",
    name="the published folder",
    operands="FOLDER",
    example="harness latency picture digits-unet --queue ~/queue",
    flags=flags,
    run=run,
)

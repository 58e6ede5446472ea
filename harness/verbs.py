"""What `harness` can be told to do: every verb with its help, its flags and an example. Nothing is imported for it."""

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Verb:
    summary: str
    name: str  # what NAME is, for the help; "" where the verb takes none
    example: str
    flags: Callable[[argparse.ArgumentParser], None] = lambda _parser: None
    operands: str = "NAME"
    settings: str = ""  # the verb's own, beside those of `harness settings`
    lists: str = ""  # what the verb alone lists, by `harness.commands.names`; "": it needs its operand

    @property
    def first_operand(self) -> str:
        """What the help calls the first word after the verb, as the usage line does: NAME, FOLDER, UNET, A."""
        found = re.search(r"[A-Z]+", self.operands)
        return found[0] if found else "NAME"


def _measure_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--latent", type=int, help="height and width of the latent; default: its own, or 128")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--by", choices=("stage", "block", "operator"), help="one table; default: stage and operator")


def _compare_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("other", metavar="B", nargs="?", help="the architecture to compare with; none with `paper`")
    parser.add_argument("--latent", type=int, help="height and width of the latent; default: the first one's, or 128")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def _space_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples", type=int, default=0, metavar="N", help="draw N architectures at random")
    parser.add_argument("--seed", type=int, default=0, help="of the draws; default 0")
    parser.add_argument("--latent", type=int, help="height and width of the latent of the samples' counts")
    parser.add_argument("--twin", metavar="BASE", help="check that every value means something on this larger network")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def _export_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--latent", type=int, help="height and width of the latent; default: its own, or 128")
    parser.add_argument("--to", metavar="FILE", help="where the .mlpackage goes; default NAME.mlpackage here")
    parser.add_argument("--weights", metavar="FILE", help="a trial's ema.safetensors; default: untrained weights")
    parser.add_argument("--target", choices=("iOS16", "iOS17", "iOS18"), help="the oldest system; default iOS17")
    parser.add_argument("--layout", choices=("ane", "plain"), help="for the Neural Engine, or as it is; default ane")
    parser.add_argument("--bits", type=int, choices=(16, 8, 6, 4), help="of a weight; below 16 palettized; default 16")
    parser.add_argument("--preflight", action="store_true", help="from shapes alone, in seconds: write no package")
    parser.add_argument(
        "--parity",
        action="store_true",
        help="hold the package against the module; without --weights both get random ones",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def _dry_run_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="show what would run and how; run and write nothing")


def _sweep_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run", type=int, nargs="?", const=5, metavar="N",
        help="show the next N trainings and how they would be submitted; run and write nothing; default 5",
    )  # fmt: skip


def _status_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--watch", action="store_true", help="draw again until Ctrl-C or the study's end")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def _stop_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cancel", action="store_true", help="do not wait for what runs: it saves, and ends")


def _promote_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("trial", metavar="TRIAL", nargs="?", help="the trial's name or key, as the report shows it")
    parser.add_argument(
        "--best", action="store_true", help="the lowest KID; of a sweep with finalists, their lowest re-scored mean"
    )
    parser.add_argument("--to", metavar="FILE", help="the YAML to write; default NAME-TRIAL.yaml here")


def _proxies_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--against", choices=("kid", "fd"), default="kid", help="the dear score; default kid")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def _evaluate_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--beside", metavar="KEY", help="another trial: the difference too, sampled from the same noise"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def _data_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", metavar="FILE", help="where the grid of samples goes; default OUT/data/KIND.png")


def _latency_agent_flags(parser: argparse.ArgumentParser) -> None:
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


def _latency_predict_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chip", help='the phone\'s chip, for example "A17 Pro"; without it, the chips are listed')
    units = ("CPU_AND_NE", "ALL", "CPU_AND_GPU", "CPU_ONLY")
    parser.add_argument("--compute-unit", default="CPU_AND_NE", choices=units, help="for Core ML; default CPU_AND_NE")
    parser.add_argument("--weight-bits", type=float, default=16, metavar="N", help="below 16: palettized; default 16")
    parser.add_argument("--latent", type=int, help="height and width of the latent; default: its own, or 128")
    parser.add_argument("--input", metavar="CxHxW", help="the image of a timm: model; default 3x224x224")
    parser.add_argument("--calibration", metavar="FILE", help="what `latency calibrate --to` wrote; default: installed")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def _latency_calibrate_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", metavar="FILE", help="where the calibration goes; default: the installed package's own")
    parser.add_argument("--count", action="store_true", help="count the published networks' operators again before it")


def _latency_total_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--decoder", required=True, metavar="NAME", help="the decoder: a name, or the path of its YAML")
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8], metavar="N", help="UNet passes; default 4 8")
    parser.add_argument("--chip", required=True, help='the phone\'s, for example "A18 Pro"')
    parser.add_argument("--latent", type=int, help="height and width of the latent; default: the UNet's own, or 128")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def _store_merge_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep", choices=("ours", "theirs", "newer"), help="of two records with one key; default: none"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and write nothing")


def _clean_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="list what would go, and remove nothing")
    parser.add_argument("--cache", action="store_true", help="what can be computed again, too: OUT/cache")
    parser.add_argument("--json", action="store_true", help="print one JSON object with every path, and nothing else")


VERBS = {
    "ablate": Verb(
        summary="train and compare the rungs of an ablation, then write its report",
        name="an ablation in sweeps/, or the path of its YAML",
        example="harness ablate fig3 data=image_folder data.path=~/my_images",
        flags=_dry_run_flag,
        lists="ablations",
    ),
    "sweep": Verb(
        summary="search an architecture space with Optuna",
        name="a sweep in sweeps/, or the path of its YAML",
        example="harness sweep laptop trials=20",
        settings="trials, sampler, sampler_seed, max_rejections, budgets, reduction, enqueue, storage, hours, "
        "gpu_hours, wait_hours, finalists",
        flags=_sweep_flags,
        lists="sweeps",
    ),
    "status": Verb(
        summary="show how a sweep or an ablation is getting on; without a NAME, list all",
        name="the sweep or ablation",
        example="harness status laptop --watch",
        flags=_status_flags,
        operands="[NAME]",
    ),
    "stop": Verb(
        summary="have a running sweep or ablation end; the same command that began it goes on",
        name="the sweep or ablation",
        example="harness stop laptop --cancel",
        flags=_stop_flags,
    ),
    "promote": Verb(
        summary="write the architecture of a chosen trial as a YAML file",
        name="the sweep or ablation",
        example="harness promote laptop --best --to winner.yaml",
        flags=_promote_flags,
        operands="NAME (TRIAL | --best)",
        lists="studies",
    ),
    "proxies": Verb(
        summary="tell how well cheap scores foretell quality: Kendall's tau and regret",
        name="a sweep or ablation whose architectures were all trained to the end",
        example="harness proxies unselected",
        flags=_proxies_flags,
        lists="studies",
    ),
    "measure": Verb(
        summary="count an architecture: parameters, multiply-adds, activations, by place",
        name="an architecture of the catalogue, or the path of its YAML",
        example="harness measure snapgen --latent 128 --by block",
        flags=_measure_flags,
        lists="architectures",
    ),
    "compare": Verb(
        summary="show in what two architectures differ and what each knob costs, or the counts beside the paper's",
        name="an architecture of the catalogue or the path of its YAML; or `paper`",
        example="harness compare mqa first_stage_ca",
        flags=_compare_flags,
        operands="(A B | paper)",
        lists="architectures",
    ),
    "space": Verb(
        summary="count a search space's architectures and draw from it",
        name="a space in search_spaces/, or the path of its YAML",
        example="harness space full --samples 5",
        flags=_space_flags,
        lists="spaces",
    ),
    "export": Verb(
        summary="export an architecture to a Core ML package",
        name="an architecture of the catalogue, or the path of its YAML",
        example="harness export winner.yaml --to winner.mlpackage",
        flags=_export_flags,
        lists="architectures",
    ),
    "train": Verb(
        summary="train one architecture at full length",
        name="an architecture of the catalogue, or the path of its YAML",
        example="harness train winner.yaml recipe.steps=20000",
        lists="architectures",
    ),
    "latency agent": Verb(
        summary="measure what a queue folder asks for on the iPhone attached to this Mac",
        name="the queue folder, which the cluster sees too",
        example='harness latency agent ~/queue --team ABCDE12345 --chip "A17 Pro"',
        flags=_latency_agent_flags,
        operands="FOLDER",
    ),
    "latency queue": Verb(
        summary="list a queue folder's requests, their answers and what keeps them waiting",
        name="the queue folder",
        example="harness latency queue ~/queue",
        operands="FOLDER",
    ),
    "latency total": Verb(
        summary="tell what one picture takes on a phone: steps x UNet + decoder",
        name="the UNet: an architecture of the catalogue, or the path of its YAML",
        example='harness latency total snapgen_t2i --decoder decoder/tiny --steps 4 8 --chip "A18 Pro"',
        flags=_latency_total_flags,
        operands="UNET --decoder NAME --chip CHIP",
    ),
    "latency collect": Verb(
        summary="fill latencies that were answered since into the records of finished trials",
        name="",
        example="harness latency collect out=runs",
        operands="",
    ),
    "latency predict": Verb(
        summary="predict the latency of a network on an iPhone's chip, with an interval",
        name="an architecture of the catalogue, the path of its YAML, or timm:MODEL",
        example='harness latency predict snapgen --chip "A18 Pro"',
        flags=_latency_predict_flags,
    ),
    "latency calibrate": Verb(
        summary="fit the predictor to the published latencies and to those measured under out=",
        name="",
        example="harness latency calibrate out=runs --to mine.yaml",
        flags=_latency_calibrate_flags,
        operands="",
    ),
    "latency published": Verb(
        summary="show every published latency beside its prediction, and how good those are",
        name="",
        example="harness latency published",
        operands="",
    ),
    "evaluate": Verb(
        summary="score a trial's checkpoint, or a folder of images, against a data set",
        name="a trial's key, or a folder of images",
        example="harness evaluate ~/generated data=digits --json",
        flags=_evaluate_flags,
    ),
    "report": Verb(
        summary="write an ablation's report again from its records",
        name="the ablation",
        example="harness report fig3",
        lists="ablations",
    ),
    "clean": Verb(
        summary="remove what nobody would read or continue from: old checkpoints, finished jobs' files, leftovers",
        name="one study, by its name below out=; default: all of them, and what they share",
        example="harness clean laptop --dry-run",
        flags=_clean_flags,
        operands="[NAME]",
    ),
    "store merge": Verb(
        summary="bring another machine's records, measurements and artifacts into the store under out=",
        name="an output folder of the other machine, or the store in it",
        example="harness store merge ~/from_cluster/runs --keep newer",
        flags=_store_merge_flags,
        operands="FROM",
    ),
    "data": Verb(
        summary="describe a data set: sizes, classes, unreadable files, a grid of samples",
        name="a data set: digits, fashion_mnist, image_folder",
        example="harness data image_folder data.path=~/my_images",
        flags=_data_flags,
        operands="[NAME]",
    ),
    "settings": Verb(
        summary="list the groups of settings and their options, or a group's settings with type, default and meaning",
        name="a group: data, text, recipe, sampling, quality, latency, coreml, launcher, tracker",
        example="harness settings recipe",
        operands="[GROUP]",
    ),
}

"""What one conversion takes: `python export_peak.py WHAT FOLDER` prints JSON. Seconds of CPU and wall, peak megabytes.

WHAT: `snapgen`; `twin`, thin_sdxl with what diffusers cannot vary set to what it has; `peer`, diffusers' network in the
twin's configuration, by coremltools' own call. The process has imported everything before it measures.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import coremltools
import torch
from diffusers import UNet2DConditionModel  # noqa: F401  # imported before the clock starts
from peak_memory import status
from peers import Peer, thin_twin

from harness.architecture.catalogue import architecture
from harness.architecture.config import ArchitectureConfig
from harness.coreml.config import Mlprogram
from harness.coreml.export import export_package
from harness.models.build import build, example_inputs

LATENT = 32


def config_of(what: str) -> ArchitectureConfig:
    return architecture("snapgen") if what == "snapgen" else thin_twin()


def ours(what: str, path: Path) -> Callable[[], object]:
    config = config_of(what)
    network, inputs = build(config), example_inputs(config, latent=LATENT)
    return lambda: export_package(network, inputs, path, Mlprogram())


def theirs(what: str, path: Path) -> Callable[[], object]:
    config = config_of(what)
    network, inputs = Peer(config).eval(), example_inputs(config, latent=LATENT)

    def convert() -> None:
        with torch.no_grad():
            program = torch.export.export(network, inputs).run_decompositions({})
        target = coremltools.target.iOS17
        coremltools.convert(program, minimum_deployment_target=target, skip_model_load=True).save(str(path))

    return convert


def main() -> None:
    what, folder = sys.argv[1:]
    path = Path(folder) / f"{what}.mlpackage"
    run = (theirs if what == "peer" else ours)(what, path)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts at what is resident now, weights included
    wall, processor = time.perf_counter(), time.process_time()
    run()
    spent = {"cpu_s": time.process_time() - processor, "wall_s": time.perf_counter() - wall}
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    print(json.dumps(spent | {"peak_mb": status("VmHWM"), "package_mb": size / 1e6}))


if __name__ == "__main__":
    main()

"""What a phone needs of a trained network: Core ML packages, the solver's numbers, an example that proves them.

The formats are those of `harness.device.picture`. Packages are converted on Linux or macOS, and run on macOS and on
iPhones only; here each is held against its network by `harness.coreml.parity`, which proves the graph.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from harness.coreml.config import Mlprogram
from harness.coreml.export import ExportSummary, export_package
from harness.coreml.layout import for_export
from harness.coreml.mil_program import read_program
from harness.coreml.packaged import OnPhone
from harness.coreml.parity import ParityResult, parity
from harness.device.picture import EXAMPLE, FORMAT, SOLVER, Decoder, Solver, Unet
from harness.diffusion.prediction import prediction_of
from harness.diffusion.sampling import sample_batches, sample_noise
from harness.models.autoencoder import Autoencoder, DecoderModule
from harness.publish.coefficients import coefficients
from harness.records.plain import identity, to_plain
from harness.records.store import write_atomic
from harness.trials.sampling_run import SamplingRun
from harness.trials.trained import BITS, TRIAL

UNET, DECODER = "coreml/UNet.mlpackage", "coreml/Decoder.mlpackage"
LEVEL_OFFSETS = {"nearest": 128.0, "dit": 128.0, "truncate": 127.5}
"""floor(127.5 x + offset) is the grey level of x by each rule of `harness.models.pixels.ROUNDING`, where x does not lie
in the middle between two."""


def write_phone_parts(folder: Path, run: SamplingRun, config: Mlprogram) -> dict[str, ParityResult]:
    """`coreml/` in the folder; by package, how well it agrees with its network.

    CoremlExportError where a network does not convert, ParityError where a package computes something else.
    """
    network, results = run.network.cpu(), {}
    (folder / UNET).parent.mkdir(parents=True, exist_ok=True)
    unet, results[UNET] = _export_unet(network, run, folder / UNET, config)
    decoder = None
    if run.autoencoder is not None:
        decoder, results[DECODER] = _export_decoder(run.autoencoder, run.shape, folder / DECODER, config)
    _write_solver(folder, run, unet, decoder)
    _write_example(folder, run)
    return results


def _export_unet(
    network: nn.Module, run: SamplingRun, path: Path, config: Mlprogram
) -> tuple[ExportSummary, ParityResult]:
    prompts = run.prompts.to("cpu")
    inputs = [sample_noise(0, range(1), run.shape), torch.tensor([0.5]), prompts.embeddings[:1].clone()]
    if prompts.needs_mask:
        inputs.append(prompts.mask[:1].float())
    module = OnPhone(network).eval()
    about = {TRIAL: str(run.identity["trial"])}
    return _exported(module, OnPhone(for_export(network, config.layout)), inputs, path, config, about)


def _export_decoder(
    autoencoder: Autoencoder, shape: tuple[int, int, int], path: Path, config: Mlprogram
) -> tuple[ExportSummary, ParityResult]:
    module = DecoderModule(autoencoder).eval()
    return _exported(module, module, [sample_noise(0, range(1), shape)], path, config)


def _exported(
    module: nn.Module,
    laid_out: nn.Module,
    inputs: Sequence[Tensor],
    path: Path,
    config: Mlprogram,
    about: Mapping[str, str] | None = None,
) -> tuple[ExportSummary, ParityResult]:
    """`laid_out` as a package, held against the module. Palettes change the weights: theirs is a number without a
    gate."""
    known = {**(about or {}), BITS: str(config.bits)}
    summary = export_package(laid_out, inputs, path, replace(config, layout="plain"), about=known)
    result = parity(module, inputs, read_program(path))
    if config.bits == 16:
        result.check()
    return summary, result


def _write_solver(folder: Path, run: SamplingRun, unet: ExportSummary, decoder: ExportSummary | None) -> None:
    names, numbers = list(unet.inputs), coefficients(prediction_of(run.network), run.config)
    texts, sampling = tuple(run.prompts.identity["prompts"]), identity(run.config)
    assert isinstance(sampling, dict)
    solver = Solver(
        format=FORMAT,
        unet=Unet(
            package=UNET, latent=names[0], time=names[1], context=names[2],
            mask=names[3] if len(names) > 3 else None, output=next(iter(unet.outputs)),
        ),
        decoder=None if decoder is None else Decoder(
            package=DECODER, latent=next(iter(decoder.inputs)), output=next(iter(decoder.outputs))
        ),
        prompts=texts,
        example=texts[0],
        evaluations=numbers.evaluations,
        picture=numbers.picture,
        guided_channels=run.config.legacy_guided_channels,
        level_offset=LEVEL_OFFSETS[run.config.rounding],
        sampling=sampling,
    )  # fmt: skip
    write_atomic(folder / SOLVER, json.dumps(to_plain(solver), indent=1, ensure_ascii=False).encode())


def _write_example(folder: Path, run: SamplingRun) -> None:
    """Noise; the last latent that the float32 network makes of it for the first prompt, by the sampler; and the picture
    in -1..1."""
    config, labels = replace(run.config, micro_batch=1), torch.tensor([0])
    noise = sample_noise(config.seed, range(1), run.shape)
    ((_, latent),) = sample_batches(run.network, run.prompts, labels, config, shape=run.shape, decode=torch.clone)
    with torch.no_grad():
        picture = latent if run.autoencoder is None else run.autoencoder.pictures(latent)
    example = {"noise": noise, "latent": latent, "picture": picture}
    write_atomic(folder / EXAMPLE, save({name: each.float().cpu().clone() for name, each in example.items()}))

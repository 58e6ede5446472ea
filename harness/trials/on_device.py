"""What one picture takes on a phone: steps x UNet + decoder, from measured latencies where the store has them.

    total = steps * unet + decoder          low, high: of the parts' lows and highs, as if they erred together

One forward pass of the UNet a step: classifier-free guidance, which would be two, is distilled away in few-step
models. Text encoders are left out, as in the paper (SnapGen, arXiv 2412.09619: "text encoder negligible").
"""

from collections.abc import Iterator

import torch

from harness.architecture.config import ArchitectureConfig, Denoiser
from harness.latency.predicted import PredictedLatency
from harness.models.build import build, example_inputs
from harness.records.errors import UserError
from harness.records.quantity import Failed, Measured, Predicted, Quantity, Unavailable
from harness.records.store import Store
from harness.trials.limits import measured_on


def check_pair(unet: ArchitectureConfig, decoder: ArchitectureConfig | None) -> None:
    """Refuse two networks of which the second cannot decode what the first makes. None: what it makes is a picture."""
    if not isinstance(unet, Denoiser):
        raise UserError(f"the first network denoises, and a {type(unet).__name__} does not; name a UNet first")
    if decoder is None:
        if unet.latent_channels not in PICTURES:
            raise UserError(
                f"the UNet makes latents of {unet.latent_channels} channels, which are no picture; name what decodes "
                "them: --decoder decoder/tiny"
            )
        return
    if isinstance(decoder, Denoiser):
        raise UserError(f"--decoder is a decoder, not a {type(decoder).__name__}; for example decoder/tiny")
    if unet.latent_channels != decoder.latent_channels:
        raise UserError(
            f"the UNet makes latents of {unet.latent_channels} channels and the decoder takes "
            f"{decoder.latent_channels}; choose a pair that has the same"
        )


def latency_on_chip(
    store: Store, architecture: ArchitectureConfig, latent: int, predictor: PredictedLatency
) -> Measured | Predicted | Unavailable:
    """Milliseconds of one forward pass on the predictor's chip: measured where the store has it, else predicted.

    Of several measurements (other phones, other systems) the slowest: it promises least.
    """
    measured = list(_measured(store, architecture, latent, predictor))
    if measured:
        return max(measured, key=lambda one: one.value)
    with torch.device("meta"):
        module = build(architecture)
    return predictor.measure(module, example_inputs(architecture, latent=latent, device="meta"))


PICTURES = (1, 3)
"""The channels of pictures: grey, or in colours."""


def total(unet: Quantity, decoder: Quantity | None, steps: int) -> Measured | Predicted | Unavailable:
    """Milliseconds of `steps` UNet passes and one decoding, or none; a sum with a predicted part is predicted.

    Intervals are added: the parts are predicted by one model, whose errors do not cancel. A part without an interval
    adds its value to both ends. Unavailable where a part has no value, and says which.
    """
    if steps < 1:
        raise UserError(f"a picture takes at least 1 step, not {steps}")
    parts: list[tuple[int, Measured | Predicted]] = []
    for name, part, times in (("UNet", unet, steps), ("decoder", decoder, 1)):
        if part is None:
            continue
        if not isinstance(part, Measured | Predicted):
            return Unavailable(reason=f"the {name}'s latency is not known: {_why(part)}")
        parts.append((times, part))
    value = sum(times * part.value for times, part in parts)
    low, high = (sum(times * _bounds(part)[end] for times, part in parts) for end in (0, 1))
    conditions = {"steps": steps, "unet": unet.kind, **({} if decoder is None else {"decoder": decoder.kind})}
    if all(isinstance(part, Measured) for _, part in parts):
        return Measured(value=value, unit="ms", low=low, high=high, spread="sum of the parts'", conditions=conditions)
    extrapolated = any(isinstance(part, Predicted) and part.extrapolated for _, part in parts)
    return Predicted(value=value, unit="ms", low=low, high=high, extrapolated=extrapolated, conditions=conditions)


def _measured(
    store: Store, architecture: ArchitectureConfig, latent: int, predictor: PredictedLatency
) -> Iterator[Measured]:
    for record in store.measurements():
        settings = record.settings
        if record.subject != "latency" or settings.get("architecture") != architecture.fingerprint:
            continue
        for quantity in record.quantities.values():
            fits = measured_on(
                quantity,
                chip=predictor.chip,
                compute_unit=predictor.compute_unit,
                weight_bits=predictor.weight_bits,
            )
            if isinstance(quantity, Measured) and fits and settings.get("latent") == latent:
                yield quantity


def _bounds(part: Measured | Predicted) -> tuple[float, float]:
    return part.value if part.low is None else part.low, part.value if part.high is None else part.high


def _why(part: Quantity) -> str:
    if isinstance(part, Failed):
        return f"{part.phase} failed: {part.message}"
    return part.reason if isinstance(part, Unavailable) else f"it is {part.kind}"

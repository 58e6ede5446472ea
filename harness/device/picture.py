"""One picture on a device, end to end, from a published folder: the solver's loop over the folder's packages.

    coreml/solver.json              which package is what, the solver's numbers, the prompts
    coreml/UNet.mlpackage           one evaluation, of one latent
    coreml/Decoder.mlpackage        from the last latent to the picture; none where latents are pictures
    coreml/example.safetensors      noise, the last latent that the float32 networks make of it, and the picture
    text/prompts.safetensors        the prompts as the text encoder read them

With noise e, what the network sees at its k-th evaluation is a sum over the noise and what it gave before, and so is
the picture (`harness.publish.coefficients` says where the numbers come from):

    z_k     = a_k0 e + a_k1 o_1 + ... + a_k(k-1) o_(k-1)
    o_k     = o_empty + w_k (o_prompt - o_empty);  w_k = 1: o_prompt
    picture = b_0 e + b_1 o_1 + ... + b_n o_n

The first picture is the folder's example: it warms the device up, and no time counts unless the device makes what the
float32 networks make. Compared are the picture, and the last latent without the noise's part in it: a network that was
hardly trained leaves most of the noise, beside which its errors would be small. The time of a picture is the sum of
the predictions' own, as coremltools reports them from the device: without loading, without the sums above, which the
Mac computes, and without the way from the Mac to the device and back, which an app does not have.
"""

import io
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from harness.device.benchmark import Arrays, Report, conditions_of, loaded, milliseconds, psnr_db, seen_of
from harness.device.placement import Placement, engine_conditions, placement_of
from harness.device.request import Answer, PictureProtocol
from harness.device.targets import Target
from harness.records.errors import UserError, unknown_name
from harness.records.plain import from_plain, to_plain
from harness.records.quantity import Failed, Measured

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

SOLVER, EXAMPLE, PROMPTS = "coreml/solver.json", "coreml/example.safetensors", "text/prompts.safetensors"
FORMAT = "unet-harness-phone-1"
PHASE = "picture"


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Of the network: with a prompt, and where guidance acts with the empty one too."""

    time: float
    """s_k, as the network takes it."""
    guidance: float
    """w_k."""
    state: tuple[float, ...]
    """a_k0, a_k1, ...: of the noise, then of each earlier output."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unet:
    package: str
    latent: str
    """What the package calls its inputs: (1, C, h, w); ..."""
    time: str
    """... (1,); ..."""
    context: str
    """... (1, T, D); ..."""
    mask: str | None
    """... (1, T), 1 on tokens and 0 on padding; None where it sees padding, or there is none."""
    output: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoder:
    package: str
    latent: str
    output: str
    """(1, C, H, W), in -1..1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Solver:
    """`coreml/solver.json`."""

    format: str
    unet: Unet
    decoder: Decoder | None
    prompts: tuple[str, ...]
    example: str
    """The prompt of the example."""
    evaluations: tuple[Evaluation, ...]
    picture: tuple[float, ...]
    """b_0, b_1, ..., b_n."""
    guided_channels: int | None
    """Guidance acts on the first so many; None: on all."""
    level_offset: float
    """A value x in -1..1 is the grey level floor(127.5 x + level_offset), cut to 0..255."""
    sampling: dict[str, Any]
    """The settings that the numbers were made of, for people."""

    @property
    def predictions(self) -> int:
        """Of the UNet, for one picture."""
        return sum(1 if each.guidance == 1 else 2 for each in self.evaluations)


def read_solver(folder: Path) -> Solver:
    """UserError where the folder has no parts for a phone, or those of another version."""
    path = folder / SOLVER
    try:
        plain = json.loads(path.read_text())
        file_format = plain["format"]
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} has nothing for a phone ({SOLVER}); give a folder that `harness publish` wrote, without "
            "--no-coreml"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}: {error}); publish the model again") from error
    if file_format != FORMAT:
        raise UserError(
            f"{path} has the format {file_format}, and this version reads {FORMAT}; publish the model again"
        )
    return from_plain(Solver, plain, where=str(path))


def check_prompt(solver: Solver, prompt: str) -> None:
    """UserError for one that the folder has no embedding of."""
    if prompt not in solver.prompts:
        raise unknown_name("prompt", prompt, solver.prompts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    context: "Array"  # (1, T, D)
    mask: "Array"  # (1, T)


def prompts(folder: Path, solver: Solver, text: str) -> tuple[Prompt, Prompt]:
    """That of the text, and the empty one."""
    from safetensors.numpy import load_file

    tensors, row = load_file(folder / PROMPTS), solver.prompts.index(text)
    one = Prompt(context=tensors["embeddings"][row : row + 1], mask=tensors["mask"][row : row + 1].astype("float32"))
    return one, Prompt(context=tensors["empty"], mask=tensors["empty_mask"].astype("float32"))


Predict = Callable[[dict[str, Any]], Awaitable[Arrays]]
"""A package's inputs by name -> its outputs by name."""


async def denoised(solver: Solver, predict: Predict, noise: "Array", prompt: Prompt, empty: Prompt) -> "Array":
    """(1, C, h, w) -> the same: what the decoder takes, or a picture in -1..1."""
    outputs = [noise]
    for each in solver.evaluations:
        latent = weighted_sum(each.state, outputs)
        output = await _output(solver.unet, predict, latent, each.time, prompt)
        if each.guidance != 1:
            unprompted = await _output(solver.unet, predict, latent, each.time, empty)
            guided = unprompted + each.guidance * (output - unprompted)
            channels = solver.guided_channels or guided.shape[1]
            output = output.copy()
            output[:, :channels] = guided[:, :channels]
        outputs.append(output)
    return weighted_sum(solver.picture, outputs)


def weighted_sum(weights: Sequence[float], arrays: Sequence["Array"]) -> "Array":
    """In float64, as float32."""
    import numpy

    return numpy.asarray(
        sum(weight * array.astype("float64") for weight, array in zip(weights, arrays, strict=True)), dtype="float32"
    )


async def _output(unet: Unet, predict: Predict, latent: "Array", time: float, prompt: Prompt) -> "Array":
    import numpy

    inputs = {unet.latent: latent, unet.time: numpy.array([time], "float32"), unet.context: prompt.context}
    if unet.mask is not None:
        inputs[unet.mask] = prompt.mask
    return (await predict(inputs))[unet.output].reshape(latent.shape).astype("float32")


def png(picture: "Array", solver: Solver) -> bytes:
    """(1, C, H, W) in -1..1: greyscale of one channel, else colours."""
    import numpy
    from PIL import Image

    levels = numpy.floor(127.5 * picture[0] + solver.level_offset).clip(0, 255).astype("uint8").transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels).save(buffer, format="PNG")
    return buffer.getvalue()


@dataclass(kw_only=True)
class _Model:
    """A package on the device, and how long its predictions took there, in milliseconds."""

    wrapper: Any
    times: list[float] = field(default_factory=list)

    async def predict(self, inputs: dict[str, Any]) -> Arrays:
        outputs: Arrays = await self.wrapper.predict(inputs)
        self.times.append(milliseconds(self.wrapper.last_predict_duration_in_nano_seconds, "to predict"))
        return outputs

    def taken(self) -> float:
        """Of all predictions since it was asked last."""
        total = sum(self.times)
        self.times.clear()
        return total


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """What a network made of the example and of the pictures that are timed."""

    example: "Array"
    last: "Array"
    milliseconds: list[float]  # of each picture that is timed
    load_ms: float
    placement: Placement | str


async def make_picture(
    target: Target, folder: Path, protocol: PictureProtocol, report: Report = lambda _line: None
) -> tuple[Answer, bytes | None]:
    """Milliseconds of one picture of the protocol's prompt from the example's noise, and the picture as PNG; or why the
    time would mean nothing. Errors: as `harness.device.benchmark.benchmark`."""
    from safetensors.numpy import load_file

    identity, before = target.identify(), target.surroundings()
    solver, example = read_solver(folder), load_file(folder / EXAMPLE)
    async with target.opened() as device:
        unet = await _denoised_on(device, folder, solver, protocol, example["noise"])
        report(f"UNet: {solver.predictions} predictions, {unet.milliseconds[-1]:.2f} ms")
        parts = {"unet": unet}
        if solver.decoder is not None:
            parts["decoder"] = await _decoded_on(device, folder, solver.decoder, protocol, unet)
    last, noise = list(parts.values())[-1], solver.picture[0] * example["noise"]
    decibels = min(
        _decibels(unet.example - noise, example["latent"] - noise), _decibels(last.example, example["picture"])
    )
    report(f"the example agrees to {decibels:.1f} dB")
    if not decibels >= protocol.parity_db:
        message = (
            f"the example that the device made reaches {decibels:.1f} dB of what the float32 networks make, below "
            f"{protocol.parity_db:g} dB; no time counts while the pictures are wrong"
        )
        return Failed(phase=PHASE, message=message), None
    conditions = {
        **conditions_of(identity, protocol),
        **seen_of(before, target.surroundings()),
        **engine_conditions(
            {name: part.placement for name, part in parts.items()}, protocol.compute_unit, protocol.engine_share
        ),
        "predictions": solver.predictions,
        "parity_db": round(decibels, 1) if decibels < 1000 else "equal",
        "sampling": to_plain(solver.sampling),
        **{f"{name}_ms": median(part.milliseconds) for name, part in parts.items()},
        **{f"{name}_load_ms": part.load_ms for name, part in parts.items()},
    }
    return _measured(list(parts.values()), conditions), png(last.last, solver)


def _measured(parts: Sequence[_Part], conditions: dict[str, Any]) -> Measured:
    totals = [sum(each) for each in zip(*(part.milliseconds for part in parts), strict=True)]
    spread = f"range of {len(totals)} pictures"
    return Measured(
        value=median(totals), unit="ms", low=min(totals), high=max(totals), spread=spread, conditions=conditions
    )


async def _denoised_on(device: Any, folder: Path, solver: Solver, protocol: PictureProtocol, noise: "Array") -> _Part:
    wrapper, load_ms = await loaded(device, folder / solver.unet.package, protocol)
    placement, model = await placement_of(wrapper), _Model(wrapper=wrapper)
    latent = await denoised(solver, model.predict, noise, *prompts(folder, solver, solver.example))
    model.taken()
    wanted, totals = prompts(folder, solver, protocol.prompt), []
    for _ in range(protocol.pictures):
        last = await denoised(solver, model.predict, noise, *wanted)
        totals.append(model.taken())
    await wrapper.unload()
    return _Part(example=latent, last=last, milliseconds=totals, load_ms=load_ms, placement=placement)


async def _decoded_on(device: Any, folder: Path, decoder: Decoder, protocol: PictureProtocol, latents: _Part) -> _Part:
    wrapper, load_ms = await loaded(device, folder / decoder.package, protocol)
    placement, model = await placement_of(wrapper), _Model(wrapper=wrapper)
    example = (await model.predict({decoder.latent: latents.example}))[decoder.output]
    model.taken()
    totals = []
    for _ in range(protocol.pictures):
        last = (await model.predict({decoder.latent: latents.last}))[decoder.output]
        totals.append(model.taken())
    await wrapper.unload()
    return _Part(example=example, last=last, milliseconds=totals, load_ms=load_ms, placement=placement)


def _decibels(produced: "Array", reference: "Array") -> float:
    """Minus infinity for values that are no number, and for another shape."""
    import numpy

    if produced.shape != reference.shape or not numpy.isfinite(produced).all():
        return -numpy.inf
    return psnr_db(produced, reference)

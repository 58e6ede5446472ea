"""A package cut in two that run one after the other: Apple asks for parts of less than 1 GB on an iPhone.

coremltools cuts the program where half of the weights are behind, and makes what is needed later outputs of the first
part and inputs of the second.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from harness.coreml.export import CoremlExportError, one_line, without_remarks
from harness.coreml.interpreter import Mode, run_program
from harness.coreml.mil_program import Program
from harness.coreml.parity import ParityError, psnr_db

CHAIN_GATE_DB = 60.0  # chosen: the same program in two parts loses nothing but what its boundary rounds


def cut_in_two(package: Path) -> tuple[Path, Path]:
    """`NAME_chunk1.mlpackage` and `NAME_chunk2.mlpackage` beside the package, which stays; those that are there are
    replaced. CoremlExportError where it cannot be cut."""
    chunks = _chunk(package, 1), _chunk(package, 2)
    for chunk in chunks:
        shutil.rmtree(chunk, ignore_errors=True)
    with without_remarks():
        from coremltools.models.utils import bisect_model

        try:
            bisect_model(str(package), str(package.parent), check_output_correctness=False)  # which needs a Mac
        except Exception as error:  # whatever the converter raises
            raise CoremlExportError(one_line(error)) from error
    return chunks


def _chunk(package: Path, number: int) -> Path:
    return package.with_name(f"{package.stem}_chunk{number}.mlpackage")  # as coremltools names them


def run_chain(programs: Sequence[Program], inputs: Mapping[str, Tensor], mode: Mode) -> dict[str, Tensor]:
    """The last program's outputs; each has the inputs and what those before it gave, by name."""
    known = dict(inputs)
    outputs: dict[str, Tensor] = {}
    for program in programs:
        outputs = run_program(program, {each.name: known[each.name] for each in program.inputs}, mode)
        known |= outputs
    return outputs


def chunks_psnr_db(whole: Program, chunks: Sequence[Program], inputs: Sequence[Tensor]) -> float:
    """How near the chunks, one after the other, are to the whole package, in dB; both rounded to fp16 where they say
    so."""
    named = whole.named(inputs)
    references = run_program(whole, named, "float16").values()
    outputs = run_chain(chunks, named, "float16").values()
    return min(psnr_db(reference, output) for reference, output in zip(references, outputs, strict=True))


def check_chain(decibels: float) -> None:
    """ParityError for two parts that are not the whole."""
    if not decibels >= CHAIN_GATE_DB:
        raise ParityError(
            f"the two parts, one after the other, reach {decibels:.1f} dB of the whole and {CHAIN_GATE_DB:g} dB are "
            "asked: something was cut wrongly; do not ship them"
        )

"""The model card of a published folder: what the network is, its numbers and how they were obtained, its limits."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.coreml.parity import ParityResult
from harness.models.weights import Weights
from harness.publish.folder import Choices
from harness.records.plain import to_plain
from harness.records.quantities import TWIN, title_of
from harness.records.quantity import Counted, Failed, Measured, Quantity, Unavailable
from harness.records.record import TrialRecord
from harness.records.store import Store
from harness.records.yaml_text import write_yaml
from harness.reporting.format import listed, significant
from harness.trials.task_config import task_of

LISTED_PROMPTS = 12
NOT_TOLD = ("replicates", "kind", "value", "unit", "low", "high", "spread")
"""Of a quantity, below its table: what the table says, and numbers that other programs only want."""
PROVENANCE = (
    "device",
    "precision",
    "processor",
    "cpu_seconds",
    "gpu_seconds",
    "python",
    "versions",
    "code",
    "finished",
)
"""Of a record; not the machine's name and the command line, which are the publisher's own."""


def model_card(
    record: TrialRecord,
    weights: Weights,
    choices: Choices,
    license_name: str,
    parity: Mapping[str, ParityResult],
    others: Sequence[TrialRecord],
) -> str:
    """`others` are the trials that differ from this one by their seed alone; `parity` is by Core ML package."""
    parts = (
        _head(license_name, bool(parity)),
        _what(record, weights),
        _usage(weights, choices),
        _numbers(record, others),
        _protocol(record, choices),
        _limits(weights),
        _phone(parity, choices),
        _section("Architecture", _yaml(record.architecture)),
    )
    return "\n".join(parts)


def same_but_for_the_seed(record: TrialRecord, store: Store) -> list[TrialRecord]:
    """The other complete trials of the same architecture and protocol, by their seeds."""
    same = (record.architecture_fingerprint, record.protocol_fingerprint)
    siblings = (
        each
        for each in store.trials()
        if (each.architecture_fingerprint, each.protocol_fingerprint) == same
        and each.seed != record.seed
        and each.state == "complete"
    )
    return sorted(siblings, key=lambda each: each.seed)


def _head(license_name: str, has_coreml: bool) -> str:
    own = license_name == "apache-2.0"
    license_fields = {"license": license_name} if own else {"license": "other", "license_name": license_name}
    tags = ["diffusion", "flow-matching", "class-conditional", *(["core-ml"] if has_coreml else [])]
    link = {} if own else {"license_link": "LICENSE"}
    return f"---\n{write_yaml({'library_name': 'unet-harness', **license_fields, **link, 'tags': tags})}---\n"


def _what(record: TrialRecord, weights: Weights) -> str:
    training, data = weights.training, record.protocol["data"]
    assert training is not None
    prompts = training.text["prompts"]
    shown = ", ".join(f"“{prompt}”" for prompt in prompts[:LISTED_PROMPTS])
    more = f", and {len(prompts) - LISTED_PROMPTS} more (`config.json`)" if len(prompts) > LISTED_PROMPTS else ""
    sees = "pixels" if training.autoencoder is None else f"latents of a {training.autoencoder['kind']} autoencoder"
    params, kind = record.quantities.get("params"), type(weights.architecture).__name__.removesuffix("Config")
    size = f" of {params.value:,} parameters" if isinstance(params, Counted) else ""
    lines = [
        f"# {record.name}\n",
        f"A class-conditional diffusion network{size} ({kind}), which denoises {sees} of "
        f"{training.latent} x {training.latent} and makes pictures of {data['size']} x {data['size']}.\n",
        f"- trained on: {data['kind']}, {data['channels']} channel(s), content {data['content']}",
        f"- it knows: {shown}{more}",
        f"- trial: `{record.key}` of [unet-harness]; seed {record.seed}; state {record.state}",
    ]
    lines += [f"- promoted from, or re-scores: trial `{record.parent}`"] if record.parent else []
    return "\n".join(lines) + "\n\n![Samples](samples.png)\n"


def _usage(weights: Weights, choices: Choices) -> str:
    assert weights.training is not None
    prompt, code = weights.training.text["prompts"][0], ["from harness import load", ""]
    identity = weights.training.autoencoder
    if identity is not None and not choices.embed:
        code.append(
            f"autoencoder = ...  # its settings; kind {identity['kind']}, hash of its weights {identity['weights']}"
        )
        code.append("model = load('FOLDER', autoencoder=autoencoder)")
    else:
        code.append("model = load('FOLDER')")
    code += [
        f"pictures = model.sample([{prompt!r}], steps=10, guidance=1.5)  # PIL images",
        "pictures[0].save('a.png')",
    ]
    text = (
        "With the package unet-harness and its extra `study` installed. `steps`, `guidance` and `seed` are optional; "
        "the defaults are:\n\n" + _yaml(choices.sampling)
    )
    return _section("Use", "```python\n" + "\n".join(code) + "\n```\n\n" + text)


def _numbers(record: TrialRecord, others: Sequence[TrialRecord]) -> str:
    own = {name: each for name, each in record.quantities.items() if not name.startswith(TWIN)}
    rows = ["| quantity | value | interval | how |", "|---|---|---|---|"]
    rows += [f"| {' | '.join(_cell(each) for each in row)} |" for row in map(_row, own, own.values())]
    text = (
        f"Of this one training (seed {record.seed}), of its averaged weights, as the trial's record has them. An "
        "interval is what the last column says, and not the spread between trainings.\n\n" + "\n".join(rows) + "\n"
    )
    conditions = {name: _conditions(each) for name, each in own.items()}
    details = _folded(
        "What each number is conditional on", _yaml({name: each for name, each in conditions.items() if each})
    )
    return _section("Numbers", f"{text}\n{_seeds(record, others)}\n{details}")


def _row(name: str, quantity: Quantity) -> tuple[str, str, str, str]:
    if isinstance(quantity, Unavailable):
        return title_of(name), "not available", "", quantity.reason
    if isinstance(quantity, Failed):
        return title_of(name), "failed", "", f"{quantity.phase}: {quantity.message}"
    if isinstance(quantity, Counted):
        return title_of(name), f"{quantity.value:,} {quantity.unit}", "", "counted"
    unit = "" if quantity.unit in ("1", "fraction") else f" {quantity.unit}"
    interval = "" if quantity.low is None or quantity.high is None else f"{_n(quantity.low)} to {_n(quantity.high)}"
    label = str(quantity.conditions.get("label", ""))
    spread = quantity.spread if isinstance(quantity, Measured) else "of a model's prediction"
    how = ", ".join(filter(None, (quantity.kind, label, f"interval: {spread}" if interval else "")))
    return title_of(name), f"{_n(quantity.value)}{unit}", interval, how


def _n(value: float) -> str:
    return ("\u2212" if value < 0 else "") + significant(abs(value))


def _seeds(record: TrialRecord, others: Sequence[TrialRecord]) -> str:
    """What other trainings of the same gave: one of several may have been chosen because it is the best."""
    name = task_of(record.protocol).judging.first
    scored = [(each.seed, each.quantities.get(name)) for each in others]
    scores = [f"{_n(score.value)} (seed {seed})" for seed, score in scored if isinstance(score, Measured)]
    if not scores:
        return "No other seed of the same training is in the store that this was published from.\n"
    return (
        f"The same training with {len(scores)} other seed(s), in the same store: {title_of(name)} {listed(scores)}.\n"
    )


def _conditions(quantity: Quantity) -> dict[str, Any]:
    plain: Any = to_plain(quantity)
    fields = {name: value for name, value in plain.items() if name not in NOT_TOLD and value not in (None, "", {}, [])}
    return dict(fields.pop("conditions", {})) | fields


def _protocol(record: TrialRecord, choices: Choices) -> str:
    protocol: Any = to_plain(record.protocol)
    if len(prompts := protocol.get("text", {}).get("prompts", ())) > LISTED_PROMPTS:
        protocol["text"]["prompts"] = [*prompts[:LISTED_PROMPTS], f"and {len(prompts) - LISTED_PROMPTS} more"]
    origin = {name: record.provenance[name] for name in PROVENANCE if name in record.provenance}
    scored = {name: value for name, value in protocol.get("sampling", {}).items() if name in choices.sampling}
    differing = [name for name, value in scored.items() if choices.sampling[name] != value]
    note = (
        f"The defaults of this folder sample otherwise than the scores' samples were made: {listed(differing)}.\n"
        if differing
        else "The defaults of this folder sample as the scores' samples were made.\n"
    )
    return _section(
        "Protocol",
        f"Everything that the numbers above depend on. {note}\n{_yaml(protocol)}\n"
        + _folded("Where it was trained", _yaml(origin)),
    )


def _limits(weights: Weights) -> str:
    training = weights.training
    assert training is not None
    lines = [
        f"- It was trained at one size, and knows {len(training.text['prompts'])} prompts; other texts and sizes are "
        "outside what it was scored on.",
        "- Distances are in the features that their names say, against the reference and at the number of images that "
        "stand there; they compare with numbers of the same protocol only.",
        "- The licence is that of the weights; training images, text encoder and autoencoder have their own.",
        "- No human has rated its pictures, and what its training images lack or favour, it does too.",
    ]
    return _section("Limits", "\n".join(lines) + "\n")


def _phone(parity: Mapping[str, ParityResult], choices: Choices) -> str:
    if not parity:
        return _section("On a phone", "Published without Core ML packages.\n")
    rows = [f"| `{name}` | {each.float32_db:.1f} dB | {each.float16_db:.1f} dB |" for name, each in parity.items()]
    table = "\n".join(["| package | in float32 | rounded to fp16 |", "|---|---|---|", *rows])
    return _section(
        "On a phone",
        f"Core ML packages ({choices.coreml and choices.coreml['target']} or later), the solver's numbers "
        "(`coreml/solver.json`) and the prompts' embeddings: all that one picture takes. They were converted and not "
        "run by Core ML: the programs' own operators, run in PyTorch, agree with the networks by\n\n"
        f"{table}\n\nOn a Mac with an iPhone attached, `harness latency picture FOLDER --queue QUEUE` makes one.\n",
    )


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}"


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n</details>\n"


def _yaml(value: Any) -> str:
    return f"```yaml\n{write_yaml(to_plain(value))}```\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())

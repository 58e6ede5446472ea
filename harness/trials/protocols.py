"""Which named protocol a trial was made under: `fig3`, or `fig3, but recipe.steps=20000`.

Named protocols are files in `harness/conf/protocol/`. Identity is settings, not words: a record holds the settings, and
its name is found by comparing them, so that it is right whoever typed what. The data is no part of a protocol.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.models.autoencoder_config import AutoencoderConfig, KlAutoencoder, PixelsAutoencoder
from harness.records.errors import UserError
from harness.records.fields import value_text
from harness.records.plain import canonical_json, identity
from harness.trials import compose
from harness.trials.initial import INITIAL, initial_section, initial_weights
from harness.trials.settings import Settings, settings_of
from harness.trials.task_config import objective_section, task_section

SD3 = "stabilityai/stable-diffusion-3-medium-diffusers"
PUBLISHED_LATENTS: Mapping[str, Mapping[str, Any]] = {
    SD3: {"kind": "kl", "channels": 16, "downsampling": 8, "shift": 0.0609, "scale": 1.5305},
}
"""Hub name -> what the autoencoder's config.json says of its latents: what they are is known without its files."""

MOST = 6
"""Settings that may differ from a protocol for it to be named."""
NO_NAME = "no named protocol"
CONTENTS = ("reference_content", "weights", "resize")
"""Of a record's section `quality`: what files hold, which settings do not say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    name: str
    differing: tuple[str, ...]
    """As one writes them on the command line: `recipe.steps=20000`."""

    def __str__(self) -> str:
        return self.name if not self.differing else f"{self.name}, but {', '.join(self.differing)}"


def protocol_name(settings: Settings) -> str:
    """Of a study's settings: the protocol that they are, or the nearest with what differs, or that there is none."""
    if settings.count_only:
        return NO_NAME
    from harness.training.device import planned_precision  # loads torch

    sections = _sections(settings) | objective_section(settings.task, settings.objective)
    sections |= initial_section(initial_weights(settings))
    sections["recipe"]["precision"] = planned_precision(settings.recipe)
    return _name(sections, latents_of(settings.autoencoder))


def protocol_name_of(sections: Mapping[str, Any]) -> str:
    """The same of the sections that a record or a manifest holds; of one that only counted, there is none."""
    if "recipe" not in sections:
        return NO_NAME
    return _name(sections, sections.get("autoencoder", {"kind": "pixels"}))


def latents_of(config: AutoencoderConfig) -> Mapping[str, Any]:
    """What is known of an autoencoder's latents: `kind`, `channels`, `downsampling`, `shift`, `scale`. UserError for
    one of which neither the files are here nor the numbers published."""
    if isinstance(config, PixelsAutoencoder):
        return {"kind": "pixels"}
    published = PUBLISHED_LATENTS.get(config.name or "")
    if published is not None and isinstance(config, KlAutoencoder):
        return {**published, "encoding": config.encoding}
    from harness.models.autoencoder import describe  # loads torch

    return describe(config).identity()


def _name(sections: Mapping[str, Any], latents: Mapping[str, Any]) -> str:
    near = (named for named in _against_all(sections, latents) if len(named.differing) <= MOST)
    nearest = min(near, key=lambda named: len(named.differing), default=NO_NAME)
    return str(nearest)


def _against_all(sections: Mapping[str, Any], latents: Mapping[str, Any]) -> Iterator[Named]:
    """Every protocol that can be compared: not one whose autoencoder is needed for it and not here."""
    for name, (own, autoencoder) in _named(compose.CONF).items():
        if own.get("task") != sections.get("task"):
            continue
        differing = [
            *differing_settings(own, sections),
            *_other_objective(own, sections),
            *_other_beginning(own, sections),
        ]
        if len(differing) <= MOST and (others := _other_latents(autoencoder, latents)) is not None:
            yield Named(name=name, differing=(*differing, *others))


@functools.cache
def _named(_conf: object) -> dict[str, tuple[dict[str, Any], AutoencoderConfig]]:
    """Protocol -> its sections and its autoencoder; of one folder of configurations, once a process."""
    each = {name: settings_of([f"{compose.PROTOCOL}={name}"]) for name in compose.protocols()}
    return {name: (_sections(settings), settings.autoencoder) for name, settings in each.items()}


@functools.cache
def _known_latents(config: AutoencoderConfig) -> Mapping[str, Any] | None:
    """Those of `latents_of`; None where they are not known here."""
    try:
        return latents_of(config)
    except UserError:
        return None


def _sections(settings: Settings) -> dict[str, Any]:
    """Those that a protocol is named by; settings that the task does not have are in none."""
    named = {name: identity(getattr(settings, name)) for name in ("recipe", *settings.task.scored_by)}
    return task_section(settings.task) | named


def differing_settings(own: Mapping[str, Any], sections: Mapping[str, Any]) -> list[str]:
    """The settings in which the sections are not the protocol's `own`, in its order."""
    differing = []
    for section, expected in own.items():
        wanted, actual = _flat(expected, section), _flat(sections.get(section, {}), section)
        changed = (path for path in {**wanted, **actual} if not _same(wanted.get(path), actual.get(path)))
        differing += [f"{path}={value_text(actual[path]) if path in actual else 'its default'}" for path in changed]
    return differing


def _other_objective(own: Mapping[str, Any], sections: Mapping[str, Any]) -> list[str]:
    """Of a protocol that names none and sections that do; one that names one has it among its own."""
    objective = sections.get("objective")
    return [] if objective is None or "objective" in own else [f"objective={objective['kind']}"]


def _other_beginning(own: Mapping[str, Any], sections: Mapping[str, Any]) -> list[str]:
    """Of trainings that begin with another's weights, which no protocol names."""
    initial = sections.get(INITIAL)
    return [] if initial is None or INITIAL in own else [f"{INITIAL}={initial['weights']}"]


def _same(one: object, other: object) -> bool:
    """1 and 1.0 are one value, a tuple and a list too."""
    return canonical_json(one) == canonical_json(other)


def _flat(section: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Path -> value. Of an extractor its kind, and its resolution where that is a setting: Inception has one size."""
    flat: dict[str, Any] = {}
    for key, value in section.items():
        if key in CONTENTS or (key == "resolution" and section.get("kind") == "inception_v3"):
            continue
        flat |= _flat(value, f"{where}.{key}") if isinstance(value, Mapping) else {f"{where}.{key}": value}
    return flat


def _other_latents(expected: AutoencoderConfig, recorded: Mapping[str, Any]) -> list[str] | None:
    """Latents are told apart by their numbers, not by the weights' hash: SD3's files need not be here to be named.

    None: not known here, and of the same kind. Another kind is told without looking at files.
    """
    if expected.kind == recorded.get("kind"):
        latents = _known_latents(expected)
        if latents is None:
            return None
        if all(recorded.get(key) == value for key, value in latents.items()):
            return []
    if recorded.get("kind") == "pixels":
        return ["autoencoder=pixels"]
    of_latents = {name: recorded.get(name) for name in ("channels", "scale", "shift", "encoding")}
    if isinstance(of_latents["scale"], list | tuple):
        of_latents["scale"] = "measured"  # one a channel
    return [
        f"autoencoder={recorded.get('kind')} with {', '.join(f'{k} {value_text(v)}' for k, v in of_latents.items())}"
    ]

"""Where curves are sent while a trial runs. No tracker setting can change a result."""

import os
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from harness.records.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class NoTracker:
    """Nowhere; the record keeps the curve anyway."""

    kind: Literal["none"] = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalTracker:
    """One JSON-lines file a run."""

    kind: Literal["local"] = "local"


@dataclass(frozen=True, kw_only=True, slots=True)
class WandbTracker:
    """Weights & Biases."""

    kind: Literal["wandb"] = "wandb"
    mode: Literal["offline", "online", "disabled"] = "offline"
    """`offline` writes beside the results, needs neither network nor key, and `wandb sync` uploads it later."""
    project: str = "unet-harness"
    entity: str | None = None
    """The team or user that owns the project; null: the key's default."""
    start_timeout_s: float = 30.0
    """How long to wait for W&B when a run starts."""
    files: Literal["reference", "upload", "none"] = "reference"
    """Weights as an artifact of their run: `reference`, by path and checksum, so that W&B has the lineage and not the
    file; `upload`, so that it has the file, which lies where it is until it is uploaded. Nothing is copied here."""
    finish_timeout_s: float = 60.0
    """How long to wait for uploads when a run ends; what is left lies on the disk for `wandb sync`."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[^/\\#?%:]{1,128}", self.project):
            raise UserError(
                f"tracker.project must have 1 to 128 characters and none of / \\ # ? % :, not '{self.project}'; "
                "choose another name"
            )
        for name in ("start_timeout_s", "finish_timeout_s"):
            if getattr(self, name) <= 0:
                raise UserError(
                    f"tracker.{name} must be above 0 seconds, not {getattr(self, name):g}; choose a larger number"
                )


TrackerConfig: TypeAlias = NoTracker | LocalTracker | WandbTracker


def check_tracker(config: TrackerConfig) -> None:
    """Refuse what cannot work before any trial starts: `online` was asked for, and there is no key to go online with.

    Nothing falls back to offline by itself here, and nothing prompts.
    """
    if isinstance(config, WandbTracker) and config.mode == "online" and not _has_key():
        raise UserError(
            "tracker.mode=online needs a W&B key and this machine has none; run `wandb login` once, "
            "or set tracker.mode=offline and `wandb sync` later"
        )


def _has_key() -> bool:
    """Where W&B itself looks: the environment, then netrc, then its settings files."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    from wandb.sdk import wandb_setup  # not wandb.setup(): it starts a service, which workers would inherit
    from wandb.sdk.lib import wbauth

    settings = wandb_setup.singleton().settings
    return bool(wbauth.read_netrc_auth(host=settings.base_url) or settings.api_key)

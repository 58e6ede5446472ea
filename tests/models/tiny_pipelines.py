"""Text encoders of every class and diffusers pipelines, small and drawn at random, in folders as the hub has them."""

from copy import deepcopy
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

START, END = "<|startoftext|>", "<|endoftext|>"


def clip_tokenizer(pad: str = END) -> CLIPTokenizer:
    """Of single bytes, as CLIP's falls back to; CLIP-L pads with the end's token, CLIP-G with `!`."""
    signs = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*signs, *(f"{sign}</w>" for sign in signs), START, END]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], pad_token=pad, model_max_length=77)


def save_clip(
    folder: Path, tokenizer: Path | None = None, *, width: int = 16, projection: int | None = None, pad: str = END
) -> None:
    """With a projection of that width, or without one."""
    tokens = clip_tokenizer(pad)
    config = CLIPTextConfig(
        vocab_size=len(tokens), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=3,
        num_attention_heads=2, max_position_embeddings=77, projection_dim=projection or width,
        bos_token_id=tokens.bos_token_id, eos_token_id=tokens.eos_token_id, pad_token_id=tokens.pad_token_id,
    )  # fmt: skip
    _drawn(CLIPTextModel if projection is None else CLIPTextModelWithProjection, config).save_pretrained(folder)
    tokens.save_pretrained(tokenizer or folder)


def save_t5(folder: Path, tokenizer: Path | None = None, *, width: int = 24) -> None:
    signs = ["▁", *"abcdefghijklmnopqrstuvwxyz"]
    scores = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((sign, -2.0) for sign in signs)]
    tokens = T5Tokenizer(vocab=scores, extra_ids=0, model_max_length=512)
    config = T5Config(
        vocab_size=len(scores), d_model=width, d_kv=8, d_ff=2 * width, num_layers=2, num_heads=2, pad_token_id=0,
        eos_token_id=1, feed_forward_proj="gated-gelu",
    )  # fmt: skip
    torch.manual_seed(0)
    T5EncoderModel(config).save_pretrained(folder)
    tokens.save_pretrained(tokenizer or folder)


def save_gemma(folder: Path, *, dtype: torch.dtype = torch.float32, adds_bos: bool = True) -> Gemma2Model:
    """Gemma 2 with a window of attention shorter than its texts; its weights are stored in `dtype`. What is given back
    has the same in float32."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    words = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyz"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokens = GemmaTokenizer(vocab=vocabulary, merges=[], add_bos_token=adds_bos)
    config = Gemma2Config(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=128, sliding_window=4, query_pre_attn_scalar=8,
        pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip
    model = _drawn(Gemma2Model, config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(dtype))
    deepcopy(model).to(dtype).save_pretrained(folder)
    tokens.save_pretrained(folder)
    return model


def _drawn(kind: type, config: object):
    torch.manual_seed(0)
    return _enlarged(kind(config))


def _enlarged(model: torch.nn.Module, by: float = 4.0):
    """With larger weights than at the start of a training, so that every input matters."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "embed" not in name:
                parameter.mul_(by)
    return model.eval()


def save_sd3(folder: Path, *, t5: bool = True, shift: float = 0.06, scale: float = 1.5) -> StableDiffusion3Pipeline:
    """Stable Diffusion 3 of 4 latent channels, two blocks, and pictures of up to 64 pixels; the pipeline that it is."""
    save_clip(folder / "text_encoder", folder / "tokenizer", projection=12)
    save_clip(folder / "text_encoder_2", folder / "tokenizer_2", width=20, projection=16, pad="!")
    save_t5(folder / "text_encoder_3", folder / "tokenizer_3", width=48)
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=48, caption_projection_dim=32, pooled_projection_dim=28,
        pos_embed_max_size=16, qk_norm="rms_norm", dual_attention_layers=(0,),
    )  # fmt: skip
    parts = {
        "text_encoder": CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder"),
        "text_encoder_2": CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2"),
        "text_encoder_3": T5EncoderModel.from_pretrained(folder / "text_encoder_3") if t5 else None,
        "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        "tokenizer_2": CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
        "tokenizer_3": T5Tokenizer.from_pretrained(folder / "tokenizer_3") if t5 else None,
        "transformer": _enlarged(transformer),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "vae": tiny_vae(shift, scale),
    }
    pipeline = StableDiffusion3Pipeline(**parts)
    pipeline.save_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def tiny_vae(shift: float = 0.06, scale: float = 1.5) -> AutoencoderKL:
    """Of SD3's form: no quantising convolutions, a shift and a scale."""
    torch.manual_seed(0)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, latent_channels=4, use_quant_conv=False,
        use_post_quant_conv=False, shift_factor=shift, scaling_factor=scale,
    ).eval()  # fmt: skip


def save_sdxl(folder: Path, *, prediction: str = "epsilon", zeros: bool = True) -> StableDiffusionXLPipeline:
    """Stable Diffusion XL of 4 latent channels and two stages; the pipeline that it is."""
    save_clip(folder / "text_encoder", folder / "tokenizer")
    save_clip(folder / "text_encoder_2", folder / "tokenizer_2", width=20, projection=16, pad="!")
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2), attention_head_dim=(2, 4), cross_attention_dim=36, norm_num_groups=8,
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=16 + 6 * 8,
    )  # fmt: skip
    pipeline = StableDiffusionXLPipeline(
        vae=tiny_vae(),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        text_encoder_2=CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2"),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
        unet=_enlarged(unet, 1.5),
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction,
            clip_sample=False, set_alpha_to_one=False, timestep_spacing="trailing",
        ),
        force_zeros_for_empty_prompt=zeros,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline

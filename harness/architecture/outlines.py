"""What a drawing shows of each family of architectures. A new family is a function registered here."""

from functools import singledispatch

from harness.architecture import outline_decoders, outline_peers, outline_unet
from harness.architecture.config import ArchitectureConfig
from harness.architecture.outline import Outline
from harness.records.errors import UserError


@singledispatch
def outline(config: ArchitectureConfig) -> Outline:
    """What a drawing shows of the architecture; UserError for a family that nobody wrote one for."""
    raise UserError(f"nothing says how a {type(config).__name__} is drawn; register a function with `outline`")


outline.register(outline_unet.unet)
outline.register(outline_decoders.decoder)
outline.register(outline_decoders.autoencoder)
outline.register(outline_peers.ldm)
outline.register(outline_peers.dit)
outline.register(outline_peers.uvit)

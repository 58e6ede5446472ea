"""Scaled dot-product attention, with as many query heads per key-value head as the kind says.

B batch, T query tokens, S source tokens, G key-value heads (groups), R query heads a group, D head dimension.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.nn import functional as F

from harness.architecture.kinds import builder_of
from harness.architecture.knobs import VectorNorm
from harness.models.embeddings import Rotation

Size: TypeAlias = tuple[int, int]
"""Height and width of a map; its tokens are its pixels, row by row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionPlace:
    """Where an attention stands: what every kind's builder needs to know."""

    width: int  # channels of the tokens, in and out
    source_width: int  # channels of what is attended to: `width` in self-attention
    head_dim: int
    qk_norm: VectorNorm | None


class SharedHeadAttention(nn.Module):
    """MHSA (R = 1), GQA, MQA (G = 1): softmax(q k^T / sqrt(D)) v, each k and v shared by R query heads.

    A query head's rows do not see each other, so the R heads of a group are stacked as R * T rows of one head: K and V
    are never repeated, in training as on the phone. With G = 1 that stacking is a view.
    """

    def __init__(self, spec: Any, place: AttentionPlace) -> None:
        super().__init__()
        heads = place.width // place.head_dim
        self.heads, self.groups, self.head_dim = heads, int(spec.groups_of(heads)), place.head_dim
        self.query = nn.Linear(place.width, place.width, bias=False)
        self.key_value = nn.Linear(place.source_width, 2 * self.groups * place.head_dim, bias=False)
        self.out = nn.Linear(place.width, place.width)
        norm = place.qk_norm
        self.query_norm = builder_of(norm)(norm, place.head_dim) if norm else nn.Identity()
        self.key_norm = builder_of(norm)(norm, place.head_dim) if norm else nn.Identity()

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        *,
        mask: Tensor | None = None,
        rotation: Rotation | None = None,
        size: Size | None = None,  # noqa: ARG002
    ) -> Tensor:
        """x (B, T, width), source (B, S, source_width), mask (B, 1, 1, S) bool -> (B, T, width). Of self-attention,
        size is that of the map whose pixels the tokens are."""
        out: Tensor = self.out(self.attended(*self.projected(x, source, rotation), mask))
        return out

    def projected(self, x: Tensor, source: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, T, G * R, D), keys and values (B, S, G, D); normed and rotated."""
        q = self.query_norm(self.query(x).unflatten(-1, (self.heads, self.head_dim)))
        k, v = self.key_value(source).unflatten(-1, (2, self.groups, self.head_dim)).unbind(2)
        k = self.key_norm(k)
        return (q, k, v) if rotation is None else (rotation(q), rotation(k), v)

    def attended(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """q (B, T, G * R, D), k and v (B, S, G, D), mask (B, 1, 1, S) -> (B, T, G * R * D)."""
        h = F.scaled_dot_product_attention(self._rows(q), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask)
        return self._tokens(h)

    def _rows(self, q: Tensor) -> Tensor:
        """(B, T, G * R, D) -> (B, G, T * R, D)."""
        batch, tokens, _, _ = q.shape
        return q.reshape(batch, tokens, self.groups, -1, self.head_dim).transpose(1, 2).flatten(2, 3)

    def _tokens(self, h: Tensor) -> Tensor:
        """(B, G, T * R, D) -> (B, T, G * R * D)."""
        batch, shared = h.shape[0], self.heads // self.groups
        return h.reshape(batch, self.groups, -1, shared * self.head_dim).transpose(1, 2).flatten(2)

"""A discriminator of pictures by their patches: PatchGAN (Isola et al. 2017, arXiv 1611.07004), as latent diffusion's
autoencoders are trained with (Rombach et al. 2022, arXiv 2112.10752).

    4x4 convolution, stride 2, 3 -> width, leaky ReLU
    4x4 convolution, stride 2, doubling the width up to 8 times, norm, leaky ReLU        layers - 1 times
    4x4 convolution, stride 1, doubling likewise, norm, leaky ReLU
    4x4 convolution, stride 1, to a logit for each patch: of 70 x 70 pixels with 3 layers, 34 with 2, 16 with 1

The norm is GroupNorm, where the source has BatchNorm: a picture's logits do not depend on the pictures beside it, and a
training does not on how its batches are cut. First weights are N(0, 0.02^2), as there.
"""

from torch import Tensor, nn

from harness.records.errors import UserError

GROUPS = 8
WIDEST = 8
"""Times the first layer's width."""
SLOPE = 0.2
DEVIATION = 0.02


class PatchDiscriminator(nn.Module):
    def __init__(self, channels: int, width: int, layers: int) -> None:
        super().__init__()
        widths = [width * min(2**number, WIDEST) for number in range(layers + 1)]
        stages: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        for number in range(1, layers + 1):
            stride = 2 if number < layers else 1
            stages += [
                nn.Conv2d(widths[number - 1], widths[number], 4, stride=stride, padding=1, bias=False),
                nn.GroupNorm(GROUPS, widths[number]),
                nn.LeakyReLU(SLOPE),
            ]
        self.layers = nn.Sequential(*stages, nn.Conv2d(widths[-1], 1, 4, padding=1))
        for part in self.layers:
            if isinstance(part, nn.Conv2d):
                nn.init.normal_(part.weight, 0.0, DEVIATION)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, C, H, W) in -1..1 -> logits (B, patches): above 0 where it looks real."""
        logits: Tensor = self.layers(pictures)
        return logits.flatten(1)


def smallest_picture(layers: int) -> int:
    """The side of one that has a patch."""
    return 3 << layers


def check_fits(side: int, layers: int) -> None:
    """UserError for pictures that are too small."""
    if side < smallest_picture(layers):
        fitting = next((each for each in range(layers, 0, -1) if side >= smallest_picture(each)), None)
        advice = (
            "give objective.adversarial_weight=0"
            if fitting is None
            else f"give objective.discriminator.layers={fitting}"
        )
        raise UserError(
            f"objective.discriminator.layers={layers} judges pictures from {smallest_picture(layers)} px, and these "
            f"have {side}; {advice}"
        )

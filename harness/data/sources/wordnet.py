"""ImageNet's class names by WordNet id (`n01440764` is "tench"), from packages that are installed anyway.

timm has the ids in the order of the classes, torchvision the names in that order, all different: of the two that are
both called "crane" one is "crane bird".
"""

import functools
import re
from collections.abc import Sequence

from harness.models.weights import packaged_file
from harness.records.errors import UserError

WNID = re.compile(r"n\d{8}")
SYNSETS_SHA256 = "70002b0ff5de60a3a17a82dbfcff291931f96225ddf941ad2e182fc39e183d15"


@functools.cache
def names_by_wnid() -> dict[str, str]:
    """Of ImageNet-1k's 1,000 classes."""
    from torchvision.models import ResNet50_Weights

    wnids = packaged_file("timm", "data/_info/imagenet_synsets.txt", SYNSETS_SHA256).read_text().split()
    return dict(zip(wnids, ResNet50_Weights.IMAGENET1K_V1.meta["categories"], strict=True))


def class_names_of(wnids: Sequence[str]) -> tuple[str, ...]:
    """Their names as prompts say them; UserError for what is none of the thousand."""
    if other := [wnid for wnid in wnids if wnid not in names_by_wnid()]:
        raise UserError(
            f"'{other[0]}' is none of ImageNet-1k's 1,000 WordNet ids; give such folders as data=image_folder, with a "
            "file of names, data.names=FILE"
        )
    return tuple(names_by_wnid()[wnid] for wnid in wnids)

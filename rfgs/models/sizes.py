"""Which sizes of pictures a model takes, told from its files or its family before it is loaded. No torch here."""

from __future__ import annotations

from rfgs.errors import UserError
from rfgs.models import catalog, snapshot
from rfgs.models.about import read_object, whole_number
from rfgs.models.kind import family_of
from rfgs.models.places import expanded, is_folder

_JOINED = {"FluxTransformer2DModel": 2, "Flux2Transformer2DModel": 2, "ZImageTransformer2DModel": 2}
"""Networks that join more latents than `patch_size` says: FLUX's are given squares of them, and Z-Image has a list of sizes."""


def check_resolution(source: str, size: int) -> int:
    """Width and height of pictures, pixels, if the model `source` (as `catalog.locate` takes it) takes them.

    Raises:
        UserError: no multiple of what its autoencoder and network shrink by, or more than the network has positions for.
    """
    grain, most = limits(source)
    if size % grain:
        nearest = max(grain, grain * round(size / grain))
        raise UserError(
            f"--resolution {size}: {source} takes multiples of {grain} pixels; try --resolution {min(nearest, most or nearest)}"
        )
    if most and size > most:
        raise UserError(f"--resolution {size}: {source} takes {most} pixels at most; try --resolution {most}")
    return size


def limits(source: str) -> tuple[int, int | None]:
    """The pixels that a side has to be a multiple of, and the largest side; None where there is no such bound."""
    place = catalog.locate(source)
    folder = expanded(place.source)
    if not is_folder(folder) and snapshot.HUB_ID.fullmatch(place.source):
        folder = snapshot.cached(place.source) or folder
    # Whoever loads them will tell what cannot be read.
    vae, network = (read_object(folder / part / "config.json") or {} for part in ("vae", "transformer"))
    blocks = vae.get("block_out_channels") or vae.get("encoder_block_out_channels")
    family = family_of(source)
    if not isinstance(blocks, list) or len(blocks) > 16:
        return (family.grain if family else 8), None
    grain = 2 ** (len(blocks) - 1)
    if family and not family.network:
        return grain, None
    # Latents along a side of one token.
    joined = _JOINED.get(str(network.get("_class_name")))
    grain *= joined or whole_number(network.get("patch_size")) or 1
    most = whole_number(network.get("pos_embed_max_size"))
    return grain, grain * most if most else None

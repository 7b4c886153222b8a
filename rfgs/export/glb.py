"""Splats as binary glTF with the extension KHR_gaussian_splatting, and as colored points for other readers.

https://github.com/KhronosGroup/glTF/tree/main/extensions/2.0/Khronos/KHR_gaussian_splatting
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

import rfgs
from rfgs.export.axes import WORLD_TO_Y_UP, rotate
from rfgs.export.writing import atomic, finite_splats
from rfgs.splats import Splats

EXTENSION = "KHR_gaussian_splatting"
POINTS, FLOAT, UNSIGNED_BYTE, ARRAY_BUFFER = 0, 5126, 5121, 34962


def write_glb(splats: Splats, path: str | Path) -> None:
    """Writes one node of splats, +Y up and facing +Z.

    Scales are linear, as in the extension's release (its drafts had logarithms), opacities lie in [0, 1],
    rotations are unit quaternions (x, y, z, w), colors are spherical-harmonic coefficients of display sRGB.

    Raises:
        UserError: a folder that cannot be written to, or no finite splat.
    """
    splats = rotate(finite_splats(splats, path), WORLD_TO_Y_UP)
    attributes = _attributes(splats)
    primitive = {
        "mode": POINTS,
        "attributes": {name: index for index, name in enumerate(attributes)},
        "extensions": {
            EXTENSION: {
                "kernel": "ellipse",
                "colorSpace": "srgb_rec709_display",
                "sortingMethod": "cameraDistance",
                "projection": "perspective",
            }
        },
    }
    views, accessors, offset = [], [], 0
    for index, values in enumerate(attributes.values()):
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": values.nbytes, "target": ARRAY_BUFFER})
        offset += (
            values.nbytes
        )  # every row is a multiple of 4 bytes, which is the alignment that glTF asks for
        accessors.append({"bufferView": index, **_accessor(values)})
    # glTF requires the bounds of positions.
    accessors[0] |= {
        "min": attributes["POSITION"].min(0).tolist(),
        "max": attributes["POSITION"].max(0).tolist(),
    }
    document = {
        "asset": {"version": "2.0", "generator": f"rfgs {rfgs.__version__}"},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": offset}],
    }
    binary = b"".join(values.tobytes() for values in attributes.values())
    with atomic(path) as temporary:
        temporary.write_bytes(_container(document, binary))


def _attributes(splats: Splats) -> dict[str, np.ndarray]:
    """The vertex attributes by name, each [N, components] of float32 or uint8."""
    opacities = splats.opacities[:, None].numpy()
    rgba = np.concatenate([splats.colors.numpy(), opacities], axis=1)
    attributes = {
        "POSITION": splats.means.numpy(),
        "COLOR_0": np.clip(np.rint(rgba * 255), 0, 255).astype(np.uint8),
        f"{EXTENSION}:ROTATION": splats.quats[:, [1, 2, 3, 0]].numpy(),
        f"{EXTENSION}:SCALE": splats.scales.numpy(),
        f"{EXTENSION}:OPACITY": opacities,
        f"{EXTENSION}:SH_DEGREE_0_COEF_0": splats.sh0[:, 0].numpy(),
    }
    for degree in range(1, splats.sh_degree + 1):
        for index in range(2 * degree + 1):
            values = splats.parameters()["shN"][:, degree**2 - 1 + index]
            attributes[f"{EXTENSION}:SH_DEGREE_{degree}_COEF_{index}"] = values.numpy()
    return attributes


def _accessor(values: np.ndarray) -> dict[str, object]:
    kind = {"count": len(values), "type": {1: "SCALAR", 3: "VEC3", 4: "VEC4"}[values.shape[1]]}
    if values.dtype == np.uint8:
        return {**kind, "componentType": UNSIGNED_BYTE, "normalized": True}
    return {**kind, "componentType": FLOAT}


def _container(document: dict, binary: bytes) -> bytes:
    """A GLB file: a header of 12 bytes, then the two chunks, each padded to 4 bytes."""
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    size = 12 + 8 + len(text) + 8 + len(binary)
    header = struct.pack("<4sII", b"glTF", 2, size)
    chunks = (
        struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    )
    return header + chunks

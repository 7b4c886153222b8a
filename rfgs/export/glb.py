"""Splats as binary glTF with the extension KHR_gaussian_splatting, and as colored points for other readers.

https://github.com/KhronosGroup/glTF/tree/main/extensions/2.0/Khronos/KHR_gaussian_splatting
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rfgs
from rfgs.errors import UserError
from rfgs.export.axes import WORLD_TO_Y_UP, rotate
from rfgs.export.unpacking import DAMAGE
from rfgs.export.writing import atomic, finite_splats
from rfgs.models.about import object_in
from rfgs.splats import Splats

EXTENSION = "KHR_gaussian_splatting"
POINTS, FLOAT, UNSIGNED_BYTE, ARRAY_BUFFER = 0, 5126, 5121, 34962


def write_glb(splats: Splats, path: str | Path, *, comments: Sequence[str] = ()) -> None:
    """Writes one node of splats, +Y up and facing +Z.

    Scales are linear, as in the extension's release (its drafts had logarithms), opacities lie in [0, 1],
    rotations are unit quaternions (x, y, z, w), colors are spherical-harmonic coefficients of display sRGB.

    Args:
        comments: lines for the "extras" of the file's "asset".

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
        "asset": {
            "version": "2.0",
            "generator": f"rfgs {rfgs.__version__}",
            **({"extras": {"comments": [*comments]}} if comments else {}),
        },
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
        temporary.write_bytes(container(document, binary))


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


def container(document: dict, binary: bytes) -> bytes:
    """A GLB file: a header of 12 bytes, then the two chunks, each padded to 4 bytes."""
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    size = 12 + 8 + len(text) + 8 + len(binary)
    header = struct.pack("<4sII", b"glTF", 2, size)
    chunks = (
        struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    )
    return header + chunks


def read_glb(path: str | Path) -> Splats:
    """Reads the splats of the first primitive in a .glb that has any, as if its node stood at the origin, Y up.

    Raises:
        UserError: there is no such file, it is damaged, or holds something other than splats.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        if content[:4] != b"glTF":
            raise ValueError("its first bytes are another format's")
        (length,) = struct.unpack_from("<I", content, 12)
        document, binary = object_in(content[20 : 20 + length]), content[28 + length :]
        if document is None:
            raise ValueError("its JSON cannot be read")
        primitives = [one for mesh in document.get("meshes", []) for one in mesh["primitives"]]
        found = next((one for one in primitives if EXTENSION in one.get("extensions", {})), None)
        if found is None:
            raise UserError(
                f"{path} holds no splats: none of its {len(primitives)} primitives has {EXTENSION}"
            )
        columns = {
            name.removeprefix(f"{EXTENSION}:"): _column(document, binary, index)
            for name, index in found["attributes"].items()
        }
        splats = _splats(columns)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    except (struct.error, *DAMAGE) as error:
        raise UserError(f"{path} is damaged, or not a .glb of splats: {error}") from error
    return rotate(finite_splats(splats, path), WORLD_TO_Y_UP.T)


DTYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", FLOAT: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


def _column(document: dict[str, Any], binary: bytes, index: int) -> np.ndarray:
    """The values of an accessor, float32 [N, components]; normalized integers as what they stand for."""
    accessor = document["accessors"][index]
    view = document["bufferViews"][accessor["bufferView"]]
    dtype, width, count = (
        np.dtype(DTYPES[accessor["componentType"]]),
        WIDTHS[accessor["type"]],
        accessor["count"],
    )
    stride = view.get("byteStride", dtype.itemsize * width)
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    if count < 1 or start < 0 or stride < dtype.itemsize * width:
        raise ValueError(f"accessor {index} has {count} values")
    if start + stride * (count - 1) + dtype.itemsize * width > len(binary):
        raise ValueError(f"it ends before the {count} values of accessor {index}")
    values = np.ndarray((count, width), dtype, binary, start, (stride, dtype.itemsize)).astype(np.float32)
    if accessor.get("normalized"):
        values = np.maximum(values / np.iinfo(dtype).max, -1)
    return values


def _splats(columns: dict[str, np.ndarray]) -> Splats:
    opacities = np.clip(columns["OPACITY"][:, 0].astype(np.float64), 0, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        logits = np.log(opacities) - np.log1p(-opacities)
        log_scales = np.log(columns["SCALE"])
    higher = [name for degree in (1, 2, 3) for name in _names(degree) if name in columns]
    return Splats(
        means=torch.from_numpy(columns["POSITION"]),
        quats=torch.from_numpy(columns["ROTATION"][:, [3, 0, 1, 2]]),
        log_scales=torch.from_numpy(log_scales),
        logit_opacities=torch.from_numpy(logits.astype(np.float32)),
        sh0=torch.from_numpy(columns["SH_DEGREE_0_COEF_0"])[:, None],
        shN=torch.from_numpy(np.stack([columns[name] for name in higher], axis=1)) if higher else None,
    )


def _names(degree: int) -> list[str]:
    return [f"SH_DEGREE_{degree}_COEF_{index}" for index in range(2 * degree + 1)]

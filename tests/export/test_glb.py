import json
import math
import struct

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from rfgs.export import write_glb
from rfgs.splats import SH_C0, Splats, ball


def read(content: bytes) -> tuple[dict, dict[str, np.ndarray]]:
    """The JSON of a GLB file and its attributes, read as the glTF 2.0 specification (section 4.4) describes them."""
    magic, version, length = struct.unpack_from("<III", content)
    assert (magic, version, length) == (0x46546C67, 2, len(content))
    json_length, json_type = struct.unpack_from("<II", content, 12)
    assert json_type == 0x4E4F534A and json_length % 4 == 0
    document = json.loads(content[20 : 20 + json_length])
    binary_length, binary_type = struct.unpack_from("<II", content, 20 + json_length)
    assert binary_type == 0x004E4942 and binary_length % 4 == 0
    binary = content[28 + json_length :]
    assert len(binary) == binary_length == document["buffers"][0]["byteLength"]

    attributes = {}
    for name, index in document["meshes"][0]["primitives"][0]["attributes"].items():
        accessor = document["accessors"][index]
        view = document["bufferViews"][accessor["bufferView"]]
        dtype = {5126: "<f4", 5121: "u1"}[accessor["componentType"]]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        assert view["byteOffset"] % 4 == 0
        assert view["byteLength"] == accessor["count"] * width * np.dtype(dtype).itemsize
        values = np.frombuffer(binary, dtype, accessor["count"] * width, view["byteOffset"])
        attributes[name.removeprefix("KHR_gaussian_splatting:")] = values.reshape(-1, width)
    return document, attributes


def test_values_of_one_splat(tmp_path):
    splats = Splats(
        means=torch.tensor([[1.0, 2.0, 3.0]]),
        quats=torch.tensor([[3.0, 0.0, 0.0, 0.0]]),
        log_scales=torch.tensor([[0.1, 0.2, 0.4]]).log(),
        logit_opacities=torch.tensor([0.8]).logit(),
        sh0=(torch.tensor([[[0.2, 1.7, -0.3]]]) - 0.5) / SH_C0,
    )
    write_glb(splats, tmp_path / "a.glb")
    document, attributes = read((tmp_path / "a.glb").read_bytes())
    primitive = document["meshes"][0]["primitives"][0]
    assert primitive["mode"] == 0 and document["extensionsUsed"] == ["KHR_gaussian_splatting"]
    extension = primitive["extensions"]["KHR_gaussian_splatting"]
    assert (extension["kernel"], extension["colorSpace"]) == ("ellipse", "srgb_rec709_display")
    assert attributes["POSITION"].tolist() == [[2, 3, 1]]  # +Y up, front +Z
    assert attributes["SCALE"][0] == pytest.approx([0.1, 0.2, 0.4])
    assert attributes["OPACITY"][0] == pytest.approx([0.8])
    assert attributes["SH_DEGREE_0_COEF_0"][0] == pytest.approx(splats.sh0[0, 0].tolist())
    assert attributes["COLOR_0"].tolist() == [[51, 255, 0, 204]]
    assert document["accessors"][primitive["attributes"]["COLOR_0"]]["normalized"] is True
    assert set(attributes) == {"POSITION", "COLOR_0", "ROTATION", "SCALE", "OPACITY", "SH_DEGREE_0_COEF_0"}


def test_geometry(tmp_path):
    generator = torch.Generator().manual_seed(0)
    splats = ball(31, 1.0, generator=generator)
    splats.log_scales += torch.randn(31, 3, generator=generator)
    write_glb(splats, tmp_path / "a.glb")
    document, attributes = read((tmp_path / "a.glb").read_bytes())
    position = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["POSITION"]]
    np.testing.assert_array_equal(np.float32(position["min"]), attributes["POSITION"].min(axis=0))
    np.testing.assert_array_equal(np.float32(position["max"]), attributes["POSITION"].max(axis=0))
    np.testing.assert_allclose(np.linalg.norm(attributes["ROTATION"], axis=1), 1, atol=1e-6)

    turn = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    np.testing.assert_allclose(attributes["POSITION"], splats.means.numpy() @ turn.T, atol=1e-6)
    for index in range(31):
        source = Rotation.from_quat(splats.quats[index].numpy(), scalar_first=True).as_matrix()
        source = turn @ source @ np.diag(splats.scales[index].numpy())
        written = Rotation.from_quat(attributes["ROTATION"][index]).as_matrix()  # (x, y, z, w)
        written = written @ np.diag(attributes["SCALE"][index])
        np.testing.assert_allclose(written @ written.T, source @ source.T, rtol=1e-4, atol=1e-6)


def test_harmonics_turn_with_the_object(tmp_path):
    splats = ball(5, 1.0, generator=torch.Generator().manual_seed(0))
    splats.shN = torch.zeros(5, 15, 3)
    splats.shN[:, 2] = 1.0  # brighter seen along -X, by the sign of the harmonic
    write_glb(splats, tmp_path / "a.glb")
    _, attributes = read((tmp_path / "a.glb").read_bytes())
    # World X is +Z in the file, whose harmonic is the one in the middle, with the other sign.
    np.testing.assert_allclose(attributes["SH_DEGREE_1_COEF_1"], -1, atol=1e-6)
    np.testing.assert_allclose(attributes["SH_DEGREE_1_COEF_0"], 0, atol=1e-6)
    names = [f"SH_DEGREE_{d}_COEF_{i}" for d in range(1, 4) for i in range(2 * d + 1)]
    assert len(names) == 15 and set(names) <= set(attributes)


def test_not_finite(tmp_path):
    splats = ball(3, 1.0, generator=torch.Generator().manual_seed(0))
    splats.log_scales[1, 2] = math.nan
    with pytest.warns(UserWarning, match="dropped 1 of 3"):
        write_glb(splats, tmp_path / "a.glb")
    assert len(read((tmp_path / "a.glb").read_bytes())[1]["POSITION"]) == 2

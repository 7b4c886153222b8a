"""A CUDA device that computes nothing: shapes, dtypes and devices of a step are checked on it, and its waits are counted.

Tensors on it are torch's `FakeTensor`s; those of the CPU are real, so that what a program reads of its own draws it gets.
Where a number is asked of the device, one is made up, and where it was asked is noted: on a real GPU the program would
wait there for all work before it. gsplat's own Python runs, on kernels that only make tensors of the right shapes.

A torch without CUDA builds the graph of such a step but has no engine to go back through it, so that gradients are made up too.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import subprocess
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
CHOSEN = 2
"""Elements that any mask on the device is said to choose."""
ASKS = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "bincount",
    "_linalg_check_errors",
    "equal",
    "is_nonzero",
}
"""Operations that a GPU answers with a number, which has to be waited for."""


class FakeCuda(TorchDispatchMode):
    """Enter it inside `FakeTensorMode` (the fixture `fake_cuda` does): what has "cuda" in it is fake from then on."""

    def __init__(self, fake: FakeTensorMode) -> None:
        super().__init__()
        self.fake = fake
        self.waits: list[str] = []
        """Where a program waited for the device, "file:line operation"."""
        self._truth = itertools.cycle([True, False])

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        target = kwargs.get("device")
        on_device = target is not None and torch.device(target).type == "cuda"
        if not on_device and not any(isinstance(leaf, FakeTensor) for leaf in leaves):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        name = func._schema.name.partition("::")[2]
        if name in ASKS or self._is_blocking_copy(name, args, kwargs):
            self.waits.append(f"{_where()} {name}")
        if name == "_local_scalar_dense":
            return self._made_up(leaves[0].dtype)
        if name == "nonzero":
            return self._empty((CHOSEN, leaves[0].dim()), torch.int64)
        if name == "bincount":
            return self._empty((kwargs.get("minlength") or args[2],), torch.int64)
        if name == "_to_copy" and target is not None and torch.device(target).type == "cpu":
            with unset_fake_temporarily():
                return torch.ones(leaves[0].shape, dtype=kwargs.get("dtype") or leaves[0].dtype)
        with self.fake:
            return func(*args, **kwargs)

    def _is_blocking_copy(self, name: str, args: Any, kwargs: Any) -> bool:
        if name == "_to_copy":
            target = kwargs.get("device")
            there = target is not None and torch.device(target).type != args[0].device.type
            return there and not kwargs.get("non_blocking", False)
        if name == "copy_":
            return args[0].device.type != args[1].device.type and not any(args[2:])
        return False

    def _made_up(self, dtype: torch.dtype) -> bool | int | float:
        if dtype == torch.bool:
            return next(self._truth)
        return 0.5 if dtype.is_floating_point else CHOSEN

    def _empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        with self.fake:
            return torch.empty(shape, dtype=dtype, device="cuda")

    def of_ours(self) -> list[str]:
        """The waits that gsplat's own Python has no part in."""
        return [wait for wait in self.waits if "gsplat/" not in wait.partition(" ")[0]]


def _made_up_gradients(loss: torch.Tensor) -> None:
    """A gradient for each leaf of the graph, and what gsplat's backward pass leaves beside."""
    seen, ahead = set(), [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        ahead += [before for before, _ in node.next_functions]
        if hasattr(node, "variable"):
            node.variable.grad = torch.empty_like(node.variable)
        if type(node).__name__ == "_RasterizeToPixelsBackward" and node.absgrad:
            means2d = node.saved_tensors[0]
            Kernels.seen[-1].absgrad = torch.empty_like(means2d)


def _where() -> str:
    """The innermost line outside torch and this file."""
    for frame in reversed(traceback.extract_stack()):
        if frame.filename != __file__ and "/torch/" not in frame.filename:
            return f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno}"
    return "?"


class Kernels:
    """gsplat's compiled part as far as a rasterization needs it; arguments as its Python passes them."""

    CameraModelType = PINHOLE = "pinhole"
    seen: list[Any] = []
    """The centers in the pictures, of the last rasterizations."""

    @staticmethod
    def projection_ewa_3dgs_fused_fwd(
        means, covars, quats, scales, opacities, viewmats, Ks, width, height, *rest
    ):
        n, c = means.shape[0], viewmats.shape[0]
        for tensor in (means, quats, scales, opacities, viewmats, Ks):
            assert tensor.device.type == "cuda" and tensor.dtype == torch.float32 and tensor.is_contiguous()
        radii = means.new_empty((c, n, 2), dtype=torch.int32)
        return (radii, *(means.new_empty(shape) for shape in ((c, n, 2), (c, n), (c, n, 3), (c, n))))

    @staticmethod
    def projection_ewa_3dgs_fused_bwd(means, covars, quats, scales, viewmats, *rest):
        return (
            means.new_empty(means.shape),
            None,
            quats.new_empty(quats.shape),
            scales.new_empty(scales.shape),
            viewmats.new_empty(viewmats.shape),
        )

    @staticmethod
    def intersect_tile(means2d, radii, depths, *rest):
        pairs = 7
        return (
            depths.new_empty(depths.shape, dtype=torch.int32),
            depths.new_empty(pairs, dtype=torch.int64),
            depths.new_empty(pairs, dtype=torch.int32),
        )

    @staticmethod
    def intersect_offset(ids, images, width, height):
        return ids.new_empty((images, height, width), dtype=torch.int32)

    @staticmethod
    def rasterize_to_pixels_3dgs_fwd(
        means2d, conics, colors, opacities, backgrounds, masks, width, height, *rest
    ):
        c = means2d.shape[0]
        Kernels.seen[:] = [means2d]
        assert backgrounds is None or backgrounds.shape == (c, colors.shape[-1])
        return (
            colors.new_empty((c, height, width, colors.shape[-1])),
            colors.new_empty((c, height, width, 1)),
            colors.new_empty((c, height, width), dtype=torch.int32),
        )

    @staticmethod
    def rasterize_to_pixels_3dgs_bwd(means2d, conics, colors, opacities, *rest):
        absolute = means2d.new_empty(means2d.shape) if rest[-1] else None
        return (absolute, *(value.new_empty(value.shape) for value in (means2d, conics, colors, opacities)))

    @staticmethod
    def spherical_harmonics_fwd(degree, directions, coefficients, masks):
        return directions.new_empty(directions.shape)

    @staticmethod
    def spherical_harmonics_bwd(bases, degree, directions, coefficients, masks, gradient, with_directions):
        return coefficients.new_empty(coefficients.shape), (
            directions.new_empty(directions.shape) if with_directions else None
        )


GUARD = """
#include <c10/core/impl/DeviceGuardImplInterface.h>
namespace {
C10_REGISTER_GUARD_IMPL(CUDA, c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA>)
}
"""
"""What a torch without CUDA lacks: a "current device", which it asks for even where nothing is computed."""


@pytest.fixture(scope="session")
def guard(request: pytest.FixtureRequest) -> None:
    """Compiles and registers that, for good, so that this belongs in a process of its own."""
    if torch.version.cuda is not None:
        return
    compiler, root = shutil.which("g++"), Path(torch.__file__).parent
    if compiler is None:
        pytest.skip("there is no g++ to compile a device guard with")
    folder = request.config.cache.mkdir("fake-cuda")  # type: ignore[union-attr]
    library = folder / f"guard-{torch.__version__}.so"
    if not library.exists():
        source, made = folder / "guard.cpp", folder / f"guard-{os.getpid()}.so"
        source.write_text(GUARD)
        command = [compiler, "-std=c++20", "-O0", "-shared", "-fPIC", f"-I{root / 'include'}", str(source)]
        subprocess.run([*command, "-o", str(made), f"-L{root / 'lib'}", "-lc10"], check=True)
        made.replace(library)
    ctypes.CDLL(str(library))


@pytest.fixture
def fake_cuda(guard: None, monkeypatch: pytest.MonkeyPatch):
    """The device, as long as the test runs."""
    import gsplat

    from rfgs.render import on_gsplat

    if torch.cuda.is_available():
        pytest.skip("there is a real one")
    monkeypatch.setattr(on_gsplat, "_problem", lambda: None)
    monkeypatch.setattr(on_gsplat, "_prepared", {"gsplat"})
    backend = SimpleNamespace(_C=Kernels)
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", backend)
    monkeypatch.setattr(gsplat.cuda, "_backend", backend, raising=False)
    monkeypatch.setattr(torch.Tensor, "backward", _made_up_gradients)
    monkeypatch.setattr(torch.autograd, "grad", lambda loss, tensor: (torch.empty_like(tensor),))
    with FakeTensorMode(allow_non_fake_inputs=True) as fake, FakeCuda(fake) as device:
        yield device

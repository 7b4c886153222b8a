"""A network as OpenVINO has it, kept on disk: the graph with its weights once, and what is compiled for each batch size.

    RFGS_CACHE/networks/KEY/network.xml, network.bin    the graph for any batch, float32
                            network.json                how long and what these two are
                            BATCH-....blob              compiled for one batch size, without the weights

KEY is of the weights and the versions of the libraries, and of the inputs, so nothing in there goes stale. What cannot be read is
made anew. A graph is always traced with the same batch, so that results do not depend on who asked first.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rfgs.models import machine
from rfgs.models.places import cache_folder
from rfgs.priors import eight_bits
from rfgs.priors.compiled import Program, plain, streams

if TYPE_CHECKING:
    from rfgs.priors.engine import Call

TRACED = 2
"""Samples with which a graph is traced."""
EIGHT_BITS = True
"""Whether networks in bfloat16 may multiply in 8 bits (`rfgs.priors.eight_bits`); what compares the two switches it off."""
KEPT = 8
"""Networks on disk; those that were not used for longest go."""
_DIGEST = 16


@functools.cache
def _core() -> Any:
    """OpenVINO's one entry in this process, which stays.

    Each `Core` gives the thread that makes it a stack for signals and frees that stack when it goes. Where two had been made,
    Python's handler of the next signal, Ctrl-C or a child's end, then ran on freed memory: a segmentation fault.
    """
    import openvino

    return openvino.Core()


class Converted:
    """All programs of one network; not for several threads at once.

    Args:
        network: gives it, for what is not on the disk.
        digest: of all that its output depends on.
        dtype: of its weights.
    """

    def __init__(self, network: Callable[[], Any], digest: str, dtype: torch.dtype) -> None:
        self._network, self._core, self._dtype = network, _core(), dtype
        self._key = _key(digest, dtype)
        self._graphs: dict[str, Any] = {}
        self._programs: dict[tuple[str, int, int], Program] = {}

    def program(self, call: Call, threads: int) -> tuple[Program, bool]:
        """What evaluates calls like this one on so many threads, and whether it was compiled just now."""
        known = self.kept(call, threads)
        if known is not None:
            return known, False
        folder, parts = self._folder(call), streams(call.batch, threads)
        options = self._options(threads, parts)
        graph = self._graph(call, folder)
        graph = graph.clone()  # (for another batch size the graph itself has to stay open)
        graph.reshape({index: list(tensor.shape) for index, tensor in enumerate(call.parts(parts)[0])})
        compiled = self._core.compile_model(graph, "CPU", options)
        _write(folder / _name(call.batch, options), _bytes(compiled.export_model()))
        program = self._programs[call.signature(), call.batch, threads] = Program(compiled, parts)
        return program, True

    def kept(self, call: Call, threads: int) -> Program | None:
        """The same, if it is in memory or on the disk already."""
        key = (call.signature(), call.batch, threads)
        if key not in self._programs:
            folder, parts = self._folder(call), streams(call.batch, threads)
            options = self._options(threads, parts)
            compiled = self._kept(folder, folder / _name(call.batch, options), options)
            if compiled is None:
                return None
            self._programs[key] = Program(compiled, parts)
        return self._programs[key]

    def forget(self, call: Call) -> None:
        """Removes what is kept for calls like this one."""
        shutil.rmtree(self._folder(call), ignore_errors=True)

    def _folder(self, call: Call) -> Path:
        inputs = hashlib.sha256(call.signature().encode()).hexdigest()[:16]
        return cache_folder() / "networks" / f"{self._key}-{inputs}"

    def _options(self, threads: int, streams: int) -> dict[str, Any]:
        return {
            "INFERENCE_PRECISION_HINT": "bf16" if _halves(self._dtype) else "f32",
            # Each thread free to go where a core is.
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,
            "CACHE_MODE": "OPTIMIZE_SIZE",  # The weights stay in network.bin.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": eight_bits.GROUP if in_eight_bits(self._dtype) else 0,
        }

    def _kept(self, folder: Path, blob: Path, options: dict[str, Any]) -> Any:
        """What was compiled before, None if there is nothing that can be used."""
        try:
            content = blob.read_bytes()
            if content[:_DIGEST] != _sum(content[_DIGEST:]) or not _whole(folder):
                return None
            os.utime(folder)
            options = {**options, "WEIGHTS_PATH": str(folder / "network.bin")}
            return self._core.import_model(io.BytesIO(content[_DIGEST:]), "CPU", options)
        except (OSError, RuntimeError):
            return None

    def _graph(self, call: Call, folder: Path) -> Any:
        """The graph for any batch, from the disk or converted now."""
        if str(folder) not in self._graphs:
            if not _whole(folder):
                print(
                    "rfgs: converting the model for OpenVINO (once, about 10 s) ...",
                    file=sys.stderr,
                    flush=True,
                )
                graph = _convert(self._network(), call)
                if in_eight_bits(self._dtype):
                    eight_bits.compress(graph)
                try:
                    self._keep(graph, folder)
                except (OSError, RuntimeError):
                    self._graphs[str(folder)] = (
                        graph  # It works without a disk to write to, only slower to start.
                    )
            if str(folder) not in self._graphs:
                self._graphs[str(folder)] = self._core.read_model(folder / "network.xml")
        return self._graphs[str(folder)]

    def _keep(self, graph: Any, folder: Path) -> None:
        """Writes a graph, whole or not at all, and makes room."""
        import openvino

        part = folder.with_name(f"{folder.name}.{os.getpid()}")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            openvino.serialize(graph, part / "network.xml", part / "network.bin")
            about = {
                "bin": (part / "network.bin").stat().st_size,
                "xml": _sum((part / "network.xml").read_bytes()).hex(),
            }
            (part / "network.json").write_text(json.dumps(about))
            if not _whole(folder):
                shutil.rmtree(folder, ignore_errors=True)
                part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        others = sorted(folder.parent.iterdir(), key=lambda path: path.stat().st_mtime)
        for old in others[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)


_FORMAT = 3
"""Counted up when what is written here changes."""


def in_eight_bits(dtype: torch.dtype) -> bool:
    """Whether a network with weights of this precision multiplies in 8 bits here, as far as its widths allow."""
    return EIGHT_BITS and _halves(dtype) and eight_bits.is_fast()


def _halves(dtype: torch.dtype) -> bool:
    """Whether a network with weights of this precision is evaluated in bfloat16 here."""
    from rfgs.priors.fit import distillation_dtype

    return dtype == torch.bfloat16 and distillation_dtype("cpu") == torch.bfloat16


def knows(digest: str, dtype: torch.dtype) -> bool:
    """Whether the network with this digest was converted before, and what came of it is whole."""
    if machine.version("openvino") is None:
        return False
    return any(_whole(folder) for folder in (cache_folder() / "networks").glob(f"{_key(digest, dtype)}-*"))


def _key(digest: str, dtype: torch.dtype) -> str:
    versions = [machine.version(name) for name in ("openvino", "torch", "diffusers", "transformers")]
    return hashlib.sha256(repr((digest, versions, in_eight_bits(dtype), _FORMAT)).encode()).hexdigest()[:32]


class _Positional(nn.Module):
    """A network as tracing wants it: tensors in, one tensor out."""

    def __init__(self, network: Any, call: Call) -> None:
        super().__init__()
        self._inner, self._names, self._rest = network, list(call.tensors), call.rest

    def forward(self, *tensors: Tensor) -> Tensor:
        forward = type(self._inner).forward  # (not ours, which stands in the network's own place)
        return forward(self._inner, **dict(zip(self._names, tensors, strict=True)), **self._rest)[0]


@torch.no_grad()
def _convert(network: Any, call: Call) -> Any:
    """The graph of a network. Not `openvino.convert_model`, which would send its maker a notice of being used."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = tuple(plain(tensor) for tensor in call.of_batch(TRACED))
    if network.dtype != torch.float32:
        network = deepcopy(network).float()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # Tracing warns of each Python `if`; whether it went well is checked by its result.
        decoder = TorchScriptPythonDecoder(_Positional(network, call).eval(), example_input=example)
        frontend = FrontEndManager().load_by_framework("pytorch")
        return frontend.convert(frontend.load(decoder))


def digest_of(network: Any) -> str:
    """Of everything that the network's graph depends on: its class, its settings, its weights."""
    settings = {name: value for name, value in dict(network.config).items() if name != "_name_or_path"}
    digest = hashlib.blake2b(f"{type(network).__qualname__} {sorted(settings.items())!r}".encode())
    for name, value in network.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _whole(folder: Path) -> bool:
    """Whether a graph is there, and all of it."""
    try:
        about = json.loads((folder / "network.json").read_text())
        size = (folder / "network.bin").stat().st_size
        return about == {"bin": size, "xml": _sum((folder / "network.xml").read_bytes()).hex()}
    except (OSError, ValueError):
        return False


def _name(batch: int, options: dict[str, Any]) -> str:
    """What is compiled is for one processor and one way to run."""
    about = repr((machine.cpu_model(), sorted(options.items())))
    return f"{batch}-{hashlib.sha256(about.encode()).hexdigest()[:16]}.blob"


def _write(blob: Path, content: bytes) -> None:
    if not blob.parent.is_dir():
        return  # The graph could not be written either.
    part = blob.with_suffix(f".{os.getpid()}")
    try:
        part.write_bytes(_sum(content) + content)
        part.replace(blob)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _bytes(exported: Any) -> bytes:
    return exported if isinstance(exported, bytes) else exported.getvalue()


def _sum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()

"""How much GPU memory a run will take, and what fits on a card; no torch here, so that it can be told in a moment.

The figures were measured on the meta device with the real architectures (`rfgs.measure.footprint`; a test measures them
again). They are estimates: nothing here has been run on a GPU yet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

GIB = 1 << 30
CARDS = (8, 12, 16, 24, 48)
"""Sizes of graphics cards that there are presets for, GiB."""


@dataclass(frozen=True)
class Footprint:
    """What the parts of a model take."""

    network: int
    """Parameters and buffers of the network."""
    clip: int
    """Parameters of the CLIP text encoders, together."""
    t5: int
    """Parameters of T5's encoder; 0 where the model has none."""
    sample: int
    """Bytes of activations of one sample of 512 pixels in one evaluation in half precision, without gradient."""
    training: int
    """The same of one training step of a LoRA on the network, with the way back."""
    lora: int
    """Parameters of a LoRA of rank 1; they grow with the rank."""
    camera: int
    """Parameters of what tells the LoRA's student the camera."""
    qwen: int = 0
    """Parameters of Qwen3, where that reads the prompts; 0 where the model has none."""

    @property
    def large_text(self) -> int:
        """Parameters of the text encoder that may not fit on the GPU."""
        return self.t5 + self.qwen


_T5 = 4_762_310_656
_QWEN3_4B = 4_022_468_096
FOOTPRINTS = {
    "sd3": Footprint(2_084_951_104, 818_310_144, _T5, 43 << 20, 185 << 20, 586_752, 2_386_944),
    "sd35-medium": Footprint(2_469_663_936, 818_310_144, _T5, 46 << 20, 229 << 20, 746_496, 2_386_944),
    "sd35-large": Footprint(8_146_280_768, 818_310_144, _T5, 67 << 20, 419 << 20, 1_473_792, 5_958_400),
    "instaflow": Footprint(859_520_964, 123_060_480, 0, 66 << 20, 246 << 20, 199_296, 1_661_440),
    "instaflow-reality": Footprint(859_520_964, 123_060_480, 0, 66 << 20, 246 << 20, 199_296, 1_661_440),
    "sd15": Footprint(859_520_964, 123_060_480, 0, 66 << 20, 246 << 20, 199_296, 1_661_440),
    "sd21": Footprint(865_910_724, 340_387_840, 0, 66 << 20, 207 << 20, 207_488, 1_661_440),
    "flux-dev": Footprint(11_901_408_320, 123_060_480, _T5, 155 << 20, 811 << 20, 1_634_304, 9_492_480),
    "flux-schnell": Footprint(11_891_178_560, 123_060_480, _T5, 130 << 20, 676 << 20, 1_634_304, 9_492_480),
    "flux2-klein": Footprint(3_875_544_576, 0, 0, 194 << 20, 667 << 20, 860_160, 9_492_480, _QWEN3_4B),
    "z-image": Footprint(6_154_908_736, 0, 0, 178 << 20, 880 << 20, 1_044_480, 70_144, _QWEN3_4B),
}
"""By the backend's name."""

AUTOENCODER = 83_819_683
"""Parameters of the autoencoder, float32; those of all families differ by a third of a percent."""
ENCODE_VIEW = 3.08 * GIB
"""Bytes for encoding one view of 512 pixels with the way back, float32."""
ENCODE_FIRST, ENCODE_NEXT = 1.91 * GIB, 0.22 * GIB
"""The same with `slice_views`: for the first view and for each further one."""
DECODE = 0.75 * GIB
"""Bytes for decoding one picture of 512 pixels, float32, as the page's live panel does while a step is computed."""
PROGRAM = 1.0 * GIB
"""Bytes of the CPU's memory without a model: 0.4 GiB are measured for Python, torch and diffusers, the rest is a guess for
the splats, the page and what the C library keeps."""
TRAINED = 16
"""Bytes for each parameter that is trained: itself, its gradient and Adam's two moments, float32."""
NF4 = 9 / 16
"""Bytes of a parameter in 4 bits: half of one, and a scale of four bytes for each 64."""
OFFLOADED = 260_000_000
"""Parameters of an offloaded network that are on the GPU at a time: the largest layer's, and those that are not moved
(a table of positions, above all)."""
CONTEXT = 0.8 * GIB
"""The CUDA context, libraries and gsplat's kernels: a usual figure, not measured here."""
SLACK = 1.1
"""The allocator's rounding, workspaces of convolutions, the splats and their frames."""
USABLE = 0.95
"""The share of a card that a run may plan with: the screen takes some, and cards hold a little less than they say."""


@dataclass(frozen=True)
class Load:
    """What changes how much memory a model takes."""

    lora_rank: int = 0
    """Rank of the LoRA that VSD and RFDS-VSD train; 0 for none."""
    offload: bool = False
    """The network's weights come to the GPU layer by layer."""
    full: bool = False
    """The network is float32 instead of half precision."""
    weights: int | None = None
    """Bytes of the network's weights where they are quantized; None where each number takes what its precision does."""
    samples: int = 2
    """Samples of one view in an evaluation for guidance: with and without the prompt, and two more with Perp-Neg."""
    decode: bool = False
    """Pictures are decoded beside a step, as the page does."""
    encode: bool = True
    """Views go through the encoder; not those of runs that move latents themselves."""
    file: bool = False
    """The network is read from a single file, which the CPU's memory holds on its way to the GPU."""

    def network(self, footprint: Footprint) -> int:
        """Bytes of the network's weights, all of them on the GPU."""
        return (4 if self.full else 2) * footprint.network if self.weights is None else self.weights


@dataclass(frozen=True)
class Estimate:
    """Peak of a run's loop in bytes, and what it is made of."""

    weights: int
    encoder: int
    network: int
    total: int
    decoder: int = 0


def estimate(
    name: str | Footprint,
    *,
    views: int,
    slice_views: bool = False,
    half_encoder: bool = False,
    size: int = 512,
    load: Load = Load(),
) -> Estimate:
    """The loop's peak: weights, encoder with its way back, one guided evaluation or a LoRA's training step of all views.

    Text encoders are not in it: they are freed before the loop, and stay on the CPU where they do not fit.

    Args:
        name: a backend with an entry in `FOOTPRINTS`, or what another model takes (`rfgs.models.weighing.footprint`).
        views: views per step.
        slice_views, half_encoder: see `Plan`.
        size: width and height of the views, pixels.
    """
    footprint, area, width = _of(name), (size / 512) ** 2, 2 if half_encoder else 4
    grain = 4 if load.full else 2
    weights = (grain * OFFLOADED if load.offload else load.network(footprint)) + width * AUTOENCODER
    weights += TRAINED * (load.lora_rank * footprint.lora + footprint.camera) if load.lora_rank else 0
    encoder = ENCODE_FIRST + ENCODE_NEXT * (views - 1) if slice_views else ENCODE_VIEW * views
    encoder *= area * width / 4
    # One by one, at most two samples are evaluated at a time; a LoRA learns from all views at once.
    guided = footprint.sample * (min(load.samples, 2) if slice_views else load.samples * views)
    network = area * max(guided, footprint.training * views if load.lora_rank else 0) * grain / 2
    decoder = DECODE * area * width / 4 if load.decode else 0
    if not load.encode:
        # No way back is kept meanwhile, and what is evaluated and what is decoded take turns.
        encoder, network, decoder = 0, max(network, decoder), 0
    total = CONTEXT + SLACK * (weights + encoder + network + decoder)
    return Estimate(int(weights), int(encoder), int(network), int(total), int(decoder))


def beside_the_encoder(
    name: str | Footprint, *, views: int, slice_views: bool = False, size: int = 512, load: Load = Load()
) -> int:
    """Bytes that a step of the loop needs once the weights are loaded, but for what encodes the views."""
    found = estimate(name, views=views, slice_views=slice_views, size=size, load=load)
    without = estimate(name, views=views, size=size, load=replace(load, lora_rank=0))
    return int(SLACK * (found.network + found.decoder + found.weights - without.weights))


@dataclass(frozen=True)
class Plan:
    """How a run fits on a card."""

    views: int
    """Views per step."""
    slice_views: bool
    """Encode and evaluate the views one by one (`Autoencoder.slice_views`, `Adapter.max_batch`): slower, the same result."""
    half_encoder: bool
    """Encode in half precision: a coarser gradient."""
    t5: bool
    """Whether T5 or Qwen3 embeds the prompts on the GPU; where it does not fit there it does so on the CPU."""
    total: int
    """Estimated peak, bytes."""


def plan(
    name: str | Footprint, memory: int, *, views: int = 4, size: int = 512, load: Load = Load()
) -> Plan | None:
    """The best way to run backend `name` with `memory` bytes of GPU memory; None where nothing fits.

    What changes least comes first: slicing costs time only, half precision a little accuracy, and fewer views a worse asset.
    """
    footprint, grain = _of(name), 4 if load.full else 2
    # The network is not there yet when the prompts are embedded.
    text = 0 if load.offload else grain * (footprint.clip + footprint.large_text)
    t5 = footprint.large_text > 0 and CONTEXT + SLACK * text + 2 * GIB < memory
    while views >= 1:
        for slice_views, half in ((False, False), (True, False), (True, True)):
            total = estimate(
                name, views=views, slice_views=slice_views, half_encoder=half, size=size, load=load
            ).total
            if total <= USABLE * memory:
                return Plan(views, slice_views, half, t5, total)
        views //= 2
    return None


def on_the_cpu(
    name: str | Footprint,
    *,
    views: int = 4,
    size: int = 512,
    device: str = "cpu",
    gpu: int = 0,
    load: Load = Load(),
    t5: bool = True,
) -> int:
    """Bytes of the CPU's memory at the peak of a run: first the text encoders, then the network, never both.

    Args:
        device: "cuda" puts weights straight on the GPU, but for offloaded ones, those of a single file, and a T5 or Qwen3
            that does not fit there.
        gpu: bytes of the GPU's memory.
        t5: whether T5 is loaded.
    """
    footprint, grain = _of(name), 4 if load.full else 2
    large = footprint.large_text if t5 else footprint.qwen
    if device == "cuda" and not load.offload:
        fits = CONTEXT + SLACK * grain * (footprint.clip + large) + 2 * GIB < gpu
        passing = grain * footprint.network if load.file else 0
        return int(PROGRAM + max(0 if fits else 2 * large, passing))
    text, network = grain * (footprint.clip + large), load.network(footprint) + 4 * AUTOENCODER
    if device == "cpu":
        # One by one, as `rfgs.priors.fit.fit_views` has them where memory is short.
        found = estimate(name, views=views, slice_views=True, size=size, load=load)
        network = found.weights + found.encoder + found.network + found.decoder
    return int(PROGRAM + max(text, network))


def _of(name: str | Footprint) -> Footprint:
    return FOOTPRINTS[name] if isinstance(name, str) else name


def least(name: str | Footprint) -> int:
    """Bytes of the smallest card that could run backend `name` at all, one view at a time."""
    return int(estimate(name, views=1, slice_views=True, half_encoder=True).total / USABLE)


def describe(name: str, memory: int) -> str:
    """One line for `rfgs doctor`: how backend `name` would run on a card of `memory` bytes."""
    found = plan(name, memory)
    if found is None:
        line = f"does not fit: wants a GPU of {least(name) / GIB:.0f} GiB at least"
        offloaded = plan(name, memory, load=Load(offload=True))
        if offloaded is None:
            return line
        return f"{line}, or --offload, much slower, with about {offloaded.total / GIB:.1f} GiB"
    line = f"about {found.total / GIB:.1f} GiB with {found.views} view{'s' * (found.views > 1)} per step"
    return line + (", encoded one by one" * found.slice_views) + (" in half precision" * found.half_encoder)

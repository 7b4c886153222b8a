"""The whole way from a sentence or a photograph to the files of a 2D run: image, strip of progress, curve, record."""

from __future__ import annotations

import functools
import io
import json
import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ParamSpec, cast

import torch
from torch import Tensor

from rfgs.distill.clock import Clock
from rfgs.distill.gradients import Skipped
from rfgs.errors import Unwritten, UserError
from rfgs.export.results import Results
from rfgs.export.writing import atomic
from rfgs.flat.curves import write_curve
from rfgs.flat.images import fit, noise_statistics, psnr, read_image, save_image, side_by_side, ssim
from rfgs.flat.jobs import EditJob, ImageJob, InvertJob
from rfgs.flat.particles import optimize
from rfgs.flat.recipes import flowedit_recipe, inversion_recipe, ode_recipe, particle_recipe
from rfgs.flat.settings import ParticleConfig
from rfgs.guidance import Counted, InversionConfig, as_dict, check_values, find_guide, invert
from rfgs.guidance.flowedit import FlowEditConfig, flowedit
from rfgs.guidance.ode import OdeConfig, PathStep, invert_ode, sample_ode
from rfgs.models import machine, memory, weighing
from rfgs.priors import Condition, Prior, load_prior
from rfgs.priors.base import is_small
from rfgs.priors.engine import used
from rfgs.priors.fit import embed_and_release, fit_latents, fit_views, loading
from rfgs.priors.phases import Say
from rfgs.settings import assign, check, declared

Q = ParamSpec("Q")

LOOKS = 6
"""Pictures in the strip of progress."""

Report = Callable[[int, int, str], None]
"""Gets the number of steps done, of all steps, and what is being done."""


@dataclass(frozen=True)
class ImageResult:
    """What a run came to."""

    image: Tensor
    """[B, 3, H, W]: all particles, the reconstruction, or the edit."""
    paths: list[Path]
    record: dict[str, Any]
    """The content of run.json."""


class _Run:
    """Collects what a run's folder gets: looks at the way, one curve, seconds of each part, metrics."""

    def __init__(
        self, job: ImageJob | InvertJob | EditJob, report: Report, stop: Callable[[], bool], say: Say
    ) -> None:
        self.job, self.report, self.stop, self.say = job, report, stop, say
        self.looks: list[Tensor] = []
        self.curve: list[float] = []
        self.settings: dict[str, Any] = {}
        self.metrics: dict[str, float] = {}
        self.counted: Counted | None = None
        self.fitted: str | None = None
        self.skipped = Skipped(torch.device(job.device))
        clock = Clock()
        self.seconds, self.lap = clock.seconds, clock.lap

    def counting(self, prior: Prior) -> Prior:
        """The prior, from now on with its network's evaluations counted."""
        self.counted = Counted(prior)
        return cast(Prior, self.counted)

    def fit(self, prior: Prior, prompts: list[str], *, images: int, side: int, encodes: bool) -> None:
        """Frees the text encoders of a big model, and fits the run into memory; the record says how.

        Args:
            encodes: whether the gradient goes through the image encoder.
        """
        if is_small(prior):
            return
        embed_and_release(prior, prompts)
        known, job = weighing.footprint(self.job.model), self.job
        load = memory.Load(offload=job.offload, full=job.dtype == "float32")
        if encodes:
            reserve, sliced = (
                memory.beside_the_encoder(known, views=images, slice_views=one_by_one, size=side, load=load)
                if known
                else 0
                for one_by_one in (False, True)
            )
            self.fitted = fit_views(prior, views=images, size=side, reserve=reserve, reserve_sliced=sliced)
        else:
            grain = 2 if load.full else 1
            sample = int(known.sample * grain * (side / 512) ** 2) if known else 0
            self.fitted = fit_latents(prior, images=images, size=side, sample=sample)
        self.say(f"first step: {images} image{'s' * (images > 1)} of {side} pixels")

    def step(self, index: int, total: int, what: str, value: Tensor, look: Callable[[], Tensor]) -> None:
        """Notes a step."""
        self.curve.append(float(value))
        due = {math.ceil(k * total / LOOKS) for k in range(1, LOOKS + 1)}
        if index in due:
            self.looks.append(look()[0].cpu())
        self.report(index, total, what)

    def write(
        self,
        folder: Path,
        image: Tensor,
        title: str,
        *,
        before: list[Tensor],
        window: int,
        extra: dict[str, bytes] | None = None,
    ) -> ImageResult:
        """Writes what there is; `extra` has other files by name. Where it went, if not into the folder, is said."""
        image, results = image.cpu(), Results(folder)
        results.write("image.png", lambda path: save_image(side_by_side(list(image)), path))
        results.write("strip.png", lambda path: save_image(side_by_side([*before, *self.looks]), path))
        results.write("curve.png", lambda path: write_curve(path, self.curve, title, window=window))
        for name, content in (extra or {}).items():
            results.write(name, functools.partial(_write, content))
        self.lap("files")
        record = {
            "command": {ImageJob: "image", InvertJob: "invert", EditJob: "edit"}[type(self.job)],
            "job": asdict(self.job),
            "settings": self.settings,
            "dtype": str(getattr(self.counted, "dtype", "")).removeprefix("torch."),
            "engine": used(self.counted),
            **({"memory": self.fitted} if self.fitted else {}),
            "metrics": self.metrics,
            "skipped": int(self.skipped.count),
            "curve": {"title": title, "values": self.curve},
            "seconds": self.seconds,
            "evaluations": self.counted.take() if self.counted else {},
            "versions": machine.versions(),
            "git_commit": machine.git_commit(),
            "cpu": machine.cpu_model(),
            "gpu": torch.cuda.get_device_name() if self.job.device == "cuda" else None,
            "peak_memory": machine.peak_memory(),
        }
        # JSON has no infinity: an image that came back exactly has no finite PSNR.
        text = json.dumps(_plain(record), indent=2, default=str, allow_nan=False)
        results.write("run.json", functools.partial(_write, (text + "\n").encode()))
        elsewhere = results.line()
        if "image.png" in results.lost:
            raise Unwritten(folder / "image.png", results.problem)
        if elsewhere:
            self.say(elsewhere)
        return ImageResult(image, results.paths, record)


def _memory_told(work: Callable[Q, ImageResult]) -> Callable[Q, ImageResult]:
    """Tells GPU memory that runs out as the user's problem, with the remedies."""

    @functools.wraps(work)
    def told(*args: Q.args, **options: Q.kwargs) -> ImageResult:
        try:
            return work(*args, **options)
        except torch.cuda.OutOfMemoryError as error:
            raise UserError(
                "the GPU's memory does not suffice for images of this size; lower --resolution or --particles, "
                "add --offload, or take a smaller --backend"
            ) from error

    return told


@_memory_told
def make_image(
    job: ImageJob,
    folder: Path,
    *,
    report: Report = lambda done, total, what: None,
    stop: Callable[[], bool] = lambda: False,
    say: Say = warnings.warn,
) -> ImageResult:
    """Optimize images of a sentence; image.png has all particles side by side, strip.png the first one's progress."""
    run = _Run(job, report, stop, say)

    def settings(prior: Prior) -> ParticleConfig:
        config = particle_recipe(prior, job.guidance)
        assign(config, check_values(job.settings, type(config), job.guidance))
        return config

    def prompts(prior: Prior) -> list[str]:
        return ["", job.prompt, settings(prior).negative_prompt]

    prior = load_prior(
        job.model,
        find_guide(job.guidance).kind,
        device=job.device,
        prompts=prompts,
        say=say,
        **loading(job, distils_on=job.device),
    )
    config = settings(prior)
    run.settings = as_dict(config)
    side = config.resolution or prior.image_size
    encodes = config.space == "pixels"
    run.fit(prior, prompts(prior), images=config.particles, side=side, encodes=encodes)
    _check_size(prior, torch.full((1, 3, side, side), 0.5).to(job.device))
    prior = run.counting(prior)
    run.lap("startup")
    generator = torch.Generator().manual_seed(job.seed)
    step = None
    for step in optimize(job.prompt, prior, config, generator=generator):
        run.step(step.index, step.total, "image", step.residual, step.images)
        run.skipped.count += step.skipped
        if stop():
            break
    if step is None:
        raise UserError(f"--steps {config.steps}: has to be at least 1; try --steps 400")
    run.lap("steps")
    run.metrics = {"steps_done": step.index, "residual": float(step.residual)}
    return run.write(folder, step.images(), "RMS residual of the guidance", before=[], window=20)


@_memory_told
def invert_photo(
    job: InvertJob,
    folder: Path,
    *,
    report: Report = lambda done, total, what: None,
    stop: Callable[[], bool] = lambda: False,
    say: Say = warnings.warn,
) -> ImageResult:
    """Find the noise of a photograph and sample from it again; image.png is that reconstruction, noise.pt the noise.

    Metrics: PSNR and SSIM of the reconstruction to the photograph as the model gets it (scaled, cut to whole grains),
    the same for the autoencoder alone, which is the best that any inversion can reach, and the noise's statistics.
    """
    run = _Run(job, report, stop, say)
    prior, image, x = _load(run, job, [job.prompt, ""])
    prior = run.counting(prior)
    condition, negative = prior.embed([job.prompt]), prior.embed([""])
    run.lap("startup")
    noise, title = _noise(run, prior, x, condition, negative, job)
    run.lap("inversion")
    config = ode_recipe(prior)
    run.settings["reconstruction"] = asdict(config)
    *_, last = sample_ode(prior, noise, condition, negative, config, finite=run.skipped.finite)
    reconstruction = prior.decode(last.x).cpu()
    run.lap("sampling")
    run.metrics.update(_compare(reconstruction, image, "reconstruction"))
    run.metrics.update(_compare(prior.decode(x).cpu(), image, "autoencoder"))
    run.metrics.update({f"noise_{name}": value for name, value in asdict(noise_statistics(noise)).items()})
    content = io.BytesIO()
    torch.save(noise.cpu(), content)
    window, extra = 20 if job.method == "irfds" else 1, {"noise.pt": content.getvalue()}
    return run.write(folder, reconstruction, title, before=[image[0]], window=window, extra=extra)


@_memory_told
def edit_photo(
    job: EditJob,
    folder: Path,
    *,
    report: Report = lambda done, total, what: None,
    stop: Callable[[], bool] = lambda: False,
    say: Say = warnings.warn,
) -> ImageResult:
    """Bring a photograph under another prompt; strip.png starts with the source.

    irfds and ode find the noise under the source prompt and sample from it under the target; flowedit goes there
    directly. Metrics: PSNR and SSIM between edit and source, which say how much was left as it was.
    """
    run = _Run(job, report, stop, say)
    prior, image, x = _load(run, job, [job.source, job.target, ""])
    prior = run.counting(prior)
    source, target, negative = prior.embed([job.source]), prior.embed([job.target]), prior.embed([""])
    run.lap("startup")
    if job.method == "flowedit":
        config = flowedit_recipe(prior)
        config.steps = job.steps or config.steps
        config.target_scale = config.target_scale if job.guidance_scale is None else job.guidance_scale
        config.strength = config.strength if job.strength is None else job.strength
        _give(config, job)
        run.settings = asdict(config)
        generator = torch.Generator().manual_seed(job.seed)
        path = flowedit(
            prior, x, source, target, negative, config, generator=generator, finite=run.skipped.finite
        )
    else:
        noise, _ = _noise(run, prior, x, source, negative, job)
        run.lap("inversion")
        run.looks, run.curve = [], []
        sampling = ode_recipe(prior)
        usual = 1.0 if getattr(prior, "distilled", False) else 2.0
        sampling.guidance_scale = usual if job.guidance_scale is None else job.guidance_scale
        run.settings["sampling"] = asdict(sampling)
        path = sample_ode(prior, noise, target, negative, sampling, finite=run.skipped.finite)
    for step in path:
        moved = torch.sqrt((step.x0_hat - x).square().mean())
        run.step(step.index, step.total, "edit", moved, _decoder(prior, step.x0_hat))
    edited = prior.decode(step.x).cpu()
    run.lap("sampling")
    run.metrics.update(_compare(edited, image, "edit_to_source"))
    return run.write(folder, edited, "RMS change of the latents", before=[image[0]], window=1)


def _load(run: _Run, job: InvertJob | EditJob, prompts: list[str]) -> tuple[Prior, Tensor, Tensor]:
    """The prior, the photograph fitted to it [1, 3, H, W] on the CPU, and its latents."""
    photo = read_image(job.photo)
    prior = load_prior(job.model, device=job.device, prompts=lambda _: prompts, say=run.say, **loading(job))
    side = job.resolution or prior.image_size
    image = fit(photo, side)
    run.fit(prior, prompts, images=1, side=side, encodes=False)
    return prior, image, _check_size(prior, image.to(job.device))


@torch.no_grad()
def _check_size(prior: Prior, image: Tensor) -> Tensor:
    """The image's latents, after one evaluation that shows whether the network takes their size."""
    x = prior.encode(image)
    try:
        prior.predict(x, x.new_ones(1), prior.embed([""]))
    except ValueError as error:
        size = f"{image.shape[-1]}x{image.shape[-2]}"
        raise UserError(
            f"--resolution: images of {size} pixels are more than {prior.name} takes; "
            f"try --resolution {prior.image_size}"
        ) from error
    return x


def _noise(
    run: _Run,
    prior: Prior,
    x: Tensor,
    condition: Condition,
    negative: Condition,
    job: InvertJob | EditJob,
) -> tuple[Tensor, str]:
    """The noise of latents x, and what the curve shows."""
    if job.method == "ode":
        ode = ode_recipe(prior)
        ode.steps = job.steps or ode.steps
        _give(ode, job)
        run.settings = asdict(ode)
        step: PathStep | None = None
        for step in invert_ode(prior, x, condition, negative, ode, finite=run.skipped.finite):
            run.step(step.index, step.total, "invert", step.x.std(), _decoder(prior, step.x0_hat))
        if step is None:
            raise UserError(f"--steps {ode.steps}: has to be at least 1; try --steps 50")
        return step.x, "standard deviation on the way to the noise"
    config = inversion_recipe(prior)
    config.steps = job.steps or config.steps
    _give(config, job)
    run.settings = asdict(config)
    found = None
    generator = torch.Generator().manual_seed(run.job.seed)
    found_ones = invert(prior, x, condition, config, generator=generator, finite=run.skipped.finite)
    for index, found in enumerate(found_ones, start=1):
        noise, estimate = found
        run.step(index, config.steps, "invert", estimate.residual, _decoder(prior, estimate.x0_hat))
        # Half an optimization is of use, which half a path in time is not: only here Ctrl-C ends early.
        if run.stop():
            break
    if found is None:
        raise UserError(f"--steps {config.steps}: has to be at least 1; try --steps 400")
    return noise.clone(), "RMS residual of iRFDS"


def _give(config: OdeConfig | InversionConfig | FlowEditConfig, job: InvertJob | EditJob) -> None:
    """Sets what a job asks for."""
    assign(config, check(job.settings, declared(type(config))))


def _decoder(prior: Prior, latents: Tensor) -> Callable[[], Tensor]:
    return lambda: prior.decode(latents)


def _compare(image: Tensor, reference: Tensor, name: str) -> dict[str, float]:
    found = {f"{name}_psnr": psnr(image, reference)}
    if min(image.shape[-2:]) >= 11:
        found[f"{name}_ssim"] = ssim(image, reference)
    return found


def _write(content: bytes, path: Path) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value

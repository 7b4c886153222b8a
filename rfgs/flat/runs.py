"""The whole way from a sentence or a photograph to the files of a 2D run: image, strip of progress, curve, record."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from rfgs.errors import UserError
from rfgs.flat.collected import Collected, ImageResult, Report
from rfgs.flat.images import fit, noise_statistics, psnr, read_image, ssim
from rfgs.flat.jobs import EditJob, ImageJob, InvertJob
from rfgs.flat.particles import optimize
from rfgs.flat.recipes import flowedit_recipe, inversion_recipe, ode_recipe, particle_recipe
from rfgs.flat.settings import ParticleConfig
from rfgs.guidance import InversionConfig, as_dict, check_values, find_guide, invert
from rfgs.guidance.flowedit import FlowEditConfig, flowedit
from rfgs.guidance.ode import OdeConfig, PathStep, invert_ode, sample_ode
from rfgs.priors import Condition, Prior, load_prior
from rfgs.priors.fit import loading
from rfgs.priors.phases import Say
from rfgs.settings import assign, check, declared

J_contra = TypeVar("J_contra", ImageJob, InvertJob, EditJob, contravariant=True)


class Work(Protocol[J_contra]):
    """One of the ways below, as it is called."""

    def __call__(
        self,
        job: J_contra,
        folder: Path,
        *,
        report: Report = ...,
        stop: Callable[[], bool] = ...,
        say: Say = ...,
    ) -> ImageResult:
        """Does what the job asks for, and writes it to `folder`.

        Raises:
            UserError: something that cannot be, GPU memory that runs out among it.
        """
        ...


def _work(way: Callable[[Collected, J_contra], ImageResult]) -> Work[J_contra]:
    """Makes a function of a job of one that collects, and tells GPU memory that runs out as the user's problem."""

    @functools.wraps(way)
    def work(job: J_contra, folder: Path, **told: Any) -> ImageResult:
        try:
            return way(Collected(job, folder, **told), job)
        except torch.cuda.OutOfMemoryError as error:
            raise UserError(
                "the GPU's memory is not enough for images of this size; lower --resolution or --particles, "
                "add --offload, or take a smaller --backend"
            ) from error

    return work


@_work
def make_image(run: Collected, job: ImageJob) -> ImageResult:
    """Optimize images of a sentence; image.png has all particles side by side, strip.png the first one's progress."""

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
        say=run.say,
        **loading(job, distills_on=job.device),
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
        if run.stop():
            break
    if step is None:
        raise UserError(f"--steps {config.steps}: has to be at least 1; try --steps 400")
    run.lap("steps")
    run.metrics = {"steps_done": step.index, "residual": float(step.residual)}
    return run.write(step.images(), "RMS residual of the guidance", before=[], window=20)


@_work
def invert_photo(run: Collected, job: InvertJob) -> ImageResult:
    """Find the noise of a photograph and sample from it again; image.png is that reconstruction, noise.pt the noise.

    Metrics: PSNR and SSIM of the reconstruction to the photograph as the model gets it (scaled, cut to whole grains),
    the same for the autoencoder alone, which is the best that any inversion can reach, and the noise's statistics.
    """
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
    return run.write(reconstruction, title, before=[image[0]], window=window, extra=extra)


@_work
def edit_photo(run: Collected, job: EditJob) -> ImageResult:
    """Bring a photograph under another prompt; strip.png starts with the source.

    irfds and ode find the noise under the source prompt and sample from it under the target; flowedit goes there
    directly. Metrics: PSNR and SSIM between edit and source, which say how much was left as it was.
    """
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
    return run.write(edited, "RMS change of the latents", before=[image[0]], window=1)


def _load(run: Collected, job: InvertJob | EditJob, prompts: list[str]) -> tuple[Prior, Tensor, Tensor]:
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
    run: Collected,
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

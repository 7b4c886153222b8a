"""The whole way from a sentence to a run's files: the model, the splats, the loop, the recorder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from rfgs import backends, memory, runs
from rfgs.distill import DistillConfig, Step, distill
from rfgs.errors import UserError
from rfgs.job import KINDS, LORA_GUIDANCES, Job
from rfgs.priors import DiffusionPrior, Prior, load_prior
from rfgs.priors.engine import used
from rfgs.priors.fit import embed_and_release, fit_views, loading
from rfgs.recipes import recipe
from rfgs.recorder import Recorder
from rfgs.splats import Splats, ball, without_haze
from rfgs.view_prompts import SIDES

START_RADIUS = 0.7
"""World units; the object is to fill a ball of radius about 1. What has no splats to begin with, such as a ground, hardly
grows: below high noise a good model sees in the view that there is none, and believes the view. With 0.9 things next to each
other grow together (docs/results.md)."""


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    splats: Splats
    paths: list[Path]
    """The files written, the asset first."""
    record: dict
    """The content of run.json."""


def generate(
    job: Job,
    folder: Path,
    *,
    resume: bool = False,
    on_start: Callable[[DistillConfig, Prior | DiffusionPrior], None] = lambda config, prior: None,
    on_step: Callable[[Step], None] = lambda step: None,
    on_preview: Callable[[Path], None] = lambda path: None,
    stop: Callable[[], bool] = lambda: False,
    began: float | None = None,
) -> Result:
    """Does a job and fills its folder.

    Args:
        folder: claimed for this run (`rfgs.runs.claim_folder`), or that of the run to resume.
        resume: go on from the checkpoint in `folder`; the steps then are the same, bit by bit, as without the break.
        on_start: gets the loop's settings, which may be changed while it runs, and the model, once it is there.
        on_step: called after each step; the next one starts when it returns.
        on_preview: called with each preview that was written.
        stop: asked after each step; True ends the loop, and what there is gets exported.
        began: `time.perf_counter()` at the start of the program, for the record's startup time.

    Raises:
        UserError: the model cannot be loaded, the checkpoint cannot be read, or the GPU's memory does not suffice.
    """
    began = time.perf_counter() if began is None else began
    checkpoint = runs.load_checkpoint(folder) if resume else None
    prior = load_prior(
        job.model, KINDS[job.guidance], device=job.device, **loading(job, distils_on=job.device)
    )
    config = _config(job, prior) if checkpoint is None else DistillConfig(**checkpoint["config"])
    config.steps = job.steps
    fitted = _fit(prior, config, job)
    generator = torch.Generator().manual_seed(job.seed)
    splats = ball(job.splats, START_RADIUS, generator=generator).to(job.device)
    on_start(config, prior)

    recorder = Recorder(folder, job, config, began=began, checkpoint=checkpoint)
    recorder.record["dtype"] = str(getattr(prior, "dtype", "")).removeprefix("torch.")
    recorder.record["engine"] = used(prior)
    if fitted:
        recorder.record["memory"] = fitted
    state = None if checkpoint is None else checkpoint["state"]
    step = None
    try:
        for step in distill(job.prompt, prior, splats, config, generator=generator, resume=state):
            splats = step.splats
            # First the listeners, who may change settings, so that a checkpoint has the changes.
            recorder.timed("viewer", on_step, step)
            preview = recorder.keep(step)
            if preview:
                on_preview(preview)
            if stop():
                break
    except BaseException as error:
        recorder.fail(error)
        if isinstance(error, torch.cuda.OutOfMemoryError):
            if step is not None:
                torch.cuda.empty_cache()
                recorder.write_checkpoint(step)
            raise UserError(_out_of_memory(job, folder)) from error
        raise
    if step is not None:
        recorder.write_checkpoint(step)
    recorder.record["engine"] = used(prior)  # Again: what was tried first may have failed.
    finished = step is not None and step.index == step.total
    splats = without_haze(splats.detach())
    paths = recorder.finish(splats, "finished" if finished else "stopped")
    return Result(splats, paths, recorder.record)


def _config(job: Job, prior: Prior | DiffusionPrior) -> DistillConfig:
    """The prior's recipe with what the job asks for."""
    config = recipe(prior, job.guidance)
    # Spelt out, so that the record of a prompt that is steered has what it was before.
    config.prompt = job.prompt
    config.steps, config.views_per_step = job.steps, job.views_per_step
    config.resolution = job.resolution or prior.image_size
    config.smooth_views, config.perp_neg = job.smooth_views, job.perp_neg
    config.densify, config.max_splats = job.densify, job.max_splats or 2 * job.splats
    for name, value in job.settings().items():
        setattr(config, name, value)
    return config


def _fit(prior: Prior | DiffusionPrior, config: DistillConfig, job: Job) -> str | None:
    """Embed what the views will be told and free the text encoders of big models; what was done to fit the GPU's memory."""
    if prior.vocabulary is not None:
        return None
    prompt = config.prompt or job.prompt
    embed_and_release(prior, [prompt, config.negative_prompt, *[f"{prompt}, {side}" for side in SIDES]])
    name, views, size = backends.name_of(job.model), config.views_per_step, config.resolution
    reserve, sliced = 0, None
    if name in memory.FOOTPRINTS:
        rank = config.lora_rank if config.guidance in LORA_GUIDANCES else 0
        load = memory.Load(rank, job.offload, job.dtype == "float32")
        reserve, sliced = (
            memory.beside_the_encoder(name, views=views, slice_views=one_by_one, size=size, load=load)
            for one_by_one in (False, True)
        )
    return fit_views(prior, views=views, size=size, reserve=reserve, reserve_sliced=sliced)


def _out_of_memory(job: Job, folder: Path) -> str:
    go_on = f"; the last checkpoint is in {folder}" if (folder / runs.CHECKPOINT).exists() else ""
    offload = "" if job.offload or job.guidance in LORA_GUIDANCES else "add --offload, "
    return (
        f"the GPU's memory does not suffice for {job.views_per_step} views of this size with {job.model}; "
        f"lower --views-per-step, --resolution or --splats, {offload}or take a smaller --backend{go_on}"
    )

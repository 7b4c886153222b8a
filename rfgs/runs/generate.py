"""The whole way from a sentence to a run's files: the model, the splats, the loop, the recorder."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from rfgs.distill import DistillConfig, Step, distill, first_splats
from rfgs.distill.recipes import config_for
from rfgs.distill.settings import StartConfig
from rfgs.distill.view_prompts import SIDES
from rfgs.errors import UserError
from rfgs.guidance import find_guide, from_dict, value_of
from rfgs.guidance.share import Ended, Share
from rfgs.models import memory, weighing
from rfgs.priors import Prior, load_prior
from rfgs.priors.base import is_small
from rfgs.priors.engine import used
from rfgs.priors.fit import embed_and_release, fit_views, loading
from rfgs.render import prepare
from rfgs.runs import checkpoints, folders, methods
from rfgs.runs.job import Job
from rfgs.runs.recorder import Recorder
from rfgs.runs.start import read_start
from rfgs.splats import Splats, without_haze


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
    on_first: Callable[[Splats], None] = lambda splats: None,
    on_start: Callable[[DistillConfig, Prior], None] = lambda config, prior: None,
    on_step: Callable[[Step], None] = lambda step: None,
    on_preview: Callable[[Path], None] = lambda path: None,
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda message: warnings.warn(message, stacklevel=2),
    watched: bool = False,
    began: float | None = None,
    share: Share = Share(),  # noqa: B008, it is frozen.
) -> Result:
    """Does a job and fills its folder.

    Of several processes that do it together (`rfgs.guidance.share`) the first one fills the folder, calls what is called here,
    and is asked whether to stop; the others do as it does, and write nothing.

    Args:
        folder: claimed for this run (`rfgs.runs.claims.claim_folder`), or that of the run to resume.
        resume: go on from the checkpoint in `folder`, or begin again where there is none yet; the files then are the same,
            bit by bit, as without the break.
        on_first: gets what the run begins with, as far as that is known before the model is there, which takes a while:
            what it starts from or goes on from, or else a ball of splats like that of its start.
        on_start: gets the loop's settings, which may be changed while it runs, and the model, once it is there.
        on_step: called after each step; the next one starts when it returns.
        on_preview: called with each preview that was written.
        stop: asked after each step; True ends the loop, and what there is gets exported. A KeyboardInterrupt that it raises
            ends the run with a checkpoint and nothing exported.
        say: told, in a line, each phase of a big model's start, and what does not end the run, such as a damaged checkpoint or a
            full disk.
        watched: whether a page decodes pictures beside the steps, for which memory is left.
        began: `time.perf_counter()` at the start of the program, for the record's startup time.
        share: of this process.

    Raises:
        UserError: the model cannot be loaded, the checkpoint cannot be read, gsplat's kernels cannot be compiled, the GPU's
            memory is not enough, or neither the folder nor the system's temporary one takes the asset.
    """
    began = time.perf_counter() if began is None else began
    checkpoint = share.same(checkpoints.load_checkpoint(folder, say) if resume and share.first else None)
    start = None
    if job.start and checkpoint is None:
        # Before the model, which takes longer.
        count = {**job.preset(), **job.settings}["splats"]
        start = read_start(job.start, count, seed=job.seed)
    on_first(_beginning(job, checkpoint, start))
    if not share.first:
        share.same(None)  # What the first one compiles, the others find.
    prepare(job.device, say)
    if share.first:
        share.same(None)

    def settings(prior: Prior) -> DistillConfig:
        if checkpoint is None:
            # The prompt is spelled out, so that the record of one that is steered has what it was before.
            return config_for(prior, job.guidance, job.preset(), {"prompt": job.prompt}, job.settings)
        config = _resumed(checkpoint["config"], folder)
        config.steps = job.settings.get("steps", config.steps)
        return config

    prior = load_prior(
        job.model,
        find_guide(job.guidance).kind,
        device=job.device,
        prompts=lambda empty: _prompts(settings(empty), job),
        say=say,
        **loading(job, distills_on=job.device),
    )
    config = settings(prior)
    fitted = _fit(prior, config, job, watched=watched, share=share)
    generator = torch.Generator().manual_seed(job.seed)
    splats = (first_splats(config, generator) if start is None else start).to(job.device)
    state = None if checkpoint is None else checkpoint["state"]
    steps = distill(job.prompt, prior, splats, config, generator=generator, resume=state, share=share)
    if not share.first:
        try:
            return Result(_follow(steps, splats, share), [], {})
        except torch.cuda.OutOfMemoryError as error:
            raise UserError(_out_of_memory(job, config, folder)) from error
    on_start(config, prior)
    if not is_small(prior):
        compiled = ", for which the network is compiled, which takes minutes" if job.compile else ""
        views = f"{config.views_per_step} view{'s' * (config.views_per_step > 1)}"
        say(f"first step: {views} of {config.resolution} pixels{compiled}")

    recorder = Recorder(folder, job, config, began=began, checkpoint=checkpoint, say=say)
    recorder.record["dtype"] = str(getattr(prior, "dtype", "")).removeprefix("torch.")
    recorder.record["engine"] = used(prior)
    if fitted:
        recorder.record["memory"] = fitted
    if share.processes > 1:
        recorder.record["processes"] = share.processes
    step, done = None, 0
    if state is not None:
        # A run that was killed after its last step makes no further one.
        splats, done = Splats.from_parameters(state["splats"]).to(job.device), state["index"]
    try:
        for step in steps:
            splats, done = step.splats, step.index
            # First the listeners, who may change settings, so that a checkpoint has the changes.
            recorder.timed("viewer", on_step, step)
            preview = recorder.keep(step)
            if preview:
                on_preview(preview)
            try:
                if share.same(stop()):
                    break
            except KeyboardInterrupt:
                recorder.write_checkpoint(step)
                raise
    except BaseException as error:
        recorder.fail(error)
        if isinstance(error, Ended) and step is not None:
            recorder.write_checkpoint(step)
        if isinstance(error, torch.cuda.OutOfMemoryError):
            if step is not None:
                torch.cuda.empty_cache()
                recorder.write_checkpoint(step)
            raise UserError(_out_of_memory(job, config, folder)) from error
        raise
    if step is not None:
        recorder.write_checkpoint(step)
        stop()  # Who has become impatient meanwhile has a checkpoint now.
    recorder.record["engine"] = used(prior)  # Again: what was tried first may have failed.
    splats = without_haze(splats.detach())
    paths = recorder.finish(splats, "finished" if done >= config.steps else "stopped")
    return Result(splats, paths, recorder.record)


def _follow(steps: Iterator[Step], splats: Splats, share: Share) -> Splats:
    """Takes the steps that the first of several processes takes; the splats after the last one."""
    for step in steps:
        splats = step.splats
        if share.same(False):
            break
    return splats.detach()


def _beginning(job: Job, checkpoint: dict[str, Any] | None, start: Splats | None) -> Splats:
    """What is to be seen of a run before its model is there."""
    if checkpoint is not None:
        return Splats.from_parameters(checkpoint["state"]["splats"])
    if start is not None:
        return start
    known = {field.name for field in fields(StartConfig)}
    given = {name: value for name, value in {**job.preset(), **job.settings}.items() if name in known}
    return first_splats(StartConfig(**given), torch.Generator().manual_seed(job.seed))


def _resumed(noted: dict[str, Any], folder: Path) -> DistillConfig:
    """The settings of a checkpoint."""
    try:
        return from_dict(DistillConfig, noted)
    except UserError as error:
        raise UserError(
            f"--resume {folder}: {folders.CHECKPOINT} has settings that this version of rfgs does not take ({error}); "
            "start the run again with --overwrite"
        ) from error


def _fit(prior: Prior, config: DistillConfig, job: Job, *, watched: bool, share: Share) -> str | None:
    """What was done to fit a run with a big model into the GPU's memory; its text encoders are free from here on."""
    if is_small(prior):
        return None
    embed_and_release(
        prior, _prompts(config, job)
    )  # Of a model that was not asked for them while it was loaded.
    known, views, size = (
        weighing.footprint(job.model),
        share.largest(config.views_per_step),
        config.resolution,
    )
    reserve, sliced = 0, None
    if known:
        rank = value_of(config, "lora_rank") if find_guide(config.guidance).trains else 0
        load = methods.load_of(job, job.model, rank, perp_neg=config.perp_neg, decode=watched)
        reserve, sliced = (
            memory.beside_the_encoder(known, views=views, slice_views=one_by_one, size=size, load=load)
            for one_by_one in (False, True)
        )
    return fit_views(prior, views=views, size=size, reserve=reserve, reserve_sliced=sliced)


def _prompts(config: DistillConfig, job: Job) -> list[str]:
    """What the views of a run will be told."""
    prompt = config.prompt or job.prompt
    return [prompt, config.negative_prompt, *[f"{prompt}, {side}" for side in SIDES]]


def _out_of_memory(job: Job, config: DistillConfig, folder: Path) -> str:
    go_on = f"; the last checkpoint is in {folder}" if (folder / folders.CHECKPOINT).exists() else ""
    offload = "" if job.offload or find_guide(config.guidance).trains else "add --offload, "
    return (
        f"the GPU's memory is not enough for {config.views_per_step} views of this size with {job.model}; "
        f"lower --views-per-step, --resolution or --splats, {offload}or take a smaller --backend{go_on}"
    )

"""`rfgs generate`: a sentence becomes a 3D asset."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from rfgs.distill.settings import DistillConfig
from rfgs.runs import forks, launch
from rfgs.runs.job import Job

from .browser import open_page
from .flags import Folder, Text, default, given
from .making import MakesAssets

if TYPE_CHECKING:
    from rfgs.distill import Step
    from rfgs.guidance.share import Share
    from rfgs.priors import Prior
    from rfgs.viewer import Viewer

ALLOWED = (
    "resume",
    "steps",
    "viewer",
    "open",
    "port",
    "host",
    "origin",
    "server_render",
    "keep_viewer",
    "any_words",
    "gpus",
)
"""Flags that go with --resume."""


@dataclass
class Generate(MakesAssets):
    """Make a 3D asset from a sentence.

    Writes splats.ply, a turntable (mp4 and png), previews and run.json into a folder of its own. Ctrl-C stops early
    and still writes what there is, as does the end of a terminal or of a batch job's time; a second Ctrl-C skips that, and
    leaves a checkpoint for --resume.
    """

    prompt: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PROMPT", help_behavior_hint="")] = ""
    """What to make, in quotes, such as "a red cube on a blue cylinder"."""
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Start of all random numbers: the same seed gives the same asset, another seed another one."""
    gpus: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """How many GPUs of this machine share the views of each step, of which there have to be as many at least. Without a GPU it is
    the number of processes on the CPU."""
    output: Annotated[Folder, default("runs/PROMPT-SEED, with a number behind it if that is taken")] = None
    """Folder for everything that the run writes."""
    overwrite: bool = False
    """Replace the files of the run that is in the output folder."""
    resume: Annotated[Folder, default("a new run")] = None
    """Go on with the run in this folder from its last checkpoint. Prompt and settings are taken from there; only
    --steps may be given with it, to make the run longer, and the viewer's flags."""
    viewer: bool = True
    """Serve a page that shows the asset while it forms, to pause, steer and save it. Unwatched, it costs next to
    nothing."""
    open: bool = True
    """Open that page in a browser, if this is a terminal on a machine with a display."""
    port: Annotated[int, tyro.conf.arg(metavar="N")] = 8080
    """Port of that page; the next free one is taken. 0 lets the system choose."""
    host: Annotated[str, tyro.conf.arg(metavar="ADDRESS")] = "127.0.0.1"
    """Network interface of that page; the default can be reached from this machine only, 0.0.0.0 from everywhere, by
    whoever has the token that is printed in its address."""
    origin: Annotated[Text, default("no forwarder")] = None
    """Where a forwarder (GitHub Codespaces, nginx) shows that page, such as https://name.example; it is let in too."""
    server_render: bool = False
    """Open the page with pictures that this machine renders, as on a GPU; of many splats, browsers without one get them by
    themselves."""
    keep_viewer: bool = False
    """Serve the page after the run as well, until Ctrl-C; switches --viewer on."""

    @property
    def watched(self) -> bool:
        return self.viewer or self.keep_viewer

    @property
    def processes(self) -> int:
        return launch.processes()

    def run(self) -> None:
        """Checks all that can be checked without a model, then does the work."""
        from rfgs.models import available
        from rfgs.models.words import Knowledge
        from rfgs.runs import claims, folders, holding

        from . import checks, load_checks

        checks.check_port(self.port)
        if launch.own_rank():
            return self._follow()
        if self.gpus != 1 and not launch.is_one_of_several():
            device = self.device if self.resume is None else folders.device_of(self.resume)
            checks.check_gpus(self.gpus, device)
            raise SystemExit(launch.launch(self.gpus, self.arguments, on_cpu=device == "cpu"))
        if self.resume is None:
            job = self.job(self.prompt, self.seed)
            knowledge = Knowledge.of(job.model)
            remark = knowledge.check(
                {"": job.prompt}, job.settings.get("negative_prompt", ""), any_words=self.any_words
            )
            folder = claims.claim_folder(job.prompt, job.seed, self.output, overwrite=self.overwrite)
        else:
            self._check_only_steps()
            job = folders.job_to_resume(self.resume, steps=given(self, DistillConfig).get("steps"))
            load_checks.check_loading(job, checks.check_device(job.device), job.guidance, source=job.model)
            self._check_room_again(job)
            available.check_source(job.model, t5=job.t5 != "drop", parts=job.parts)
            folder = self.resume
            # What was begun is resumed, whatever its words.
            remark = Knowledge.of(job.model).remark(job.prompt, job.settings.get("negative_prompt", ""))
        try:
            if self.resume is None:
                folders.note_job(folder, job)
            self._generate(job, folder, remark)
        except BaseException:
            if self.resume is None:
                claims.leave(folder)
            raise
        finally:
            holding.release(folder)

    def _check_room_again(self, job: Job) -> None:
        """That there is memory for a run that goes on; how it is loaded is settled, so that no other flag can help."""
        from rfgs.errors import UserError

        from . import load_checks

        try:
            load_checks.check_job_room(job, job.model, processes=self.processes, watched=self.watched)
        except UserError as error:
            wanted = str(error).partition(";")[0]
            raise UserError(
                f"--resume {self.resume}: {wanted}; end what else uses it, or go on with it on a larger machine"
            ) from error

    def _check_only_steps(self) -> None:
        from rfgs.errors import UserError

        others = [f"--{name.replace('_', '-')}" for name in self.typed if name not in ALLOWED]
        if self.prompt:
            others.insert(0, "a prompt")
        if others:
            raise UserError(
                f"--resume {self.resume}: goes on with that run's own settings, so {others[0]} cannot be given; "
                f"leave it out, or start a new run without --resume"
            )

    def _generate(self, job: Job, folder: Path, remark: str) -> None:
        # From here on it is seconds and no longer milliseconds: the viewer, torch, the model, the kernels.
        from rfgs.models import distilled

        from .console import Progress, StopOnInterrupt, print_result

        with ExitStack() as stack:
            # Nothing of what is imported and loaded is garbage; looking for some takes 0.5 s of a draft's 6.
            gc.disable()
            stack.callback(gc.enable)
            progress = stack.enter_context(Progress())
            viewer = self._viewer(job, folder, progress.say) if self.watched else None
            if viewer:
                stack.enter_context(viewer)
                progress.say(f"viewer: {viewer.url}")
                if self.open:
                    open_page(viewer.url)
            progress.say(f'making "{job.prompt}" with {job.model} on the {job.device}; writing to {folder}')
            for line in (remark, distilled.remark(job.model, job.settings.get("guidance_scale"))):
                if line:
                    progress.say(line)
            from rfgs.runs.generate import generate
            from rfgs.runs.holding import release

            share = _share(stack)
            share.same((job, folder, self.resume is not None))
            interrupt = StopOnInterrupt(
                progress.say, viewer.gate.stop if viewer else lambda: None, saves=True
            )

            def on_start(config: DistillConfig, prior: Prior) -> None:
                if job.offload:
                    gc.collect()  # Text encoders that have done their work are held by cycles with the hooks that it puts on.
                if viewer:
                    viewer.start(config, prior)
                # Before this there is nothing to export, so that Ctrl-C quits at once.
                loop.enter_context(interrupt)

            def on_step(step: Step) -> None:
                if not gc.isenabled():
                    # After the first step, which loads the rasterizer. What is there now stays.
                    gc.freeze()
                    gc.enable()
                progress.show(step)
                if viewer:
                    viewer.update(step)

            with ExitStack() as loop:
                result = generate(
                    job,
                    folder,
                    resume=self.resume is not None,
                    on_first=viewer.show if viewer else lambda splats: None,
                    on_start=on_start,
                    on_step=on_step,
                    on_preview=lambda path: progress.say(f"preview: {path}"),
                    stop=lambda: interrupt.stop() or (viewer is not None and viewer.stop_requested),
                    say=progress.say,
                    watched=viewer is not None,
                    began=forks.began(),
                    share=share,
                )
            progress.close()
            print_result(result, folder)
            release(folder)
            if viewer:
                viewer.finish(result.paths, result.splats)
                if self.keep_viewer:
                    progress.say(f"the page stays at {viewer.url} until Ctrl-C")
                    viewer.wait()

    def _follow(self) -> None:
        """Does what the first of several processes does, and says and writes nothing; what goes wrong, the first one tells."""
        launch.ignore_signals()
        with (
            open(os.devnull, "w") as nowhere,
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
            ExitStack() as stack,
        ):
            from rfgs.errors import UserError
            from rfgs.runs.generate import generate

            share = _share(stack)
            try:
                job, folder, resume = share.same((Job(""), Path(), False))
                generate(job, folder, resume=resume, say=lambda line: None, share=share)
            except UserError as error:
                share.tell(error)
                raise SystemExit(2) from error
            except BaseException as error:
                share.tell(error)
                raise

    def _viewer(self, job: Job, folder: Path, say: Callable[[str], None]) -> Viewer | None:
        from rfgs.errors import UserError
        from rfgs.viewer import Viewer

        about = {"prompt": job.prompt, "backend": job.model, "guidance": job.guidance, "seed": str(job.seed)}
        try:
            return Viewer(
                self.host,
                self.port,
                about=about,
                origin=self.origin,
                server_render=self.server_render or None,
                any_words=self.any_words,
                folder=folder,
            )
        except Exception as problem:
            # An address that somebody asked for is theirs to mend. A machine without a network of its own, such as
            # a sandbox, makes assets all the same.
            if isinstance(problem, UserError) and (self.host != Generate.host or self.origin is not None):
                raise
            say(f"no page: {problem}")
            return None


def _share(stack: ExitStack) -> Share:
    """This process's share of the run, until the stack ends."""
    from rfgs.guidance import share

    stack.callback(share.leave)
    return share.join()

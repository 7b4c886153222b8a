"""`rfgs t3bench`: assets judged by T3Bench's protocol."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .flags import Folder, Text, default


@dataclass
class T3Bench:
    """Judge assets by T3Bench's protocol: 810 views of each, ImageReward's verdict on every one, one figure.

    Stop it whenever you like: the same command goes on with what is missing, and
    several may work on one table at once.
    """

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PATH")]
    """Folder with runs of `rfgs generate` in it, or one that `rfgs bench` filled; or a table, a line PROMPT<tab>FILE for each
    asset of another program."""
    prompts: Annotated[Folder, default("the prompts that assets were made of, as one set")] = None
    """Folder with T3Bench's prompt_single.txt, prompt_surr.txt and prompt_multi.txt, which are not part of rfgs. A prompt without
    an asset counts as black pictures, as in T3Bench."""
    scorer: Annotated[Text, default("ImageReward, from the model hub")] = None
    """Folder with ImageReward.pt and BERT's vocab.txt; or module:function, which gets pictures [B, 3, H, W] in [0, 1] and a
    prompt, and gives B numbers."""
    captioner: Annotated[Text, default("no alignment")] = None
    """For the other half, alignment: folder of a model that puts pictures into words, such as BLIP-2, or module:function, which
    gets pictures and gives a text for each."""
    judge: Annotated[Text, default("no alignment")] = None
    """Folder of a language model that gives points for the words, or module:function, which gets a question and gives the
    answer. Needs --captioner; what comes of both is not comparable to published figures."""
    fit: bool = False
    """Center and scale each asset first, as T3Bench does with meshes; otherwise it is judged where it lies."""
    output: Annotated[Folder, default("PATH, or beside the table")] = None
    """Folder of the results: t3bench.jsonl, with the scores of all views of each asset, and t3bench.md."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes an NVIDIA GPU if there is one."""

    def run(self) -> None:
        """Judges what is not judged yet, then reports."""
        from rfgs.errors import UserError
        from rfgs.measure import t3assets

        from . import checks

        if (self.captioner is None) != (self.judge is None):
            raise UserError("alignment needs --captioner and --judge; give both, or leave both out")
        assets = t3assets.find_assets(self.source)
        sets = t3assets.own_prompts(assets) if self.prompts is None else t3assets.read_sets(self.prompts)
        chosen = t3assets.chosen(assets, sets)
        device = checks.check_device(self.device)

        from rfgs.export.writing import atomic, made
        from rfgs.measure import captions, t3work

        def say(line: str) -> None:
            print(line, flush=True)

        output = self.output or (self.source if self.source.is_dir() else self.source.parent)
        table = made(output) / t3work.TABLE
        scorer, name = t3work.load_scorer(self.scorer, device=device)
        both = self.captioner is not None and self.judge is not None
        means = t3work.Means(
            scorer,
            name,
            captions.load_captioner(self.captioner, device=device) if self.captioner and both else None,
            captions.load_judge(self.judge, device=device) if self.judge and both else None,
            f"{self.captioner} and {self.judge}" if both else "",
            self.fit,
            device=device,
        )
        t3work.judge_all(chosen, means, table, say)
        text = t3work.report(chosen, means, table)
        with atomic(table.with_suffix(".md")) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
        print(f"\n{text}\n\nwrote {table} and {table.with_suffix('.md')}")

"""The exact prior: no network, but the tiny world's own pictures in closed form. What a perfect model of them would do.

Where the pictures x that a prompt may mean are known, a rectified flow's best velocity is v = (x_t - E[x | x_t]) / t, and the
expectation is a sum over them (Lipman et al. 2023, theorem 1): over views that the prompt's words allow, sizes, looks that
it leaves open, and greys behind. The empty prompt is a mixture of scenes of the whole world: of a fixed sample of them.
Latents are those of `tiny-sd3`, whose encoder is linear.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rfgs.errors import UserError
from rfgs.priors.adapter import sample_flow
from rfgs.priors.autoencoder import Autoencoder
from rfgs.priors.base import Condition, Recipe
from rfgs.priors.flow import Flow
from rfgs.priors.parts import Setup
from rfgs.tinyworld.album import Grid, album, sample_album
from rfgs.tinyworld.language import VIEWS, UnknownThing, parse, vocabulary
from rfgs.tinyworld.mixture import Pictures, latent_parts, mixture_mean
from rfgs.tinyworld.pictures import IMAGE_SIZE, thing_colors
from rfgs.tinyworld.scenes import Scene
from rfgs.tinyworld.shapes import by_shape

EVERYTHING = 384
"""Pictures that stand for the whole world, each in LOOKS colorings."""
LOOKS = 12


class ExactPrior(Flow):
    """A `Prior` that knows the answer.

    A condition's only token says which prompt it is, and how likely each side is: one of them, or all as training shows
    them. So mixtures of conditions of one prompt (`rfgs.distill.view_prompts.mixed`) are mixtures of its sides.
    """

    image_size = IMAGE_SIZE
    time_shift = 1.0
    # Its velocity is what guidance tries to come near to, so that guidance has nothing to add to a picture. But the views of an
    # object it makes choose one look: without it "a mug", of eight colors, came to nothing. docs/noise.md.
    recipe = Recipe(
        splats={
            "guidance_scale": 2.0,
            "final_guidance_scale": 1.0,
            # Unlike a trained one it does not err at low noise, where things get sharp: docs/noise.md.
            "noise_range": (0.95, 0.99),
            "final_noise_range": (0.5, 0.6),
            "noise_curve": 2.0,
            "opaque_weight": 1.0,
        },
        images={"guidance_scale": 1.0},
        edits={"source_scale": 1.0, "target_scale": 1.0},
    )

    def __init__(
        self, name: str, autoencoder: Autoencoder, device: torch.device, grid: Grid | None = None
    ) -> None:
        """`grid`: the views and sizes of the pictures; None takes those that lose nothing."""
        self.name, self.autoencoder, self.device = name, autoencoder, device
        self.grid = grid or Grid()
        self.dtype = torch.float32
        self.vocabulary: frozenset[str] | None = frozenset(vocabulary())
        self._prompts: list[tuple[Scene, ...]] = [()]
        self._number = functools.cache(self._find_number)
        self._pictures = functools.cache(self._make_pictures)

    @classmethod
    def load(cls, source: str, *, name: str, setup: Setup) -> ExactPrior:
        """`source` is the folder of the model whose autoencoder makes the latents."""
        return cls(name, Autoencoder.load(source, device=setup.device), setup.device)

    def embed(self, prompts: Sequence[str]) -> Condition:
        """Tokens [B, 1, 6]: the number of what a prompt means, and the shares of VIEWS, all 0 where no side is said.

        Raises:
            UserError: a prompt that names what is not of this world.
        """
        rows = []
        for prompt in prompts:
            text = prompt.rstrip(" .")
            side = [float(text.endswith(view)) for view in VIEWS]
            rows.append([float(self._number(text)), *side])
        return Condition(torch.tensor(rows, device=self.device)[:, None])

    def _find_number(self, text: str) -> int:
        if text.removesuffix(next((view for view in VIEWS if text.endswith(view)), "")).strip(" ,") == "":
            return 0
        try:
            looks = tuple(parse(text).looks())
        except UnknownThing as unknown:
            raise UserError(
                f"{unknown.noun!r}: is nothing that {self.name} knows, which has the tiny world's own pictures and no others; "
                'name one of its things, such as "a red mug"'
            ) from unknown
        if looks not in self._prompts:
            self._prompts.append(looks)
        return self._prompts.index(looks)

    def encode(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [0, 1] to latents [B, 16, H/8, W/8]."""
        return self.autoencoder.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, 16, h, w] to images [B, 3, 8h, 8w] in [0, 1]."""
        return self.autoencoder.decode(latents)

    @torch.no_grad()
    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """(x_t - E[x | x_t]) / t, float32; a prompt that comes up for the first time takes seconds.

        Raises:
            UserError: latents of another size than the pictures'.
        """
        side = self.image_size // self.autoencoder.factor
        if x_t.shape[-2:] != (side, side):
            raise UserError(
                f"{self.name}: has pictures of {self.image_size}x{self.image_size} pixels only, "
                f"and not of {8 * x_t.shape[-1]}x{8 * x_t.shape[-2]}; leave --resolution out"
            )
        x, t = x_t.float().flatten(1), t.to(x_t.device, torch.float32)
        means = torch.empty_like(x)
        asked = condition.tokens[:, 0].tolist()
        for row in dict.fromkeys(map(tuple, asked)):
            mine = [i for i, other in enumerate(asked) if tuple(other) == row]
            sides = dict(zip(VIEWS, row[1:], strict=True))
            means[mine] = mixture_mean(self._pictures(round(row[0])), x[mine], t[mine], sides)
        return ((x - means) / t[:, None]).reshape(x_t.shape)

    def pictures(self, prompt: str) -> list[Pictures]:
        """All that a prompt may show from any side, one block for each shape.

        Raises:
            UserError: as `embed`.
        """
        return self._pictures(self._number(prompt))

    def _make_pictures(self, number: int) -> list[Pictures]:
        """All pictures of a prompt: one block for each shape that it may mean."""
        kernel, bias = self._encoder()
        if number == 0:
            return [
                self._block(*latent_parts(sample, kernel, bias), colors, sample.words, sample.chances)
                for sample, colors in sample_album(EVERYTHING, LOOKS, self.grid.supersample)
            ]
        blocks = []
        for shape, looks in by_shape(list(self._prompts[number])).items():
            shown = album(shape, self.grid)
            colors = np.stack([thing_colors(scene) for scene in looks])[None]
            blocks.append(self._block(*latent_parts(shown, kernel, bias), colors, shown.words, shown.chances))
        return blocks

    def _block(
        self, parts: Tensor, own: list[int], colors: np.ndarray, words: Sequence[str], chances: np.ndarray
    ) -> Pictures:
        chosen = torch.from_numpy(colors).flatten(2)[..., own]
        return Pictures(
            parts.to(self.device), chosen.to(self.device), words, torch.from_numpy(chances).to(self.device)
        )

    def _encoder(self) -> tuple[Tensor, Tensor]:
        """Kernel [16, 3, 8, 8] and bias [16] from images to latents, on the CPU."""
        with torch.no_grad():
            count = 3 * 64
            pixels = torch.cat([torch.zeros(1, count), torch.eye(count)]).reshape(-1, 3, 8, 8).to(self.device)
            latents = self.autoencoder.encode(pixels).cpu()[..., 0, 0]
        return (latents[1:] - latents[0]).T.reshape(-1, 3, 8, 8), latents[0]

    def sample(
        self, condition: Condition, negative: Condition,
        *, steps: int, guidance_scale: float, generator: torch.Generator, size: int | None = None,
    ) -> Tensor:  # fmt: skip
        """Images [B, 3, 128, 128] in [0, 1] by Euler steps, `steps` of them."""
        side = (size or self.image_size) // self.autoencoder.factor
        x = torch.randn((len(condition), 16, side, side), generator=generator).to(self.device)
        times = torch.linspace(1, 0, steps + 1)
        return self.decode(sample_flow(self, x, times, condition, negative, guidance_scale))

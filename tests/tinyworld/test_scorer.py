"""The scorer's arithmetic against closed forms, its training on a thimble of pictures, and the model that ships."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rfgs.errors import UserError
from rfgs.render import render
from rfgs.render.cameras import orbit, view_words
from rfgs.splats import SH_C0, Splats, ball
from rfgs.tinyworld import scorer_views
from rfgs.tinyworld.asset_views import asset_views, icosphere
from rfgs.tinyworld.language import caption, parse, vocabulary
from rfgs.tinyworld.placing import build
from rfgs.tinyworld.prompts import held_out_scenes
from rfgs.tinyworld.scenes import Scene, Thing, draw_scene
from rfgs.tinyworld.scorer import (
    AZIMUTHS,
    ELEVATIONS,
    AssetScore,
    Scorer,
    load_scorer,
    nearest,
    prepare,
    rank,
    seen_from,
    smooth,
    word_ids,
)
from rfgs.tinyworld.scorer_labels import LABELS, class_numbers
from rfgs.tinyworld.scorer_net import ScorerNet
from rfgs.tinyworld.scorer_views import over_grey, world_views
from rfgs.tinyworld.tracer import render_scene
from training import scorer_check, scorer_data
from training.scorer_check import fit_splats, rank_correlation
from training.scorer_data import blur, degrade
from training.train_scorer import NEGATIVES, almost, contrastive_loss, draw_texts, export, new_net, train

SHIPPED = Path(__file__).parents[2] / "assets" / "scorer"
MUG = Scene((Thing("mug", "red"),))
PAIR = Scene((Thing("cube", "red"), Thing("cone", "blue", "striped")), relation="on")


# --- arithmetic -------------------------------------------------------------------------------------------------------


def test_rank_counts_better_prompts_and_half_of_the_ties() -> None:
    similarities = torch.tensor([[0.9, 0.1, 0.2], [0.1, 0.5, 0.9], [0.3, 0.3, 0.1], [0.4, 0.4, 0.4]])
    assert rank(similarities, 0).tolist() == [1, 3, 1.5, 2]
    assert rank(similarities, 2).tolist() == [2, 1, 3, 2]


def test_smoothing_averages_with_the_neighbors_round_by_round() -> None:
    chain = torch.tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=torch.bool)
    values = torch.tensor([[6.0], [0.0], [0.0]])
    assert torch.equal(smooth(values, chain, 0), values)
    assert smooth(values, chain, 1)[:, 0].tolist() == pytest.approx([3, 2, 0])
    assert smooth(values, chain, 2)[:, 0].tolist() == pytest.approx([2.5, 5 / 3, 1])
    assert smooth(torch.full((3, 2), 0.7), chain, 5).flatten().tolist() == pytest.approx([0.7] * 6)


@pytest.mark.parametrize("subdivisions, vertices, edges", [(0, 12, 30), (1, 42, 120), (2, 162, 480)])
def test_icosphere_has_eulers_numbers(subdivisions: int, vertices: int, edges: int) -> None:
    points, joined = icosphere(subdivisions)
    assert len(points) == vertices and int(joined.sum()) == 2 * edges
    assert torch.equal(joined, joined.T) and not joined.diagonal().any()
    assert joined.sum(dim=1).unique().tolist() == ([5] if subdivisions == 0 else [5, 6])
    assert torch.allclose(points.norm(dim=1), torch.ones(vertices))
    assert torch.allclose(points.mean(dim=0), torch.zeros(3), atol=1e-6)


def test_an_asset_is_seen_from_all_sides_but_not_from_below() -> None:
    cameras, neighbors = asset_views(32)
    assert len(cameras) == 96 and neighbors.shape == (96, 96) and neighbors.any(dim=1).all()
    assert cameras.elevations.min() >= -10.01 and cameras.elevations.max() <= 80.01
    counts = torch.histc(cameras.azimuths, bins=4, min=-180, max=180)
    assert counts.min() >= 20  # Of 96, in each quarter.


def test_words_are_counted_from_one_and_capitals_and_commas_do_not_matter() -> None:
    ids = word_ids(["A red mug, front view", "mug"], ["a", "front", "mug", "red", "view"])
    assert ids.tolist() == [[1, 4, 3, 2, 5], [3, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    "text, says", [("a red dragon", "unknown dragon"), ("", "0 words"), ("mug " * 33, "33 words")]
)
def test_a_prompt_that_cannot_be_read_is_refused(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        word_ids([text], vocabulary())


def test_images_are_cut_to_a_square_and_resampled() -> None:
    image = torch.zeros(1, 3, 96, 160)
    image[..., 32:128] = torch.linspace(-0.5, 1.5, 96)
    small = prepare(image)
    assert small.shape == (1, 3, 64, 64) and small.min() == 0 and small.max() == 1
    row = (torch.arange(64) + 0.5) / 64 * 96 - 0.5
    assert torch.allclose(small[0, 0, 5, 20:44], (-0.5 + row * 2 / 95)[20:44], atol=0.01)
    with pytest.raises(UserError, match="expected"):
        prepare(image[0])


def test_contrastive_loss_is_clips_where_each_picture_has_one_text() -> None:
    generator = torch.Generator().manual_seed(0)
    pictures, texts = (F.normalize(torch.randn(n, 8, generator=generator), dim=1) for n in (4, 6))
    fits = torch.eye(4, 6, dtype=torch.bool)
    logits, right = 5 * pictures @ texts.T, torch.arange(4)
    expected = (F.cross_entropy(logits, right) + F.cross_entropy(logits[:, :4].T, right)) / 2
    assert contrastive_loss(pictures, texts, fits, torch.tensor(5.0)).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_contrastive_loss_shares_the_target_among_all_that_fit() -> None:
    # Two equal pictures with two equal texts: the best that can be is to give each half, which costs ln 2.
    same = torch.eye(1, 4).expand(2, 4)
    loss = contrastive_loss(same, same, torch.ones(2, 2, dtype=torch.bool), torch.tensor(30.0))
    assert loss.item() == pytest.approx(np.log(2), rel=1e-5)


def test_rank_correlation_is_spearmans() -> None:
    assert rank_correlation((0, 1, 2, 3), [9.0, 5.0, 4.9, 1.0]) == pytest.approx(-1)
    assert rank_correlation((0, 1, 2), [1.0, 1.0, 1.0]) == 0
    # scipy.stats.spearmanr([0, 1, 2, 3], [3, 1, 1, 2])
    assert rank_correlation((0, 1, 2, 3), [3.0, 1.0, 1.0, 2.0]) == pytest.approx(-0.316228, abs=1e-5)


def test_blur_widens_a_point_by_sigma_and_leaves_flat_pictures_alone() -> None:
    point = torch.zeros(1, 3, 33, 33)
    point[..., 16, 16] = 1
    blurred = blur(point, 2.0)[0, 1]
    offsets = torch.arange(33.0) - 16
    assert blurred.sum().item() == pytest.approx(1, abs=1e-5)
    assert (blurred.sum(dim=0) * offsets**2).sum().item() == pytest.approx(4, rel=0.03)
    assert (blurred.sum(dim=1) * offsets**2).sum().item() == pytest.approx(4, rel=0.03)
    assert torch.allclose(blur(torch.full((1, 3, 9, 9), 0.3), 3.0), torch.full((1, 3, 9, 9), 0.3))
    assert blur(point, 0.0) is point


# --- training data and training ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt_set", ["single", "surroundings", "multiple"])
def test_almost_the_same_scene_is_another_scene_of_as_many_things(prompt_set: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        scene = draw_scene(rng, prompt_set, bool(rng.integers(2)))
        other = almost(scene, rng)
        assert other != scene and len(other.things) == len(scene.things)
        assert (other.relation is None) == (scene.relation is None)
        # One respect: at most one attribute is another one, or the two things have exchanged what they are.
        before = [value for thing in scene.things for value in vars(thing).values()]
        after = [value for thing in other.things for value in vars(thing).values()]
        changes = sum(x != y for x, y in zip(before, after, strict=True))
        assert changes <= 1 or sorted(before) == sorted(after)


def test_texts_fit_the_pictures_of_their_scene_unless_they_name_another_view() -> None:
    scenes, views = [MUG, PAIR, MUG], ["front view", "back view", "back view"]
    for seed in range(30):
        texts, fits = draw_texts(scenes, views, np.random.default_rng(seed))
        assert len(texts) == 3 * (1 + NEGATIVES) and fits.shape == (3, len(texts))
        assert fits[:, :3].diagonal().all() and not fits[1, [0, 2]].any() and not fits[[0, 2], 1].any()
        assert fits[2, 0] == ("view" not in texts[0]) and fits[0, 2] == ("view" not in texts[2])
        assert all(word in vocabulary() for text in texts for word in text.replace(",", "").split())


def test_an_open_text_fits_every_picture_that_it_may_mean() -> None:
    """Only an orange and a grey cat are meant by "a cat"; which of them is on the picture the text does not tell."""
    orange, grey, black = (Scene((Thing("cat", color),)) for color in ("orange", "grey", "black"))
    seen = set()
    for seed in range(40):
        texts, fits = draw_texts([orange, grey, black], ["front view"] * 3, np.random.default_rng(seed))
        for column, text in enumerate(texts):
            meaning = parse(text.partition(",")[0])
            view = "view" not in text or "front view" in text
            allowed = [scene in meaning.looks() and view for scene in (orange, grey, black)]
            assert fits[:, column].tolist() == allowed, text
            seen.add(tuple(allowed))
    assert {(True, True, False), (True, False, False), (False, True, False), (False, False, True)} <= seen


def test_classes_are_of_the_first_thing_and_of_the_second_where_there_is_one() -> None:
    def told(scene: Scene, view: str, direction: tuple[float, float] | None = None) -> dict[str, str | None]:
        numbers = class_numbers(scene, view, direction)
        return {n: None if i < 0 else LABELS[n][i] for n, i in zip(LABELS, numbers, strict=True)}

    assert told(Scene((Thing("house", "plaster"),)), "back view")["color"] == "plaster"

    pair = dict(
        kind="cube", color="red", finish="plain", second_kind="cone", second_color="blue", relation="on"
    )
    unknown = dict(azimuth=None, elevation=None)
    assert told(PAIR, "back view") == {**pair, "ground": "none", "view": "back view", **unknown}
    sand = Scene(MUG.things, ground="sand")
    single = dict(
        kind="mug", color="red", finish="plain", second_kind=None, second_color=None, relation="none"
    )
    seen = {"ground": "sand", "view": "overhead view", "azimuth": "-7.5", "elevation": "72.5"}
    assert told(sand, "overhead view", (-14.0, 71.0)) == {**single, **seen}


OLDER = {**LABELS, "kind": ("cube", "mug"), "color": ("blue", "red"), "second_kind": ("cone", "cube", "mug")}


def test_an_older_scorer_has_its_own_numbers_and_none_for_what_it_does_not_know() -> None:
    older = Scorer(new_net(), ["a", "blue", "cube", "mug", "red"], OLDER)

    def numbers(scene: Scene) -> dict[str, int]:
        return dict(zip(OLDER, class_numbers(scene, "back view", labels=older.labels), strict=True))

    known = numbers(MUG)
    assert (known["kind"], known["color"], known["second_kind"]) == (1, 1, -100)
    assert older.unknown(MUG) == [] and older.unknown_words(["a red mug", "A blue cube, red"]) == []
    cat = Scene((Thing("cat", "red"), Thing("cone", "blue")), "on")
    assert older.unknown(cat) == ["cat", "cone"]  # The second may be a cone, and the main thing not.
    assert (numbers(cat)["kind"], numbers(cat)["second_kind"], numbers(cat)["color"]) == (-100, 0, 1)
    assert older.unknown(Scene((Thing("mug", "wooden", "dotted"),))) == ["wooden"]
    assert older.unknown_words(["a red cat, front view", "the mug"]) == ["cat", "front", "the", "view"]
    # "A mug" may be of a color that it has no class for, and what the world does not have is a matter of words alone.
    prompts = ["a red mug", "a small red mug", "a mug", "a red cat", "a blue red"]
    assert older.known(prompts) == ["a red mug", "a blue red"]


def test_what_an_older_scorer_does_not_know_is_left_out_and_told_in_a_line(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, scenes, *_ = scorer_data.load_pictures(pictures)
    rare = scenes[0].things[0].kind
    labels = {**LABELS, "kind": tuple(kind for kind in LABELS["kind"] if kind != rare)}
    words = [word for word in vocabulary() if word != "a"]
    older = Scorer(ScorerNet(len(words), {n: len(c) for n, c in labels.items()}), words, labels)
    figures = scorer_check.classifier_figures(older, pictures, seed=0)
    lost = sum(any(thing.kind == rare for thing in scene.things) for scene in scenes)
    assert figures["pictures"] == 16 - lost < 16
    assert figures["left out"] == f"{lost} pictures: the scorer does not know {rare}"
    assert scorer_check.left_out("prompts", [[], []]) == {}
    assert scorer_check.left_out("prompts", [["cat"], [], ["brown", "cat"]]) == {
        "left out": "2 prompts: the scorer does not know brown, cat"
    }


def test_angles_fall_into_the_class_around_them() -> None:
    assert nearest(179.9, AZIMUTHS) == "172.5" and nearest(-179.9, AZIMUTHS) == "-172.5"
    assert nearest(1.0, AZIMUTHS) == "7.5" and nearest(361.0, AZIMUTHS) == "7.5"
    assert nearest(-10.0, ELEVATIONS) == "-7.5" and nearest(84.9, ELEVATIONS) == "82.5"


def test_a_side_is_right_up_to_one_class_beyond_its_border() -> None:
    def said(azimuth: float, elevation: float) -> dict[str, torch.Tensor]:
        pairs = {"azimuth": (azimuth, AZIMUTHS), "elevation": (elevation, ELEVATIONS)}
        return {
            name: F.one_hot(torch.tensor([c.index(nearest(a, c))]), len(c)).float()
            for name, (a, c) in pairs.items()
        }

    views = LABELS["view"]
    for azimuth in range(-176, 180, 8):
        for elevation in range(-9, 85, 3):
            logits = said(azimuth, elevation)
            named = view_words(azimuth, elevation)[0]
            right = [view for view in views if seen_from(logits, [view]).item()]
            assert named in right and len(right) <= 3
    assert [view for view in views if seen_from(said(0, 0), [view])] == ["front view"]
    assert [view for view in views if seen_from(said(50, 0), [view])] == ["front view", "left side view"]
    assert [view for view in views if seen_from(said(130, 20), [view])] == ["back view", "left side view"]
    assert [view for view in views if seen_from(said(-90, 58), [view])] == [
        "right side view",
        "overhead view",
    ]
    assert [view for view in views if seen_from(said(-90, 70), [view])] == ["overhead view"]


def test_degraded_pictures_repeat_with_the_generator_and_stay_near_the_picture() -> None:
    rgba = torch.zeros(48, 64, 64, 4, dtype=torch.uint8)
    rgba[:, 24:40, 24:40] = torch.tensor([200, 20, 20, 255], dtype=torch.uint8)
    first, again = (degrade(rgba, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (48, 3, 64, 64)
    assert first.min() >= 0 and first.max() <= 1
    middle, corner = first[..., 30:34, 30:34].mean(dim=(2, 3)), first[..., :4, :4].mean(dim=(2, 3))
    assert (middle[:, 0] > 0.55).all() and (middle[:, 1:] < 0.25).all()
    assert (corner.amax(dim=1) - corner.amin(dim=1)).max() < 0.2  # Greys, but for coarse noise.
    assert corner.mean(dim=1).std() > 0.15


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scorer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scorer_data, "SHARD", 8)
        assert list(scorer_data.render_pictures(folder, 16, seed=0)) == [8, 16]
    return folder


def test_pictures_resume_and_carry_their_scene(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorer_data, "SHARD", 8)
    scorer_data.render_shard(tmp_path, 1, 0)
    for name in ("images-0001.npy", "labels-0001.json"):
        assert (tmp_path / name).read_bytes() == (pictures / name).read_bytes()
    (tmp_path / "labels-0001.json").write_text("[]")
    scorer_data.render_shard(tmp_path, 1, 0)
    assert (tmp_path / "labels-0001.json").read_text() == "[]"  # A finished shard is not touched.
    rgba, scenes, views, directions = scorer_data.load_pictures(pictures)
    assert (
        rgba.shape == (16, 64, 64, 4)
        and len(scenes) == len(views) == 16
        and set(views) <= set(LABELS["view"])
    )
    assert [view_words(*direction)[0] for direction in directions] == views
    assert rgba[..., 3].float().mean(dim=(1, 2)).min() > 5  # Something is in every picture.
    rng = np.random.default_rng([0, 0])
    assert scenes[0] == scorer_data.draw_any_scene(rng)


def test_training_goes_on_where_it_stopped_and_what_is_written_can_be_loaded(
    pictures: Path, tmp_path: Path
) -> None:
    options = {"seed": 1, "batch": 4, "save_every": 1}
    whole = list(train(pictures, tmp_path / "a.pt", steps=2, **options))
    assert [event["step"] for event in whole] == [1, 2] and set(LABELS) < set(whole[0])
    interrupted = train(pictures, tmp_path / "b.pt", steps=2, **options)
    next(interrupted)
    interrupted.close()
    assert [event["step"] for event in train(pictures, tmp_path / "b.pt", steps=2, **options)] == [2]
    first, second = (torch.load(tmp_path / f"{name}.pt", weights_only=True)["average"] for name in "ab")
    assert all(torch.equal(first[name], second[name]) for name in first)

    scorer = export(tmp_path / "a.pt", tmp_path / "scorer")
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    logits = scorer.classify(images)
    assert {name: logits[name].shape for name in logits} == {n: (2, len(c)) for n, c in scorer.labels.items()}
    config = json.loads((tmp_path / "scorer" / "config.json").read_text())
    assert config["words"] == vocabulary()
    (tmp_path / "scorer" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="holds no scorer"):
        load_scorer(tmp_path / "scorer")


def test_the_check_tells_the_bound_and_every_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer_check, "held_out_scenes", lambda prompt_set: held_out_scenes(prompt_set)[:5])
    for module in (scorer_check, scorer_views):
        monkeypatch.setattr(module, "asset_views", lambda size: asset_views(size, 0))
    monkeypatch.setattr(
        Scorer,
        "score_asset",
        lambda self, splats, prompt, prompts, size: few_views(self, splats, prompt, prompts),
    )
    monkeypatch.setattr(
        scorer_check, "fit_splats", lambda primitives: fit_splats(primitives, count=200, steps=2)
    )
    torch.manual_seed(0)
    untrained = Scorer(new_net(), vocabulary(), LABELS)
    figures = scorer_check.asset_figures(untrained, "surroundings", 2, 1, np.random.default_rng(0))
    assert {"assets", "prompts", "truth", "wrong prompt", *scorer_check.LEVELS} == set(figures)
    for name, levels in scorer_check.LEVELS.items():
        scores = list(figures[name]["score at"].values())
        assert len(scores) == len(levels) and all(20 <= score <= 100 for score in scores)
        assert -1 <= figures[name]["rank correlation"] <= 1
    # No damage is the truth; and of five prompts the mean of 1 / rank is that of 1, 1/2, ... 1/5 over own and wrong ones.
    assert figures["blur"]["score at"]["0"] == pytest.approx(figures["truth"]["score"], abs=0.01)
    mean = (2 * figures["truth"]["score"] + 8 * figures["wrong prompt"]) / 10
    assert mean == pytest.approx(100 * (1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 5, abs=0.02)


def test_classifiers_that_are_right_get_full_marks(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, *told = scorer_data.load_pictures(pictures)
    right = torch.tensor([class_numbers(*row) for row in zip(*told, strict=True)]).clamp_min(0)
    oracle = {n: F.one_hot(right[:, i], len(LABELS[n])).float() for i, n in enumerate(LABELS)}
    untrained = Scorer(new_net(), vocabulary(), LABELS)
    monkeypatch.setattr(untrained, "classify", lambda images: oracle)

    def numbers(figures: dict) -> list[float]:
        return [
            x for value in figures.values() for x in (numbers(value) if isinstance(value, dict) else [value])
        ]

    figures = scorer_check.classifier_figures(untrained, pictures, seed=0)
    assert figures.pop("pictures") == 16
    # Not a number where none of the 16 pictures is of that sort.
    assert {value for value in numbers(figures) if value == value} == {100.0}
    oracle["ground"] = oracle["ground"].roll(1, dims=1)
    assert scorer_check.classifier_figures(untrained, pictures, seed=0)["ground"] == 0


def few_views(scorer: Scorer, splats: Splats, prompt: str, prompts: list[str]) -> AssetScore:
    cameras, neighbors = asset_views(32, 0)
    return scorer.score_views(render(splats, cameras, torch.full((3,), 0.5)).rgb, prompt, prompts, neighbors)


def test_fitted_splats_come_near_the_picture() -> None:
    primitives = build(MUG, np.random.default_rng(0))
    truth, (cameras, _) = world_views(primitives)[:8], asset_views(64)
    errors = []
    for steps in (1, 60):
        splats = fit_splats(primitives, count=400, steps=steps)
        images = render(splats, cameras[:8], torch.full((3,), 0.5)).rgb
        errors.append((images - truth).abs().mean().item())
    assert errors[1] < 0.5 * errors[0]


# --- the model that ships ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    if not (SHIPPED / "model.safetensors").exists():
        pytest.skip("no scorer in assets/scorer: python -m training.train_scorer makes it")
    return load_scorer()


def test_the_shipped_scorer_is_small_and_knows_the_world(scorer: Scorer) -> None:
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) <= 8 * 2**20
    # It may be older than the world: what it knows is of the world, and it says what it does not know.
    assert set(scorer.labels) == set(LABELS) and set(scorer.words) <= set(vocabulary())
    for name, classes in scorer.labels.items():
        assert set(classes) <= set(LABELS[name]), name


def test_it_names_the_kind_and_color_of_fresh_draws(scorer: Scorer) -> None:
    rng = np.random.default_rng(77)
    views = orbit(rng.uniform(-180, 180, 80), rng.uniform(-5, 50, 80), 3.2, 40.0, 96, 96)
    scenes: list[Scene] = []
    while len(scenes) < 80:
        scene = draw_scene(rng, "single", held_out=True)
        scenes += [] if scorer.unknown(scene) else [scene]
    matrices = zip(scenes, views.viewmats.numpy(), views.Ks.numpy(), strict=True)
    rgba = np.concatenate(
        [render_scene(build(scene, rng), view[None], K[None], 96, 96) for scene, view, K in matrices]
    )
    logits = scorer.classify(over_grey(rgba))
    for name in ("kind", "color"):
        right = torch.tensor([scorer.labels[name].index(getattr(scene.things[0], name)) for scene in scenes])
        assert (logits[name].argmax(dim=1) == right).float().mean() >= 0.95


def test_every_wording_of_a_scene_is_nearer_than_other_scenes(scorer: Scorer) -> None:
    rng = np.random.default_rng(5)
    scene = Scene((Thing("sphere", "red", "dotted"), Thing("cube", "blue")), relation="on")
    images = world_views(build(scene, rng))
    # Those that leave its look open fit other scenes too.
    drawn = [caption(scene, rng) for _ in range(300)]
    wordings = sorted(
        {text for text in drawn if parse(text).looks() == [scene] and not scorer.unknown_words([text])}
    )
    assert len(wordings) >= 6
    others = [
        "a blue ball with white dots on a red cube",
        "a red ball on a blue cube",
        "a dotted red sphere next to a blue cube",
    ]
    similarity = scorer.similarity(images, wordings + others).mean(dim=0)
    assert similarity[: len(wordings)].min() > similarity[len(wordings) :].max()


def test_score_falls_from_truth_to_blur_to_the_wrong_prompt(scorer: Scorer) -> None:
    rng = np.random.default_rng(6)
    drawn = [draw_scene(rng, "single", held_out=True) for _ in range(120)]
    prompts = [caption(scene) for scene in drawn if not scorer.unknown(scene)]
    prompts = [prompt for prompt in prompts if not scorer.unknown_words([prompt])]
    prompts = list(dict.fromkeys(["a striped purple teddy bear", *prompts]))
    scene = Scene((Thing("teddy bear", "purple", "striped"),))
    images, (_, neighbors) = world_views(build(scene, rng)), asset_views(64)
    truth = scorer.score_views(images, prompts[0], prompts, neighbors)
    blurred = scorer.score_views(blur(images, 6.0), prompts[0], prompts, neighbors)
    wrong = scorer.score_views(images, prompts[7], prompts, neighbors)
    assert truth.score > 95 and truth.rank == 1 and truth.peak == 100
    assert truth.score > blurred.score and truth.similarity > blurred.similarity
    assert wrong.score < 30 and wrong.rank > 1
    with pytest.raises(UserError, match="must be one of"):
        scorer.score_views(images, "a red mug", prompts[:3], neighbors)


def test_splats_are_judged_by_what_they_look_like(scorer: Scorer) -> None:
    # A ball of opaque red splats is a red sphere to anyone.
    splats = ball(1500, 0.85, generator=torch.Generator().manual_seed(0), opacity=0.95, scale=0.07)
    red = (torch.tensor([0.72, 0.09, 0.08]) - 0.5) / SH_C0
    splats = Splats(**{**splats.parameters(), "sh0": red.expand(1500, 1, 3).clone()})
    prompts = ["a red ball", "a blue ball", "a red car", "a white house", "a green mug", "a striped red cone"]
    assert scorer.score_asset(splats, "a red ball", prompts, size=64).rank == 1
    assert scorer.score_asset(splats, "a green mug", prompts, size=64).score < 60

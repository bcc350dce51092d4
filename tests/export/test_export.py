"""export: diffusers loads the folder, and draws the images that the lab draws from the same noise."""

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from conftest import ROOT, Quick
from torch import Tensor

import ddpm_lab
from ddpm_lab.export.autoencoder import identity_autoencoder
from ddpm_lab.inference.trained_run import Run
from ddpm_lab.runtime.seeding import generator
from ddpm_lab.storage.files import sha256
from registry.backbones import BACKBONES

ADM = "backbone={name: adm_unet, width: 32, multipliers: [1, 2], blocks: 1, head_channels: 32}"
STRIDED = ADM.replace("}", ", resblock_updown: false, scale_shift: false}")
DIT = "backbone={name: dit, width: 32, depth: 2, heads: 2, patch: 4}"
SHORT = [
    "train.images=128", "train.batch=16", "train.rate.warmup=0", "sampling.grid=trailing", "sampling.steps=8",
    "train.precision=fp32", "train.samples_every=null", "evaluate.every=null", "evaluate.features=[]",
    "evaluate.metrics=[]", "evaluate.n=4",
]  # fmt: skip
SEED, COUNT = 3, 4


def _exported(quick: Quick, tmp_path: Path, *overrides: str) -> tuple[Run, Path]:
    done = quick("run", "smoke", *SHORT, *overrides, "--results", tmp_path / "results")
    assert done.returncode == 0, done.stderr
    run = (tmp_path / "results/latest").resolve()
    done = quick("export", run, tmp_path / "model")
    assert done.returncode == 0, done.stderr
    return ddpm_lab.load(run), tmp_path / "model"


def _drawn(run: Run, classes: Tensor | None = None) -> Tensor:
    """The lab's images before they are quantised, in [0, 1]."""
    sampler = run.sampler(run.experiment.sampling)
    return (sampler.unrounded(range(COUNT), SEED, classes, seen=None) / 2 + 0.5).clamp(0, 1)


def _noise() -> list[torch.Generator]:
    """The generators that the lab gives to each image."""
    return [generator(SEED, "sample", index) for index in range(COUNT)]


@pytest.mark.parametrize(
    ("backbone", "overrides", "pipeline", "steps"),
    [
        (ADM, ["target=v"], "DDIMPipeline", 8),
        (STRIDED, ["sampling.clip=false", "target=x0"], "DDIMPipeline", 8),
        (ADM, ["sampling.sampler=ancestral", "sampling.steps=10"], "DDPMPipeline", 10),
        (ADM, ["variance=learned_range", "schedule=linear"], "DDIMPipeline", 8),
    ],
)
def test_a_pipeline_of_diffusers_draws_the_same_images_from_a_unet(
    backbone: str, overrides: list[str], pipeline: str, steps: int, quick: Quick, tmp_path: Path
) -> None:
    run, folder = _exported(quick, tmp_path, backbone, *overrides)
    loaded = getattr(diffusers, pipeline).from_pretrained(folder)
    clipped = {"use_clipped_model_output": True} if pipeline == "DDIMPipeline" else {}
    theirs = loaded(COUNT, generator=_noise(), num_inference_steps=steps, output_type="np", **clipped).images
    torch.testing.assert_close(torch.tensor(theirs).permute(0, 3, 1, 2), _drawn(run), atol=1e-4, rtol=0)
    # The lab takes the folder for a run.
    assert torch.equal(ddpm_lab.load(folder).sample(2), run.sample(2))


@pytest.mark.parametrize("classes", [True, False])
def test_a_pipeline_of_diffusers_draws_the_same_images_from_a_transformer(classes: bool, quick: Quick, tmp_path: Path) -> None:
    run, folder = _exported(quick, tmp_path, DIT, "target=v", "sampling.clip=false", f"classes={classes}".lower())
    loaded = diffusers.DiTPipeline.from_pretrained(folder)
    assert loaded.labels == ({"disc": 0, "square": 1, "cross": 2} if classes else {"image": 0})
    chosen = [2, 0, 1, 1] if classes else [0] * COUNT
    for scale in (1.0, 2.0) if classes else (1.0,):
        theirs = loaded(chosen, guidance_scale=scale, generator=_noise(), num_inference_steps=8, output_type="np").images
        guidance = run.experiment.sampling.guidance
        guided = guidance.__class__(guidance.name, {**guidance.options, "scale": scale})
        sampler = run.sampler(run.experiment.sampling.model_copy(update={"guidance": guided}))
        ours = sampler.unrounded(range(COUNT), SEED, torch.tensor(chosen) if classes else None, seen=None)
        expected = (ours / 2 + 0.5).clamp(0, 1)
        torch.testing.assert_close(torch.tensor(theirs).permute(0, 3, 1, 2), expected, atol=1e-4, rtol=0)


def test_a_unet_with_classes_is_there_without_a_pipeline_and_its_card_shows_how_to_use_it(quick: Quick, tmp_path: Path) -> None:
    run, folder = _exported(quick, tmp_path, ADM, "classes=true")
    assert not (folder / "model_index.json").exists()
    network = diffusers.UNet2DModel.from_pretrained(folder, subfolder="unet")
    x, label, y = torch.randn(3, 1, 16, 16), torch.tensor([3, 500, 999]), torch.tensor([0, 2, 3])
    ours = run.model(run.experiment.sampling).network
    with torch.no_grad():
        torch.testing.assert_close(network(x, label, class_labels=y).sample, ours(x, label.float(), y), atol=1e-5, rtol=1e-4)
    code = (folder / "README.md").read_text().split("```python")[2].split("```")[0].replace("PATH OF THIS FOLDER", str(folder))
    found: dict[str, Any] = {}
    exec(code, found)
    assert found["x"].shape == (4, 1, 16, 16)


def test_the_card_and_the_configuration_tell_what_it_is(quick: Quick, smoke_run: Path, tmp_path: Path) -> None:
    done = quick("export", smoke_run, tmp_path / "new/model", "--weights", "raw", "--licence", "CC0-1.0")
    assert done.returncode == 0, done.stderr
    assert "it has no network like 'patch_unet'" in done.stderr
    card = (tmp_path / "new/model/README.md").read_text()
    result = json.loads((smoke_run / "result.json").read_text())["metrics"][0]
    for words in (
        f"{result['value']:.4g}",
        result["fingerprint"],
        "N",
        "MIT, as the lab",
        "license: cc0-1.0\n",
        "Licence of the weights: CC0-1.0.",
        "\n    ddpm-lab run smoke --budget cpu classes=true\n",
        sha256(tmp_path / "new/model/raw.safetensors"),
        "disc, square, cross",
        "raw.safetensors",
    ):
        assert words in card, words
    config = json.loads((tmp_path / "new/model/config.json").read_text())
    options = {key: value for key, value in config["backbone"].items() if key != "name"}
    network = BACKBONES.configure(config["backbone"]["name"], options)(
        tuple(config["image_shape"]), config["classes"], config["channels_out"]
    )
    from safetensors.torch import load_file

    network.load_state_dict(load_file(tmp_path / "new/model" / config["weights"]))
    assert str(ROOT) not in card


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["schedule=flow", "target=velocity"], "variance-preserving paths only"),
        (["target=edm"], "no target 'edm'"),
        (["timesteps=500"], "where T = 1000"),
        ([ADM.replace("head_channels: 32", "head_channels: null, heads: 2")], "set head_channels"),
    ],
)
def test_what_diffusers_cannot_compute_is_said_and_the_rest_is_written(
    overrides: list[str], words: str, quick: Quick, tmp_path: Path
) -> None:
    _, folder = _exported(quick, tmp_path, ADM, *overrides, "train.images=64", "sampling.steps=4")
    assert words in (folder / "README.md").read_text()
    assert sorted(file.name for file in folder.iterdir()) == [
        "README.md", "config.json", "data.json", "ema.safetensors", "environment.json", "resolved.yaml", "result.json",
    ]  # fmt: skip
    assert ddpm_lab.load(folder).sample(2).shape == (2, 1, 16, 16)


def test_a_folder_that_is_there_is_left_alone(quick: Quick, smoke_run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place, words in (
        (tmp_path, "is there already"),
        (tmp_path / "file", "there already"),
        (tmp_path / "file/x", "written"),
    ):
        done = quick("export", smoke_run, place)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert words in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_autoencoder_changes_nothing(channels: int) -> None:
    made = identity_autoencoder(channels, 32)
    network = diffusers.AutoencoderKL(**made.config)
    network.load_state_dict(made.weights)
    x = 2 * torch.randn(4, channels, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network.decode(x).sample, x, atol=2e-5, rtol=2e-5)
        torch.testing.assert_close(network.encode(x).latent_dist.mean, x, atol=2e-5, rtol=2e-5)


# Counted by diffusers, whose code is another one: improved-diffusion's CIFAR-10 network with heads of 64 channels, DiT-S/2.
def test_networks_of_diffusers_have_as_many_parameters() -> None:
    from ddpm_lab.export.dit import dit
    from ddpm_lab.export.unet import unet

    with torch.device("meta"):
        asked = {"width": 128, "multipliers": [1, 2, 2, 2], "blocks": 3, "attention_resolutions": [16, 8]}
        options = BACKBONES.check("adm_unet", {**asked, "resblock_updown": False})
        ours: Any = BACKBONES.configure("adm_unet", options)((3, 32, 32), None, 6)
        theirs = diffusers.UNet2DModel(**unet(ours.state_dict(), options, (3, 32, 32), None).config)
        assert _count(ours) == _count(theirs) == 52_546_438
        options = BACKBONES.check("dit", {"width": 384, "depth": 12, "heads": 6})
        ours = BACKBONES.configure("dit", options)((4, 32, 32), 1000, 8)
    made = dit(BACKBONES.configure("dit", options)((4, 32, 32), 1000, 8).state_dict(), options, (4, 32, 32), 1000)
    with torch.device("meta"):
        their_transformer = diffusers.DiTTransformer2DModel(**made.config)
    shared = sum(p.numel() for name, p in their_transformer.named_parameters() if "blocks.0.norm1.emb." in name)
    assert _count(ours) == _count(their_transformer) - 11 * shared


def _count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())

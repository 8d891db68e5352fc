"""A diffusers folder: image for image what diffusers' own pipelines draw; others refused."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import kod_bench
from kod_bench.models import DiffusersModel, ModelError
from kod_bench.seeds import derive_seed

diffusers: Any = pytest.importorskip("diffusers")

SIDE = 8
Save = Callable[..., Path]


def unet(**changes: Any) -> Any:
    torch.manual_seed(0)
    options = {
        "sample_size": SIDE,
        "in_channels": 3,
        "out_channels": 3,
        "layers_per_block": 1,
        "block_out_channels": (16, 32),
        "norm_num_groups": 8,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 8,
    }
    return diffusers.UNet2DModel(**{**options, **changes}).eval()


def save_pipeline(folder: Path, scheduler: Any, network: Any = None, **options: Any) -> Path:
    kind = type(scheduler).__name__.removesuffix("Scheduler")
    pipeline = getattr(diffusers, f"{kind}Pipeline")(network or unet(), scheduler)
    pipeline.save_pretrained(folder, **options)
    return folder


def open_model(folder: Path) -> DiffusersModel:
    found = kod_bench.load(f"diffusers:{folder}", device="cpu")
    assert isinstance(found, DiffusersModel)
    return found


def theirs(pipeline: Any, batch: int, index: int, steps: int, seed: int = 0) -> Tensor:
    """What diffusers draws of a batch, as pictures."""
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(derive_seed(seed, "sample", index))
    images = pipeline(batch_size=batch, generator=generator, num_inference_steps=steps).images
    return torch.from_numpy(np.stack([np.array(each) for each in images])).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("scheduler", "steps"),
    [
        ("DDPM", {}),
        ("DDPM", {"variance_type": "fixed_large", "clip_sample": False}),
        ("DDPM", {"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing"}),
        ("DDIM", {}),
        ("DDIM", {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}),
        ("DDIM", {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}),
    ],
)
def test_images_are_those_of_the_pipeline(
    tmp_path: Path, scheduler: str, steps: dict[str, Any]
) -> None:
    made = getattr(diffusers, f"{scheduler}Scheduler")(num_train_timesteps=20, **steps)
    folder = save_pipeline(tmp_path / "model", made)
    model = open_model(folder)
    pipeline = getattr(diffusers, f"{scheduler}Pipeline").from_pretrained(folder)
    drawing = model.drawing(6, batch_size=4, network_evaluations=5)
    found = drawing.all()
    expected = torch.cat([theirs(pipeline, 4, 0, 5), theirs(pipeline, 4, 1, 5)])[:6]
    assert torch.equal(found, expected)
    assert found.float().std() > 1
    assert drawing.way.sampler == scheduler.lower()
    other = model.sample(4, batch_size=4, network_evaluations=5, seed=3)
    assert torch.equal(other, theirs(pipeline, 4, 0, 5, seed=3))
    # All steps of the training, unless fewer are asked for, or an offset leaves fewer.
    if "steps_offset" not in steps:
        assert model.drawing(1).way.network_evaluations == 20


@pytest.mark.parametrize("kind", ["DDPM", "DDIM"])
@pytest.mark.parametrize(
    ("steps", "options", "evaluations", "said"),
    [
        # Rounding: one step more than was asked for, and the last timestep is -1.
        (50, {"timestep_spacing": "trailing"}, 29, "30 steps, from timestep 49 to -1"),
        # Of as many evaluations as T, which are those of the default, none may be moved.
        (20, {"steps_offset": 1}, None, "20 steps, from timestep 20 to 1"),
    ],
)
def test_steps_that_do_not_exist_are_refused(
    tmp_path: Path,
    kind: str,
    steps: int,
    options: dict[str, Any],
    evaluations: int | None,
    said: str,
) -> None:
    made = getattr(diffusers, f"{kind}Scheduler")(num_train_timesteps=steps, **options)
    model = open_model(save_pipeline(tmp_path / "model", made))
    with pytest.raises(ModelError, match=f"makes {said}, of a model .* 0 to {steps - 1} .*choose"):
        model.drawing(1, network_evaluations=evaluations)
    assert model.sample(1, network_evaluations=5).shape == (1, 3, SIDE, SIDE)


def test_a_ddpm_folder_is_drawn_by_ddim_as_its_pipeline_does(tmp_path: Path) -> None:
    folder = save_pipeline(tmp_path / "model", diffusers.DDPMScheduler(num_train_timesteps=20))
    pipeline = diffusers.DDIMPipeline.from_pretrained(folder)
    found = open_model(folder).sample(4, batch_size=4, sampler="ddim", network_evaluations=5)
    assert torch.equal(found, theirs(pipeline, 4, 0, 5))


def test_weights_that_were_pickled_are_read_without_unpickling(tmp_path: Path) -> None:
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=20)
    new = save_pipeline(tmp_path / "new", scheduler)
    old = save_pipeline(tmp_path / "old", scheduler, safe_serialization=False)
    assert (old / "unet" / "diffusion_pytorch_model.bin").is_file()
    drawn = [open_model(folder).sample(2, network_evaluations=2) for folder in (new, old)]
    assert torch.equal(*drawn)

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "owned",))

    torch.save({"conv_in.weight": Evil()}, old / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be read by diffusers"):
        open_model(old)
    assert not (tmp_path / "owned").exists()


def test_all_in_one_folder_as_old_ones_are_on_the_hub(tmp_path: Path) -> None:
    folder = save_pipeline(tmp_path / "model", diffusers.DDPMScheduler(num_train_timesteps=20))
    expected = open_model(folder).sample(2, network_evaluations=2)
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (*(folder / "unet").iterdir(), *(folder / "scheduler").iterdir()):
        (flat / path.name).symlink_to(path)  # and links, as in the hub's cache
    assert torch.equal(open_model(flat).sample(2, network_evaluations=2), expected)


@pytest.mark.parametrize("said", [None, "nothing"])
def test_the_number_of_heads_is_what_diffusers_makes_of_it(
    tmp_path: Path, said: str | None
) -> None:
    """A null is one head and no key is eight channels a head: equal shapes, other images."""
    folder = save_pipeline(tmp_path / "model", diffusers.DDPMScheduler(num_train_timesteps=20))
    path = folder / "unet" / "config.json"
    config = json.loads(path.read_text())
    if said is None:
        config["attention_head_dim"] = None
    else:
        del config["attention_head_dim"]
    path.write_text(json.dumps(config))
    pipeline = diffusers.DDPMPipeline.from_pretrained(folder)
    found = open_model(folder).sample(4, batch_size=4, network_evaluations=5)
    assert torch.equal(found, theirs(pipeline, 4, 0, 5))


def test_what_it_cannot_do_is_said(tmp_path: Path) -> None:
    folder = save_pipeline(tmp_path / "model", diffusers.DDPMScheduler(num_train_timesteps=20))
    model = open_model(folder)
    for options, said in (
        ({"count": 0}, "count must be a whole number"),
        ({"sampler": "heun"}, "no sampler 'heun'; choose from ddpm, ddim"),
        ({"prior": "forward"}, "starts from standard-normal alone"),
        ({"network_evaluations": 21}, "at most T = 20, got 21"),
        ({"start": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}, "starts from standard-normal"),
    ):
        with pytest.raises(ModelError, match=said):
            model.drawing(**{"count": 2, **options})  # type: ignore[arg-type]


def test_other_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=20)
    folder = save_pipeline(tmp_path / "model", scheduler)
    steps = folder / "scheduler" / "scheduler_config.json"
    good = steps.read_text()
    steps.write_text(good.replace("DDPMScheduler", "PNDMScheduler"))
    with pytest.raises(ModelError, match="is of 'PNDMScheduler'; only DDPMScheduler and"):
        open_model(folder)
    steps.write_text("[" * 10**5)
    with pytest.raises(ModelError, match=r"scheduler_config.json: is no sound JSON"):
        open_model(folder)
    steps.write_text(good)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"0" * 100)
    with pytest.raises(ModelError, match="cannot be read by diffusers") as refused:
        open_model(folder)
    assert "\n" not in str(refused.value)
    conditional = save_pipeline(tmp_path / "c", scheduler, unet(num_class_embeds=10))
    with pytest.raises(ModelError, match="class-conditional"):
        open_model(conditional)
    with pytest.raises(ModelError, match=r"config\.json: is missing"):
        open_model(tmp_path)
    with pytest.raises(ModelError, match="is not a folder"):
        open_model(tmp_path / "nothing")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ModelError, match=r"pip install 'kod-bench\[diffusers\]'"):
        open_model(conditional)

"""Draw the pictures of kuramoto.md, from synthetic prints: python docs/make_pictures.py."""

from pathlib import Path

import torch
from PIL import Image, ImageDraw

from kod_bench.data import DatasetOptions, load_dataset
from kod_bench.diffusion import make_process

STEPS = 100
SHOWN = (0, 5, 15, 30, 60, 100)
SIZE = 64
SCALE = 2
GAP = 6
LABEL = 92


def main() -> None:
    """Write forward.png."""
    options = DatasetOptions(name="fingerprints", image_size=SIZE, view="patches", scale=0.5)
    image = load_dataset(options, None).test[3:4].float() / 127.5 - 1
    lines = {
        "none": {"coupling": "none"},
        "global": {"coupling": "global"},
        "local": {"coupling": "local"},
        "local, K x 4": {"coupling": "local", "coupling_ratio": 1.2},
        "margin 0.5": {"coupling": "local", "phase_margin": 0.5},
    }
    side = SIZE * SCALE
    sheet = Image.new(
        "RGB", (LABEL + len(SHOWN) * (side + GAP), 18 + len(lines) * (side + GAP)), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for column, step in enumerate(SHOWN):
        draw.text((LABEL + column * (side + GAP) + 2, 3), f"t = {step}", fill="black")
    for line, (name, parameters) in enumerate(lines.items()):
        top = 18 + line * (side + GAP)
        draw.text((4, top + side // 2 - 6), name, fill="black")
        process = make_process("kuramoto", shape=(1, SIZE, SIZE), steps=STEPS, **parameters)
        generator = torch.Generator().manual_seed(0)
        state = process.encode(image)
        for step in range(STEPS + 1):
            if step:
                state = process.forward_step(state, step, generator)
            if step in SHOWN:
                left = LABEL + SHOWN.index(step) * (side + GAP)
                sheet.paste(colour(state[0, 0]), (left, top))
    folder = Path(__file__).parent / "pictures"
    sheet.quantize(96).save(folder / "forward.png", optimize=True)


def colour(phase: torch.Tensor) -> Image.Image:
    """A phase as a hue: the reference phase 0 is cyan, pi and -pi are the same red."""
    hue = ((phase / (2 * torch.pi)).remainder(1.0) * 255).round()
    full = torch.full_like(hue, 200.0)
    pixels = torch.stack([(hue + 127).remainder(256), full, full + 30], dim=-1).to(torch.uint8)
    small = Image.fromarray(pixels.numpy(), mode="HSV").convert("RGB")
    return small.resize((SIZE * SCALE, SIZE * SCALE), Image.Resampling.NEAREST)


if __name__ == "__main__":
    main()

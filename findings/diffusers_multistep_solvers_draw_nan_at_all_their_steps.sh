#!/usr/bin/env bash
# DPM-Solver++, DEIS and UniPC of diffusers 0.42.1 asked for as many steps as the model was trained with: their
# spacing lays N + 1 points over T steps and drops the last, so that for N = T two timesteps are the same.
# The multistep formulas divide by the step between the two, which is zero, and all that is drawn is nan. Nothing
# is raised or warned of. One step fewer is right; with timestep_spacing="trailing" all are. Euler and DDIM
# take all steps without harm, so that who looks for the limit of many steps is told nan by the better solver.
# Here: data of standard deviation 0.5, drawn with the exact prediction of noise, T = 1,000.
# Seen: of each of the three "999 steps: 0.497", "1000 steps: nan (timestep 500 twice)", "1000 trailing steps:
# 0.497".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet diffusers==0.42.1 torch==2.15.0 numpy==2.4.6
cat >"$folder/multistep.py" <<'PY'
import math
import warnings
from collections import Counter

import diffusers
import torch

warnings.simplefilter("error")
warnings.filterwarnings("ignore", category=DeprecationWarning)


def draw(kind, steps, spacing):
    scheduler = getattr(diffusers, kind)(timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    x = torch.randn(2000, 1, 1, 1, generator=torch.manual_seed(0), dtype=torch.float64)
    for step in scheduler.timesteps:
        signal = scheduler.alphas_cumprod[step].double()
        noise = (1 - signal).sqrt() * x / (signal / 4 + 1 - signal)
        x = scheduler.step(noise, step, x).prev_sample
    twice = [step for step, times in Counter(scheduler.timesteps.tolist()).items() if times > 1]
    return x.std().item(), twice


for kind in ("DPMSolverMultistepScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler"):
    fewer, all_of_them = draw(kind, 999, "linspace"), draw(kind, 1000, "linspace")
    trailing = draw(kind, 1000, "trailing")
    print(f"{kind}, 999 steps: {fewer[0]:.3f}")
    print(f"{kind}, 1000 steps: {all_of_them[0]:.3f} (timestep {all_of_them[1][0]} twice)")
    print(f"{kind}, 1000 trailing steps: {trailing[0]:.3f}")
    assert math.isfinite(fewer[0]) and math.isfinite(trailing[0]) and not fewer[1] + trailing[1]
    assert math.isnan(all_of_them[0]) and len(all_of_them[1]) == 1
PY
"$folder/venv/bin/python" "$folder/multistep.py"

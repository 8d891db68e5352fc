"""A made-up study on disk: rows, pictures, histories; no training."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from kod_bench.reports import SweepOrigin, SweepReport, make_content, read_frame
from kod_bench.results import (
    REAL_FILE,
    forward_end_file,
    grid_file,
    measured_file,
    nearest_file,
    trajectory_file,
    write_rows,
)
from tests.rows import make_row

SWEEP = "20260101-000000"
HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


def make_study(
    folder: Path,
    *,
    seeds: int = 3,
    points: int = 9,
    failures: tuple[tuple[str, str], ...] = (),
    **changes: Any,
) -> SweepReport:
    """Kuramoto with pairs of strengths, and DDPM, at two numbers of evaluations each."""
    couplings = [0.5 * 2**power for power in range(points // 3 + (points % 3 > 0))]
    grid: list[tuple[str, str, dict[str, float]]] = [
        (
            # As `make_trials` names the points of a grid.
            f"kuramoto-local coupling_strength={coupling} reference_strength={reference}",
            "kuramoto",
            {"coupling_strength": coupling, "reference_strength": reference},
        )
        for coupling in couplings
        for reference in (0.01, 0.05, 0.1)
    ]
    variants = [("ddpm", "ddpm", {}), *grid[:points]]
    draw(folder / REAL_FILE)
    paths = []
    for place, (model, process, parameters) in enumerate(variants):
        for seed in range(seeds):
            trial = f"{process}-{place}-seed{seed}"
            rows = []
            for evaluations in (100, 25):
                kid = 1.0 + 0.05 * place + 0.02 * seed + (0.3 if evaluations == 25 else 0.0)
                values: dict[str, Any] = {
                    "sweep": SWEEP,
                    "trial": trial,
                    "model": model,
                    "process": process,
                    "seed": seed,
                    "config": json.dumps(
                        {"parameters": parameters, "sampling": [], "seed": seed, "steps": 100},
                        sort_keys=True,
                    ),
                    "network_evaluations": evaluations,
                    "kid": kid,
                    "fid": 100 * kid,
                    "sampling_seconds": evaluations * (1.0 + place / 10),
                    "training_seconds": 60.0 + 5 * place,
                }
                rows.append(make_row(**values | changes))
            path = folder / "trials" / trial
            path.mkdir(parents=True)
            paths.append(write_rows(path, rows))
            leave_files(path, rows[0].prior, rows[0].sampler, place)
    frame = read_frame(paths)
    origin = SweepOrigin(
        name=f"tiny/{SWEEP}",
        location=SWEEP,
        profile="laptop",
        planned=len(variants) * seeds,
        document="name: tiny\n",
        document_hash="0123456789ab",
        failures=failures,
    )
    content = make_content(
        frame.rows, title="tiny", sweeps=[origin], configurations=frame.configurations
    )
    return SweepReport(content, {f"tiny/{SWEEP}": folder})


def leave_files(folder: Path, prior: str, sampler: str, place: int) -> None:
    """What a trial leaves beside its rows."""
    records = [{"iteration": i, "loss": 1.0 / (1 + i / 50) + place / 20} for i in range(1, 600, 10)]
    (folder / "history.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in records))
    draw(folder / forward_end_file(prior))
    for evaluations in (100, 25):
        way = (prior, sampler, evaluations)
        for name in (grid_file(*way), nearest_file(*way), trajectory_file(*way)):
            draw(folder / name)
        draw(folder / trajectory_file(*way, film=True))
        bumps = [1.0 + (place + 1) * (abs(32 - i) / 64) for i in range(64)]
        found = {
            "order_backward": [[t, 0.2 + t / 400] for t in (100, 50, 0)],
            "order_forward": [[t, 0.9 - t / 200] for t in (0, 50, 100)],
            "orientation_samples": bumps,
            "orientation_data": [1.0] * 64,
        }
        (folder / measured_file(*way)).write_text(json.dumps(found))


def draw(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.effect_noise((128, 128), 60)
    if path.suffix == ".gif":
        picture.save(path, save_all=True, append_images=[Image.effect_noise((128, 128), 60)])
    else:
        picture.save(path)

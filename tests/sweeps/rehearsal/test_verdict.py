"""What a rehearsal says, from what its trials have left."""

from dataclasses import replace
from pathlib import Path

import pytest

from kod_bench.sweeps.plan.failures import write_error
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.rehearsal.verdict import Verdict, judge_rehearsal
from kod_bench.sweeps.store.open import open_sweep
from kod_bench.sweeps.trial.rehearsed import KILLED, Used
from tests.sweeps.rehearsal.made import leave, rehearsal


@pytest.fixture
def sweep(tiny_space: Path, tmp_path: Path) -> Sweep:
    return rehearsal(tiny_space, tmp_path / "results", "seeds=[0,1]", "evaluation.samples=1600")


def judged(sweep: Sweep) -> Verdict:
    return judge_rehearsal(open_sweep(sweep.folder))


def test_times_and_sizes_are_multiplied_to_those_of_the_sweep(sweep: Sweep) -> None:
    for trial in sweep.trials:
        leave(sweep, trial)
    found = judged(sweep)
    assert found.would_fail == ()
    kuramoto = found.shapes[0]
    assert (kuramoto.real.model, kuramoto.count) == ("kuramoto-local", 2)
    assert kuramoto.model is not None
    assert kuramoto.scoring is not None
    assert kuramoto.model.iteration == 1.0
    assert kuramoto.model.drawing == {"ancestral": 0.25, "probability-flow": 0.25}
    assert kuramoto.model.forward_step == pytest.approx(0.5)
    assert kuramoto.scoring.image == 0.25
    # 100 s, less its iterations 4 to 10 (8 s) and 4 x 4 s of scoring and 2 x (8 + 40) s of drawing,
    # below 0: nothing. What the first iteration takes more counts.
    assert kuramoto.model.start == 1.0
    # 40 iterations; 1,600 samples in 2 samplers in 4 and 2 evaluations from 2 priors, each scored.
    each = 1 + 40 + 1600 * (2 * 2 * 6 * 0.25 + 4 * 4 * 0.5 + 8 * 0.25)
    # DDPM: 4 and 8 evaluations; 100 s, less 4 to 6 (4 s), 8 s of drawing and 4 s of scoring.
    ddpm = [85 + 40 + 1600 * (steps * 0.25 + 0.25) for steps in (4, 8)]
    assert found.seconds == pytest.approx([each] * 2 + [ddpm[0]] * 2 + [ddpm[1]] * 2)
    left, more = kuramoto.written(kuramoto.real)
    samples = 8 * 1600 * 100  # bytes: eight ways, kept
    assert left == pytest.approx(5000 + samples, rel=0.05)
    assert more == 5000 + 1600 * 2 * 2048 * 8  # features
    text = "\n".join(found.lines)
    assert "3 shapes of 6 trials: 3 done, 3 killed and resumed, 3 of them to the bit" in text
    assert "would have failed:\n- nothing that was tried" in text
    assert "estimate: " in text


def test_what_would_have_failed_is_said(sweep: Sweep) -> None:
    one, two, three = sweep.trials
    leave(sweep, one, micro_batch_size=4)
    leave(sweep, two, Used("small", 9.0, 10**9, 10**8, "a GPU", 2 * 10**9, 10**9))
    write_error(sweep.trial_folder(three), ValueError("no such thing"))
    found = judged(sweep)
    text = "\n".join(found.would_fail)
    assert "kuramoto-local T=4: memory runs out; it went on with 4 images at once" in text
    assert "on a machine take" in text
    assert "small has 95.4 MiB" in text
    assert "1 on one GPU take 1.86 GiB, a GPU has 954 MiB" in text
    assert "T=8: no such thing" in text
    assert found.seconds is None
    assert "no estimate: not all shapes have been done" in found.lines


def test_what_is_not_done_yet_has_not_failed(sweep: Sweep) -> None:
    one, two, _ = sweep.trials
    leave(sweep, one)
    write_error(sweep.trial_folder(two), RuntimeError(KILLED))
    found = judged(sweep)
    assert found.would_fail == ()
    # Seconds of so short a trial may name a slow sampler besides.
    missing = [line for line in found.to_know if "is not done yet" in line]
    assert [line.partition(":")[0] for line in missing] == [s.name for s in found.shapes[1:]]
    assert f"kod-bench resume {sweep.folder}" in missing[0]


def test_limits_of_time_and_disk_are_held_against_it(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    for trial in sweep.trials:
        leave(sweep, trial)
    opened = open_sweep(sweep.folder)
    assert opened.rehearsal is not None
    resources = {**opened.rehearsal["resources"], "time_limit_minutes": 1.0}
    said = {**opened.rehearsal, "free_results": 10**6, "resources": resources}
    text = "\n".join(judge_rehearsal(replace(opened, rehearsal=said)).would_fail)
    assert "takes 13h" in text or "resources.time_limit_minutes is 1" in text
    assert "the disk: " in text
    assert "977 KiB are free" in text


def test_what_surprises_is_said(sweep: Sweep) -> None:
    for trial in sweep.trials:
        leave(sweep, trial, resumed_exactly=False)
    text = "\n".join(judged(sweep).to_know)
    assert "a resumed training is not the same to the bit" in text
    # 1,600 images in 8 evaluations of 0.25 s, and 40 s of training: but less than an hour. From
    # the ends of forward chains it takes 3 s an image.
    assert text.count("sampling") == 1
    assert "sampling 1,600 images from forward by ancestral in 4 evaluations takes 120.0" in text


def test_a_sampler_that_takes_longer_than_the_training_is_named(
    tiny_space: Path, tmp_path: Path
) -> None:
    sweep = rehearsal(tiny_space, tmp_path / "results", "evaluation.samples=16000")
    for trial in sweep.trials:
        leave(sweep, trial)
    (line,) = [each for each in judged(sweep).to_know if "T=8" in each]
    assert "sampling 16,000 images from" in line
    assert "in 8 evaluations takes 800.0 times its training" in line


def test_a_stranger_who_damages_the_plan_is_told_so(sweep: Sweep) -> None:
    opened = open_sweep(sweep.folder)
    for said in ({}, {"real": 1}, {**(opened.rehearsal or {}), "real": [{"trial": {}}]}):
        with pytest.raises(Exception, match="what it rehearses is damaged"):
            judge_rehearsal(replace(opened, rehearsal=said))

"""How likely a trained model finds held-out images."""

import functools

import torch
from torch import nn

from kod_bench.diffusion import DiffusionProcess, Likelihood, likelihood_of, likelihood_unit
from kod_bench.networks import make_runner
from kod_bench.seeds import derive_seed
from kod_bench.sweeps.space import EvaluationOptions
from kod_bench.sweeps.store.stopping import stop_check
from kod_bench.sweeps.trial.subject import Subject
from kod_bench.training import StoppedError

#: Held-out images behind it unless a space says more, and at once: each holds hundreds of pixels,
#: and costs some hundred evaluations with a gradient.
IMAGES = 32


def likelihood_images(
    options: EvaluationOptions, process: DiffusionProcess, pruned: bool = False
) -> int:
    """How many held-out images the likelihood of a model is of; 0 for none.

    Args:
        options: of scoring.
        process: of the model.
        pruned: whether the model was given up, which gets no more than the fewest.
    """
    said, unit = options.likelihood, likelihood_unit(process)
    if said == "none" or unit is None:
        return 0
    if said == "auto":
        return IMAGES if unit == "nats per phase" else 0
    return min(int(said), IMAGES) if pruned else int(said)


def held_out_likelihood(
    subject: Subject, network: nn.Module, device: torch.device, pruned: bool = False
) -> Likelihood | None:
    """Of the first held-out images; the same for every way of sampling. None if nobody asks.

    Raises:
        StoppedError: if the sweep was told to stop.
    """
    process = subject.process
    count = likelihood_images(subject.trial.evaluation_options, process, pruned)
    if not count:
        return None
    images = subject.dataset.test[:count]
    # Compiled networks are so for sampling, without gradients.
    predict = make_runner(network, device, False)
    generator = torch.Generator(device).manual_seed(derive_seed(subject.trial.seed, "likelihood"))
    should_stop = stop_check(subject.sweep)
    found: list[Likelihood] = []
    for some in torch.split(images, IMAGES):  # one size, so that numbers do not depend on it
        if should_stop():
            raise StoppedError("stopped while the likelihood was computed")
        found.append(likelihood_of(process, predict, some.to(device), generator))
    return functools.reduce(Likelihood.with_more, found)

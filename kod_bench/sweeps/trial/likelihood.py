"""How likely a trained model on the torus finds held-out angles."""

import torch
from torch import nn

from kod_bench.diffusion import TorusLikelihood, negative_log_likelihood, to_unit
from kod_bench.diffusion.phases import PhaseDiffusion
from kod_bench.networks import make_runner
from kod_bench.seeds import derive_seed
from kod_bench.sweeps.trial.subject import Subject

#: Held-out images behind it: each holds hundreds of phases, and costs some hundred evaluations.
IMAGES = 32


def held_out_likelihood(
    subject: Subject, network: nn.Module, device: torch.device
) -> TorusLikelihood | None:
    """Of the first held-out images, by the network's probability flow; the same for every sampler.

    None where it would compare with nothing: of processes on pixels, and of intensities.
    """
    process, images = subject.process, subject.dataset.test[:IMAGES]
    if not isinstance(process, PhaseDiffusion) or process.reading != "angle":
        return None
    # Compiled networks are so for sampling, without gradients.
    predict = make_runner(network, device, False)
    generator = torch.Generator(device).manual_seed(derive_seed(subject.trial.seed, "likelihood"))
    return negative_log_likelihood(process, predict, to_unit(images.to(device)), generator)

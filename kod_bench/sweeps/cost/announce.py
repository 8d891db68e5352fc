"""What a study for a cluster takes, said before it starts."""

from kod_bench.sweeps.space import SearchSpace

#: A profile of this name is asked for by name, and confirmed.
LARGE_PROFILE = "cluster"


def announcement(space: SearchSpace) -> str:
    """What a sweep takes, counted in images: known at once, on whatever machine it will run.

    How long that is, `dry_run` measures, once it has the images.
    """
    options, seeds = space.options, len(space.options.seeds)
    trained = sum(v.training.iterations * v.training.batch_size for v in space.variants)
    evaluations = sum(
        len(v.priors) * len(v.samplers) * sum(v.network_evaluations) for v in space.variants
    )
    resources = options.resources
    gpus = resources.workers_per_trial * resources.gpus_per_worker
    device = f"{gpus:g} GPUs" if gpus else f"{resources.workers_per_trial} workers"
    return (
        f"profile {space.profile}: {len(space.variants) * seeds:,} trials, each on {device}; "
        f"{trained * seeds:,} images through networks forward and back in training, "
        f"{evaluations * seeds * options.evaluation.samples:,} forward in sampling"
    )

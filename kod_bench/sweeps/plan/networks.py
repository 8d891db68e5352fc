"""Whether the networks of a search space can be built, and are of one size."""

from collections.abc import Mapping

import torch

from kod_bench.data import DatasetOptions
from kod_bench.diffusion import find_process
from kod_bench.errors import UsageError
from kod_bench.networks import make_network, parameter_count
from kod_bench.sweeps.space import SearchSpace


def guessed_channels(space: SearchSpace) -> dict[DatasetOptions, int]:
    """C of the images by what is asked for, without opening them."""
    return {v.dataset: 1 if v.dataset.color == "gray" else 3 for v in space.variants}


def check_networks(space: SearchSpace, channels: Mapping[DatasetOptions, int]) -> None:
    """Build every distinct network without memory; refuse sizes that do not fit together.

    Models with the same options are compared at equal size: beyond one percent, the table would
    compare networks. Where a model's own network section asks for another size, that is meant, and
    the report says so.

    Args:
        space: resolved.
        channels: C of the images, for each of the options in its variants.

    Raises:
        UsageError: naming the model, or the sizes.
    """
    # By what models share (sizes and image), then by what makes two networks different.
    counts: dict[tuple[object, ...], dict[tuple[object, ...], int]] = {}
    for variant in space.variants:
        options = variant.network
        process = find_process(variant.process)
        image = (channels[variant.dataset], variant.dataset.image_size)
        try:
            process.check_shape((image[0], *variant.dataset.image_shape))
        except ValueError as error:
            raise UsageError(f"{space.source}: {variant.label}: {error}") from error
        sizes = tuple(v for name, v in options if name != "variant")
        equals = counts.setdefault((*sizes, *image), {})
        planes = process.state_channels(image[0], variant.parameters)
        key = (options.variant, process.periodic, planes)
        if key in equals:
            continue
        try:
            with torch.device("meta"):
                network = make_network(
                    periodic=process.periodic,
                    channels=planes,
                    image_size=image[1],
                    steps=variant.steps,
                    **options.arguments(),
                )
        except ValueError as error:
            raise UsageError(f"{space.source}: network of {variant.label}: {error}") from error
        equals[key] = parameter_count(network)
    for equals in counts.values():
        small, large = min(equals.values()), max(equals.values())
        if large > 1.01 * small:
            raise UsageError(
                f"{space.source}: network: the compared models differ in size by more than 1 % "
                f"({small} to {large} parameters); widen the network"
            )

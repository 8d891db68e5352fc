"""The section of a search space that says how trained models are scored."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    SerializerFunctionWrapHandler,
    ValidationError,
    WrapValidator,
    model_serializer,
)

from kod_bench.evaluation import check_extractor
from kod_bench.sweeps.space.limits import BatchSize, Count, Samples, Section

#: With ``keep_samples: auto``, the samples of a trial are kept if all its ways take no more bytes.
AUTO_BYTES = 256 * 2**20

#: Options that there were not always, and what they mean where they are left out.
_LATER: dict[str, Any] = {"keep_samples": "auto", "likelihood": "auto"}


def _check_keep(value: Any, check: Callable[[Any], Any]) -> Any:
    try:
        return check(value)
    except ValidationError:  # pydantic's own would speak of each member of the union
        raise ValueError("must be auto, all, none or a number of images") from None


def _check_likelihood(value: Any, check: Callable[[Any], Any]) -> Any:
    try:
        return check(value)
    except ValidationError:
        raise ValueError("must be auto, none or a number of images from 2 on") from None


class EvaluationOptions(Section):
    """How a trained model is scored.

    Attributes:
        features: the extractor: "auto", "inception", "efficientnet-lite0", or your own as
            ``my_module:MyExtractor``.
        samples: images that are drawn from the model, each way of sampling.
        references: held-out images that they are compared with, at most.
        batch_size: images that are drawn, or looked at, at once.
        keep_samples: which samples of a finished trial stay in its folder: "all", "none", the
            first so many of each way, or "auto": all of a trial where they take at most 256 MiB,
            else none.
        likelihood: of how many held-out images the negative log-likelihood under each model is
            found, in bits per dimension, of angles in nats per phase; it takes some hundred
            evaluations with a gradient for each. "auto": of 32 for models of angles on the torus,
            and of no others; or "none".
    """

    features: Annotated[str, AfterValidator(check_extractor)] = "efficientnet-lite0"
    samples: Samples = 2048
    references: Samples = 2048
    batch_size: BatchSize = 128
    keep_samples: Annotated[Literal["auto", "all", "none"] | Count, WrapValidator(_check_keep)] = (
        "auto"
    )
    likelihood: Annotated[Literal["auto", "none"] | Samples, WrapValidator(_check_likelihood)] = (
        "auto"
    )

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """All options, but those that came later only where they are not their default.

        Trials are known by the hash of their options: what was planned before there was an option
        stays what it is.
        """
        found: dict[str, Any] = dump(self)
        return {k: v for k, v in found.items() if k not in _LATER or v != _LATER[k]}

    def kept(self, count: int, bytes_each: int, ways: int) -> int:
        """How many of the first images of each way stay.

        Args:
            count: images of a way.
            bytes_each: of an image.
            ways: of sampling the trial.
        """
        if self.keep_samples == "auto":
            return count if count * bytes_each * ways <= AUTO_BYTES else 0
        if self.keep_samples in ("all", "none"):
            return count if self.keep_samples == "all" else 0
        return min(count, int(self.keep_samples))

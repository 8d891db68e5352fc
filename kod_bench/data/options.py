"""What a search space may say about its data set."""

from typing import Literal

from pydantic import BaseModel, Field

DatasetName = Literal["fingerprints"]


class SyntheticOptions(BaseModel, extra="forbid", frozen=True):
    """How many synthetic images stand in where there are no real ones.

    Attributes:
        fingers: Number of different fingers.
        impressions: Number of prints of each finger.
        seed: Draws other fingers; results with different seeds are different data sets.
    """

    fingers: int = Field(default=40, ge=2, le=10_000)
    impressions: int = Field(default=4, ge=1, le=100)
    seed: int = Field(default=0, ge=0)


class DatasetOptions(BaseModel, extra="forbid", frozen=True):
    """Which images to prepare, and how.

    Attributes:
        name: The data set.
        image_size: Height and width of the prepared images in pixels.
        view: "patches" cuts squares at a known scale; "whole" shrinks each image to one square.
        scale: Patches only: the image is shrunk by this factor before patches are cut. At 0.5, a
            500 dpi print has about 4.5 pixels from ridge to ridge.
        test_share: Share of the groups (fingers), rounded up, that is held out for testing.
        max_patches_per_image: Patches only: keep at most so many, drawn evenly and reproducibly.
        synthetic: Used only where there is no folder of real images.
    """

    name: DatasetName
    image_size: int = Field(ge=8, le=512)
    view: Literal["patches", "whole"] = "patches"
    scale: float = Field(default=0.5, gt=0, le=1)
    test_share: float = Field(default=0.2, gt=0, le=0.5)
    max_patches_per_image: int | None = Field(default=None, ge=1)
    synthetic: SyntheticOptions = SyntheticOptions()

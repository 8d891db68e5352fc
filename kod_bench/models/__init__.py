"""One trained model: read from a trial, an exported or a diffusers folder; sampled and exported."""

from kod_bench.models.diffusers_folder import DiffusersModel
from kod_bench.models.drawable import Drawable, Drawing
from kod_bench.models.errors import ModelError
from kod_bench.models.model import Model
from kod_bench.models.opening import load
from kod_bench.models.trials import Permissions

__all__ = ["DiffusersModel", "Drawable", "Drawing", "Model", "ModelError", "Permissions", "load"]

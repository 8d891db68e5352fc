"""A search space to start from: a commented template, or a copy of another space."""

import re
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from kod_bench.atomic import atomic_write
from kod_bench.errors import UsageError
from kod_bench.sweeps.space.files import LOCAL_SPACES
from kod_bench.sweeps.space.limits import Name
from kod_bench.sweeps.space.schema import schema_text
from kod_bench.sweeps.space.yaml_file import parse_yaml

#: Beside the spaces, and named so in their first line, by which editors find it.
SCHEMA_FILE = "schema.json"
MODELINE = f"# yaml-language-server: $schema={SCHEMA_FILE}\n"
_MODELINES = re.compile(r"^#\s*yaml-language-server\s*:.*\n", re.MULTILINE)
_NAME = re.compile(r"^name[ \t]*:[ \t]*(\"[^\"\n]*\"|'[^'\n]*'|[^\s#]+)", re.MULTILINE)

TEMPLATE = """\
# What does this study ask? Say it here, and in `description`.
#   kod-bench sweep template --dry-run
#   kod-bench sweep template
# docs/search-spaces.md describes every section; `kod-bench spaces list` has more examples.

name: template
description: Kuramoto diffusion with local coupling against DDPM

# Which images: fingerprints, textures, terrain, cifar10, sphere, or folder:PATH for yours. Without
# `--data-dir`, built-in ones stand in where there are some (kod-bench data list).
dataset:
  name: fingerprints
  image_size: 32
  # view: whole             # shrink each image to one square, in place of cutting patches
  # color: rgb
  # augment: [horizontal-flip]

# For every model whose process has them. A key that can vary has a value or an axis: of
# {grid: [a, b]} every value is taken; {choice: [a, b]}, {uniform: [low, high]},
# {loguniform: [low, high]} and {int: [low, high]} are drawn from, which `search` must ask for.
parameters:
  steps: {grid: [25, 100]}
  # network_evaluations: [25, 10]   # trained once, sampled in each of these numbers

# By a name of yours: a process (blurring, ddpm, edm, flow-matching, heat, kuramoto, sgm, sphere,
# torus-flow, ve, wrapped), its parameters, and its own `dataset`, `network` or `training` where it
# needs others than the rest.
models:
  local:
    process: kuramoto
    coupling: local
    neighbourhood_radius: 5
    # coupling_strength: {grid: [0, 0.03, 0.12]}
    # priors: [matched, von-mises]  # the same model, sampled from each of them
  ddpm:
    process: ddpm
    # samplers: [ancestral, ddim]

# Draws configurations, by chance or (strategy: optuna) by the results so far.
# search: {strategy: random, trials: 20}

# `--profile NAME` lays one of these over all of the above; `auto` takes `workstation` where there
# is a GPU, else `laptop`; `cluster` is asked for by name.
profiles:
  # A look at every part in some minutes, too short for conclusions.
  laptop:
    network: {width: 16, multipliers: [1, 2, 2], blocks: 1}
    training:
      iterations: 600
      batch_size: 32
      learning_rate: 1e-3
      warmup: 50
      ema_decay: 0.995
      checkpoint_every: 100
      log_every: 10
    evaluation: {samples: 256, references: 256, batch_size: 128}
    seeds: [0]

  # The same in about ten minutes on one GPU.
  workstation:
    dataset: {image_size: 64}
    network: {width: 32, multipliers: [1, 2, 2], blocks: 1}
    training:
      iterations: 3000
      batch_size: 64
      learning_rate: 4e-4
      warmup: 100
      ema_decay: 0.998
      checkpoint_every: 500
      log_every: 50
    evaluation: {samples: 512, references: 1000, batch_size: 256}
    resources: {cpus_per_worker: 2, gpus_per_worker: 0.5}
    seeds: [0]

  cluster:
    network: {width: 64, multipliers: [1, 2, 2], blocks: 2, attention: [16]}
    training:
      iterations: 100000
      batch_size: 128
      learning_rate: 2e-4
      warmup: 1000
      ema_decay: 0.9995
      checkpoint_every: 2000
      log_every: 100
    evaluation: {features: auto, samples: 10000, references: 10000, batch_size: 256}
    resources: {cpus_per_worker: 4, gpus_per_worker: 1}
    seeds: [0, 1, 2]
"""


def write_space(name: str, source: Path | None) -> Path:
    """Write a search space of a name into ``./search_spaces/``, and the schema beside it.

    A schema that is there stays as it is: it may be of another version, or a plug-in's.

    Args:
        name: of the space and its file.
        source: the space that is copied, comments included; None for the template.

    Returns:
        The file.

    Raises:
        UsageError: if the name is none, there is such a space, or it cannot be written.
    """
    path = _free_path(name)
    try:
        text = TEMPLATE if source is None else source.read_text(encoding="utf-8-sig")
        old = "template" if source is None else source.stem
        content = MODELINE + _renamed(_MODELINES.sub("", text), name, old, source)
        path.parent.mkdir(parents=True, exist_ok=True)
        schema = path.parent / SCHEMA_FILE
        for file, said in ((path, content), (schema, schema_text())):
            if not file.exists():
                with atomic_write(file) as opened:
                    opened.write(said.encode())
    except OSError as error:
        raise UsageError(
            f"{error.filename or path}: cannot be written or copied ({error.strerror})"
        ) from error
    return path


def _free_path(name: str) -> Path:
    for suffix in (".yaml", ".yml"):
        if name.endswith(suffix):
            raise UsageError(f"{name}: must be a name, without {suffix}")
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise UsageError(
            f"{name!r}: a name has letters, digits and . _ -, begins with a letter or digit, and "
            "is at most 60 long"
        ) from error
    for suffix in (".yaml", ".yml"):
        if (taken := LOCAL_SPACES / f"{name}{suffix}").exists():
            raise UsageError(f"{taken}: exists already; choose another name")
    return LOCAL_SPACES / f"{name}.yaml"


def _renamed(text: str, name: str, stem: str, source: Path | None) -> str:
    """The text of a space under another name, in its commands, too."""
    found = _NAME.search(text)
    old = str(parse_yaml(found[1], "name")) if found else stem
    # A name such as 1 or true is no text in YAML.
    written = name if parse_yaml(name, "name") == name else f"'{name}'"
    text = _NAME.sub(f"name: {written}", text, count=1)
    former = "|".join(re.escape(each) for each in sorted({stem, old}, key=len, reverse=True))
    command = re.compile(rf"(kod-bench (?:sweep|spaces \w+) )(?:{former})(?![\w.-])")
    text = command.sub(lambda match: f"{match[1]}{name}", text)
    if found is None:
        where = source or "template"
        raise UsageError(f"{where}: has no line 'name: ...' that could be changed; copy it by hand")
    return text

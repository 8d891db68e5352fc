"""An extractor that keeps what it has computed, so that whoever scores again need not compute it.

A file holds the features of the images of one call. Its name is the hash of those images and of who
computed them: other images, another extractor or other code never find it.
"""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from kod_bench.atomic import atomic_write
from kod_bench.errors import one_line
from kod_bench.evaluation.features import FeatureExtractor, Features
from kod_bench.inside import MOST_CACHE, open_file

_log = logging.getLogger(__name__)


class KeptFeatures(FeatureExtractor):
    """Features of an extractor, read where they have been computed before.

    Args:
        extractor: computes what is not there.
        folder: of the files.
        code: what else the numbers depend on: versions of the code.
        fetch: told the name of a file that may be elsewhere and not here.
        put: told the name of a file that has been written.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        folder: Path,
        code: str,
        *,
        fetch: Callable[[str], None] = lambda _: None,
        put: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = extractor.name
        self._extractor = extractor
        self._folder = folder
        self._code = code
        self._fetch, self._put = fetch, put

    def __call__(self, images: Tensor) -> Features:
        """(N, C, H, W) uint8 with one or three channels -> (N, D) float64."""
        name = f"features-{self._key(images)}.npz"
        path = self._folder / name
        if not path.exists():
            self._fetch(name)
        if (kept := _read(path, len(images))) is not None:
            return kept
        features = self._extractor(images)
        try:
            save: Callable[..., None] = np.savez
            with atomic_write(path) as file:
                save(file, sha256=_digest(features), features=features)
        except OSError as error:  # a full disk, perhaps: the scores need no file
            _log.warning("features are not kept: %s", one_line(error))
        else:
            self._put(name)
        return features

    def _key(self, images: Tensor) -> str:
        plain = images.cpu().contiguous().numpy()
        said = json.dumps([self.name, self._code, str(plain.dtype), plain.shape])
        digest = hashlib.sha256(said.encode())
        digest.update(plain.data.cast("B"))
        return digest.hexdigest()[:32]


def _read(path: Path, count: int) -> Features | None:
    """What lies there, its hash compared; None if there is nothing, or it is damaged."""
    try:
        with open_file(path, MOST_CACHE) as file, np.load(file, allow_pickle=False) as archive:
            features: Features = archive["features"]
            if len(features) != count or _digest(features) != str(archive["sha256"]):
                raise ValueError("its numbers have another hash")
            return features
    except FileNotFoundError:
        return None
    except MemoryError:
        raise  # of this process, not of the file
    except Exception as error:  # a damaged archive fails in many ways
        _log.warning("%s is damaged and is computed again: %s", path, one_line(error))
        return None


def _digest(features: Features) -> str:
    plain = np.ascontiguousarray(features)
    digest = hashlib.sha256(f"{plain.dtype} {plain.shape}\n".encode())
    digest.update(plain.data.cast("B"))
    return digest.hexdigest()

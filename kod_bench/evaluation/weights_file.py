"""A file of published weights: named by the user, in the cache, or fetched, and checked by hash."""

import hashlib
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from kod_bench.atomic import atomic_write
from kod_bench.evaluation.features import ExtractorError
from kod_bench.storage import local_path

_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class WeightsFile:
    """Where a file is published, and how to know it.

    Attributes:
        network: whose weights, in messages.
        name: of the file, in the cache, too.
        url: where it is published.
        sha256: of its bytes.
        variable: the environment variable with its path, for who keeps it elsewhere.
    """

    network: str
    name: str
    url: str
    sha256: str
    variable: str

    def find(self) -> Path:
        """Where it is: as named by the variable, in the cache, or downloaded there.

        Raises:
            ExtractorError: if it is nowhere, or the file is another one.
        """
        if named := os.environ.get(self.variable):
            path = local_path(named)
            if not path.is_file():
                raise ExtractorError(f"{self.variable}={named}: there is no such file")
            return self._verified(path)
        from kod_bench.data.cache import default_cache_dir
        from kod_bench.data.cache_folder import check_cache, check_own

        path = default_cache_dir() / self.name
        check_cache(path.parent)
        check_own(path)
        if not path.is_file():
            self._download(path)
        return self._verified(path)

    def _verified(self, path: Path) -> Path:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.sha256:
            raise ExtractorError(
                f"{path}: is not {self.name} (sha256 {found[:12]}..., should be "
                f"{self.sha256[:12]}...); remove it, or replace it with {self.url}"
            )
        return path

    def _download(self, path: Path) -> None:
        from kod_bench.data.cache_folder import file_mode, own_folder

        try:
            own_folder(path.parent)
            with urllib.request.urlopen(self.url, timeout=_TIMEOUT_SECONDS) as response:
                digest = hashlib.sha256()
                with atomic_write(path, file_mode()) as file:
                    while block := response.read(1 << 20):
                        digest.update(block)
                        file.write(block)
                    if digest.hexdigest() != self.sha256:
                        raise OSError("what came is not the file with the known sha256")
        except OSError as error:  # urllib's errors and timeouts are OSErrors too
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise ExtractorError(
                f"the {self.network} weights are not there and cannot be fetched ({reason}); put "
                f"{self.url} at {path}, or name the file in {self.variable}"
            ) from error

"""An S3-compatible server on the loopback address, for tests of what reads and writes there."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

BUCKET = "kod-bench-tests"
SECRET = "a-secret-that-nobody-may-write-down"

VARIABLES = {
    "AWS_ACCESS_KEY_ID": "test-access-key",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def serve_bucket(address: str = "127.0.0.1") -> Iterator[str]:
    """Run a server with one empty bucket; gives its URL."""
    with socket.socket() as free:
        free.bind((address, 0))
        port = free.getsockname()[1]
    url = f"http://{address}:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", address, "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                put = urllib.request.Request(f"{url}/{BUCKET}", method="PUT")
                urllib.request.urlopen(put, timeout=5).close()
                break
            except (OSError, urllib.error.URLError):
                assert server.poll() is None, "the S3 server ended at once"
                assert time.monotonic() < deadline, "the S3 server did not start"
                time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait()


@contextmanager
def bucket_in_environment(url: str) -> Iterator[None]:
    """Point this process and its children at a server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        for name, value in VARIABLES.items():
            patch.setenv(name, value)
        yield

"""Object stores on the loopback address, for tests of what reads and writes there."""

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

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
def serve_bucket(address: str = "127.0.0.1", inside: Sequence[str] = ()) -> Iterator[str]:
    """Run a server with one empty bucket; gives its URL.

    Args:
        address: where it listens, at a port of its own.
        inside: begins a command that runs another one where the address exists, if not here.
    """
    port = 5000
    if not inside:
        with socket.socket() as free:
            free.bind((address, 0))
            port = free.getsockname()[1]
    url = f"http://{address}:{port}"
    server = subprocess.Popen(
        [*inside, sys.executable, "-m", "moto.server", "-H", address, "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not _made_bucket(url, inside):
            assert server.poll() is None, "the S3 server ended at once"
            assert time.monotonic() < deadline, "the S3 server did not start"
            time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait()


def _made_bucket(url: str, inside: Sequence[str]) -> bool:
    if inside:
        script = f"from tests.object_store import _made_bucket as m; exit(not m({url!r}, ()))"
        root = Path(__file__).parents[1]
        return not subprocess.run([*inside, sys.executable, "-c", script], cwd=root).returncode
    try:
        put = urllib.request.Request(f"{url}/{BUCKET}", method="PUT")
        urllib.request.urlopen(put, timeout=5).close()
    except (OSError, urllib.error.URLError):
        return False
    return True


@contextmanager
def object_store(scheme: str, folder: Path) -> Iterator[str]:
    """Run a server with one empty bucket, and point this process and its children at it.

    Args:
        scheme: ``s3`` or ``gs``.
        folder: for credentials that are a file.

    Yields:
        The bucket's address.
    """
    if scheme == "s3":
        with serve_bucket() as url, bucket_in_environment(url):
            yield f"s3://{BUCKET}"
        return
    with _serve_google_bucket() as url, pytest.MonkeyPatch.context() as patch:
        # Google's client takes the address of a server from this variable only.
        patch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", url)
        patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(_service_account(folder)))
        yield f"gs://{BUCKET}"


@contextmanager
def _serve_google_bucket() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "gcp_storage_emulator", "start", "--host=127.0.0.1",
         f"--port={port}", "--in-memory", f"--default-bucket={BUCKET}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not _answers(port):
            assert server.poll() is None, "the Google server ended at once"
            assert time.monotonic() < deadline, "the Google server did not start"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


def _service_account(folder: Path) -> Path:
    """A key file that Google's client signs its requests with; the server believes them all."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = folder / "service-account.json"
    account = {
        "type": "service_account",
        "private_key_id": SECRET,
        "private_key": key.decode(),
        "client_email": "tests@example.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    path.write_text(json.dumps(account))
    return path


class Gate:
    """Stands before a server: while it is shut, the server is away and refuses connections.

    Args:
        url: of the server, which keeps what it has.
    """

    def __init__(self, url: str) -> None:
        self._behind = (str(urlsplit(url).hostname), int(urlsplit(url).port or 80))
        self._connections: set[socket.socket] = set()
        self._door: socket.socket | None = None
        self._port = 0
        self.open()

    @property
    def url(self) -> str:
        """Where the server seems to be."""
        return f"http://127.0.0.1:{self._port}"

    def open(self) -> None:
        """The server is there."""
        assert self._door is None
        self._door = socket.create_server(("127.0.0.1", self._port))
        self._port = self._door.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._door,), daemon=True).start()

    def shut(self) -> None:
        """The server is away, for open connections too."""
        assert self._door is not None
        self._door.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._door.close()
        self._door = None
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, door: socket.socket) -> None:
        with suppress(OSError):
            while True:
                front, _ = door.accept()
                back = socket.create_connection(self._behind)
                self._connections |= {front, back}
                for source, sink in ((front, back), (back, front)):
                    threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(65536):
                sink.sendall(content)
            sink.shutdown(socket.SHUT_WR)
        self._connections.discard(source)


@contextmanager
def bucket_in_environment(url: str) -> Iterator[None]:
    """Point this process and its children at a server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        for name, value in VARIABLES.items():
            patch.setenv(name, value)
        yield

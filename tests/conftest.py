"""What all tests share: the built package, hypothesis profiles, an S3 server, Dask clusters, real vectors."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

_CHECKOUT = Path(__file__).resolve().parents[1]
if not list((_CHECKOUT / "dask_annoy").glob("_native.*.so")):
    # `python -m pytest` puts the checkout first, where the package is not built; the installed one is meant.
    sys.path[:] = [entry for entry in sys.path if Path(entry or os.curdir).resolve() != _CHECKOUT]
    os.environ["PYTHONSAFEPATH"] = "1"  # nor are the interpreters that tests start to look there first

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell's background job ignores Ctrl-C, and so would all that tests start to interrupt it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

import dask  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from distributed import Client, LocalCluster  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

# Azurite's account and key are public: they are the same in every installation.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

settings.register_profile(
    "default", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.register_profile("ci", settings.get_profile("default"), max_examples=100, print_blob=True)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--faults",
        choices=("short", "full", "large"),
        default="short",
        help="tests/faults: some faults of each kind, all, or (with -m large) 20,000 damaged files and 3 GB of vectors",
    )


class Bucket(NamedTuple):
    """An empty bucket: a prefix for URLs, and what fsspec needs to get in."""

    url: str
    options: dict[str, Any]


@pytest.fixture(scope="session", autouse=True)
def _dask_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    scratch = str(tmp_path_factory.mktemp("dask-scratch"))
    with dask.config.set({"temporary-directory": scratch, "distributed.comm.timeouts.connect": "60s"}):
        yield


@pytest.fixture(scope="session")
def s3_options() -> Iterator[dict[str, Any]]:
    """Storage options for a real S3 server in this process; it has a bucket named bucket."""
    server_module = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"endpoint_url": f"http://{host}:{port}", "key": "AKIAKEY", "secret": "S3CRET-S3CRET"}
    s3fs.S3FileSystem(**options).mkdir("bucket")
    yield options
    server.stop()


@pytest.fixture
def s3(s3_options: dict[str, Any]) -> Bucket:
    """A bucket of the test's own."""
    import s3fs

    name = f"bucket-{uuid.uuid4().hex}"
    s3fs.S3FileSystem(**s3_options).mkdir(name)
    return Bucket(f"s3://{name}", s3_options)


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Storage options for Azurite, Microsoft's own emulation of Blob storage; with a container named indexes."""
    try:
        import adlfs  # noqa: F401
    except ImportError:
        _do_without("adlfs (the extra azure) is not installed")
    command = _azurite_command()
    folder = tmp_path_factory.mktemp("azurite")
    log = folder / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, "--blobPort", "0", "--location", str(folder), "--skipApiVersionCheck", "--silent",
             "--disableTelemetry"],
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        port = _port_of(server, log)
        connection = (
            f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_KEY};"
            f"BlobEndpoint=http://127.0.0.1:{port}/{_ACCOUNT};"
        )
        options = {"connection_string": connection}
        import fsspec

        fsspec.filesystem("abfs", **options).mkdir("indexes")
        yield options
    finally:
        server.terminate()
        server.wait()


def _azurite_command() -> list[str]:
    installed = shutil.which("azurite-blob")
    if installed:
        return [installed]
    npm = shutil.which("npm")
    if npm is None:
        _do_without("npm is not installed, and Azurite comes from it")
    # In npm's own cache after the first time.
    made = subprocess.run(
        [npm, "exec", "--yes", "--package=azurite", "--", "which", "azurite-blob"],
        capture_output=True, text=True, timeout=220,
    )  # fmt: skip
    if made.returncode:
        _do_without(f"npm could not install Azurite: {made.stderr.strip().splitlines()[-1:]}")
    return [made.stdout.strip().splitlines()[-1]]


def _do_without(reason: str) -> NoReturn:
    if os.environ.get("DASK_ANNOY_REQUIRE_AZURITE"):
        pytest.fail(reason)
    pytest.skip(reason)


def _port_of(server: subprocess.Popen[bytes], log: Path) -> int:
    while "successfully listens on" not in log.read_text():  # pytest-timeout ends what never comes true
        if server.poll() is not None:
            raise RuntimeError(f"Azurite ended: {log.read_text()}")
        time.sleep(0.05)
    address = re.search(r"successfully listens on http://[0-9.]+:([0-9]+)", log.read_text())
    assert address is not None
    return int(address[1])


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    """Two worker processes of one thread each. Tests that kill workers make their own."""
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as made:
        yield made


@pytest.fixture(scope="session")
def process_client(cluster: LocalCluster) -> Iterator[Client]:
    """A client of the two processes; not the default one."""
    with Client(cluster, set_as_default=False) as client:
        yield client


@pytest.fixture(scope="session")
def threaded_client() -> Iterator[Client]:
    """A client of one worker in this process; not the default one."""
    with Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0", set_as_default=False
    ) as client:
        yield client


@pytest.fixture(scope="session")
def digits() -> NDArray[np.float32]:
    """Real vectors, 1797 × 64: pictures of handwritten digits."""
    datasets = pytest.importorskip("sklearn.datasets")
    return np.asarray(datasets.load_digits().data, np.float32)


@pytest.fixture(scope="session")
def text_vectors() -> NDArray[np.float32]:
    """Real vectors, about 1700 × 64: the paragraphs of Python's own language reference, embedded."""
    from pydoc_data.topics import topics

    from dask_annoy.demo.embedding import TextEmbedding

    paragraphs = [part for topic in sorted(topics) for part in topics[topic].split("\n\n") if len(part) > 60]
    return TextEmbedding.fit(paragraphs, width=64).transform(paragraphs)

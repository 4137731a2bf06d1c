"""What all tests share: the built package, hypothesis profiles, an S3 server, Dask clusters, real vectors."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_CHECKOUT = Path(__file__).resolve().parents[1]
if not list((_CHECKOUT / "dask_annoy").glob("_native.*.so")):
    # `python -m pytest` puts the checkout first, where the package is not built; the installed one is meant.
    sys.path[:] = [entry for entry in sys.path if Path(entry or os.curdir).resolve() != _CHECKOUT]
    os.environ["PYTHONSAFEPATH"] = "1"  # nor are the interpreters that tests start to look there first

import dask  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from distributed import Client, LocalCluster  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

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

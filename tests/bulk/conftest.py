"""A Ray cluster that the tests share, because starting it takes longer than most tests."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def two_cpus() -> Iterator[str]:
    """The address of a cluster that has one node with two CPUs."""
    from ray.cluster_utils import Cluster  # not at the top: `make test` has no Ray

    node = {"num_cpus": 2, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    yield cluster.address
    cluster.shutdown()

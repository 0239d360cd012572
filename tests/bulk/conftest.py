"""A cluster of Ray that tests share, because its start takes longer than most of them."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def two_cpus() -> Iterator[str]:
    """The address of a cluster of one node with two CPUs."""
    from ray.cluster_utils import Cluster  # in here, as `make test` has no Ray

    node = {"num_cpus": 2, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    yield cluster.address
    cluster.shutdown()

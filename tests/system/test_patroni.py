"""A cluster under Patroni whose primary freezes, as `make proof ARGS=failover` does it many times."""

import pytest

from proof import failover
from tests.support import patroni

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(patroni.why_not() is not None, reason=str(patroni.why_not())),
]


async def test_the_first_204_comes_within_3_s_of_the_election_though_the_frozen_primary_stands_first() -> None:
    async with failover.clustered(is_synchronous=True) as cluster:
        finding = await failover.freeze(cluster, place="first")

    print(*finding.notes, sep="\n")  # noqa: T201 - shown where it fails
    assert {} == finding.problems
    assert (0, 0) == (finding.lost, finding.doubled)

"""A cluster that is found from measured times: what it explains, what it foresees, what it withstands."""

import numpy as np
import pytest
import scipy.optimize

from steepest.communication import (
    AllReduce,
    AllToAll,
    Cluster,
    Host,
    Measurement,
    ParameterServer,
    Protocol,
    Ring,
    fit,
    predict,
)
from steepest.communication._nonnegative import nonnegative_least_squares
from steepest.errors import InvalidArgument

SCHEMES = (AllToAll(), ParameterServer(server=0), Ring(), AllReduce())
NETWORK = Cluster(
    8, latency=5e-5, bandwidth=1e9, protocol=Protocol(overhead=1e-5, pieces=((65536, 3e8),), incast=1.3)
)  # fmt: skip
MACHINE = Cluster(
    8,
    latency=3e-4,
    bandwidth=float("inf"),
    host=Host(overhead=1.5e-4, bandwidth=3e9, pieces=((65536, 6e9),)),
    protocol=Protocol(factors={"Ring": (1.2, 0.9), "AllToAll": (1.1, 1.1)}),
)

# us by bytes: NVIDIA's public tables of nccl-tests' all-reduce, 16 GPUs.
H100 = {8: 69.12, 1 << 20: 123.2, 1 << 24: 298.1, 1 << 27: 870.3, 1 << 30: 4607.6, 1 << 34: 66132}
A100 = {8: 164.3, 1 << 20: 309.4, 1 << 27: 3912.9, 1 << 31: 51406}


def timed(cluster, sizes, counts, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    hosts = None if cluster.host is None else 1
    return [
        Measurement(scheme, n, p, predict(scheme, cluster, p, n) * float(np.exp(noise * rng.normal())), hosts=hosts)
        for scheme in SCHEMES for n in counts for p in sizes
    ]  # fmt: skip


def errors(cluster, measurements):
    return np.array([
        abs(predict(each.scheme, cluster, each.parameters, each.workers) / each.seconds - 1) for each in measurements
    ])  # fmt: skip


@pytest.mark.parametrize("true", [NETWORK, MACHINE], ids=["network", "machine"])
def test_other_sizes_and_numbers_of_workers_are_foreseen(true):
    fitted = fit(timed(true, [1, 300, 3000, 30_000, 300_000, 3_000_000], [2, 4, 8]))
    unseen = timed(true, [1000, 100_000, 1_000_000, 10_000_000], [3, 6])
    assert np.median(errors(fitted, unseen)) < 0.05
    assert errors(fitted, unseen).max() < 0.35


def test_incast_is_found_where_servers_meet_it():
    assert fit(timed(NETWORK, [1, 300, 3000, 30_000, 300_000, 3_000_000], [2, 4, 8])).protocol.incast > 1.1


def test_two_measurements_are_enough_for_a_latency_and_a_bandwidth():
    true = Cluster(4, latency=1e-3, bandwidth=1e8)
    fitted = fit([Measurement(Ring(), 4, p, predict(Ring(), true, p)) for p in (10, 10**6)])
    assert predict(Ring(), fitted, 10**5) == pytest.approx(predict(Ring(), true, 10**5), rel=1e-6)


def test_noise_and_outliers_change_little():
    measured = timed(MACHINE, [1, 300, 3000, 30_000, 300_000, 3_000_000], [2, 4, 8], noise=0.15)
    wrong = [
        Measurement(m.scheme, m.workers, m.parameters, m.seconds * (8 if i % 9 == 0 else 1), hosts=m.hosts)
        for i, m in enumerate(measured)
    ]
    unseen = timed(MACHINE, [1000, 100_000, 1_000_000], [3, 6])
    assert np.median(errors(fit(measured), unseen)) < 0.1
    assert np.median(errors(fit(wrong), unseen)) < 0.15


@pytest.mark.parametrize(("table", "most", "median"), [(H100, 0.02, 0.01), (A100, 0.12, 0.03)], ids=["H100", "A100"])
def test_public_tables_are_explained_where_two_parameters_err_by_a_fifth(table, most, median):
    measured = [Measurement(AllReduce(), 16, size // 4, us * 1e-6) for size, us in table.items()]
    found = errors(fit(measured), measured)
    assert (found.max(), np.median(found)) < (most, median)
    size, us = np.array(list(table), dtype=float), np.array(list(table.values()))
    two = scipy.optimize.nnls(np.stack([1 / us, size / us], axis=1), np.ones(len(us)))[0]
    assert np.median(abs((two[0] + two[1] * size) / us - 1)) > 5 * np.median(found)


def test_a_fitted_cluster_says_whether_workers_shared_a_machine():
    assert fit(timed(NETWORK, [10, 1000, 100_000], [4])).host is None
    shared = fit(timed(MACHINE, [10, 1000, 100_000], [2, 4])).host
    assert shared is not None
    assert shared.workers is None
    two = [Measurement(Ring(), 4, p, 1e-3 + p * 1e-8, hosts=2) for p in (1, 1000, 10**6)]
    assert fit(two).host.workers == 2


def test_measurements_of_one_worker_say_nothing():
    alone = [Measurement(Ring(), 1, p, 1e-6) for p in (1, 10)]
    with pytest.raises(InvalidArgument, match="at least two"):
        fit(alone)


@pytest.mark.parametrize("seed", range(20))
def test_nonnegative_least_squares_are_scipys(seed):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(12, 6)) * 10.0 ** rng.integers(-6, 6, size=6)
    matrix[:, 3] = matrix[:, 2] if seed % 2 else 0.0  # a column twice, or of zeros
    target = rng.normal(size=12)
    found, (expected, residual) = nonnegative_least_squares(matrix, target), scipy.optimize.nnls(matrix, target)
    assert (found >= 0).all()
    np.testing.assert_allclose(matrix @ found, matrix @ expected, atol=1e-9 * (1 + np.abs(target).max()))
    assert np.linalg.norm(matrix @ found - target) <= residual * (1 + 1e-9)

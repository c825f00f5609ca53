import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_memory.embedders.erf import ERF_ERROR_MAX, erf


def test_erf_stays_within_its_stated_error_over_a_dense_grid() -> None:
    x = np.linspace(-6, 6, 200_001, dtype=np.float32)
    exact = np.array([math.erf(float(value)) for value in x])
    assert float(np.abs(erf(x) - exact).max()) <= ERF_ERROR_MAX


@given(st.floats(width=32, allow_nan=False))
def test_erf_is_odd_bounded_and_close_everywhere(value: float) -> None:
    there, back = erf(np.array([value, -value], np.float32))
    assert there == -back
    assert -1 <= there <= 1
    assert abs(float(there) - math.erf(value)) <= ERF_ERROR_MAX


def test_erf_keeps_nan_and_leaves_its_input_alone() -> None:
    x = np.array([float("nan"), 0.5], np.float32)
    assert np.isnan(erf(x)[0])
    assert x[1] == np.float32(0.5)

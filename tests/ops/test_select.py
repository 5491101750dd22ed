import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import TypeMismatch
from codesign.ir import Bounds, IntType, TensorType, evaluate
from codesign.ops import Select
from tests.models import I8, U8, random_feeds, random_skipping_graph

MAP = TensorType((3, 4, 5), U8)
GATE = TensorType((1, 1, 1), I8)


@given(st.integers(-129, 128), st.integers(0, 9))
def test_each_frame_is_one_of_the_two(threshold, seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(0, 256, (6, 3, 4, 5)) for _ in range(2))
    gate = rng.integers(-128, 128, (6, 1, 1, 1))
    got = Select(threshold).run(a, b, gate)
    for i in range(6):
        np.testing.assert_array_equal(got[i], a[i] if gate[i, 0, 0, 0] >= threshold else b[i])


def test_type_and_bounds():
    assert Select(3).infer(MAP, TensorType((3, 4, 5), IntType(4, False)), GATE) == MAP
    a, b = Bounds(np.array([1, 2]), np.array([9, 4])), Bounds(np.array([0, 3]), np.array([5, 5]))
    found = Select(0).bounds(a, b, Bounds(np.array([0]), np.array([1])))
    assert (found.low.tolist(), found.high.tolist()) == ([0, 2], [9, 5])
    assert Select(0).macs(MAP, MAP, GATE) == 0 and repr(Select(-3)) == "Select(threshold=-3)"


@pytest.mark.parametrize(
    ("types", "message"),
    [
        (
            (MAP, TensorType((3, 4, 6), U8), GATE),
            r"inputs are u8\[3,4,5\] and u8\[3,4,6\], expected two maps of one",
        ),
        (
            (MAP, TensorType((3, 4, 5), I8), GATE),
            r"inputs are u8 and i8, expected both signed or both unsigned",
        ),
        ((MAP, MAP, MAP), r"the gate is u8\[3,4,5\], expected one number: \[1,1,1\]"),
    ],
)
def test_refusals(types, message):
    with pytest.raises(TypeMismatch, match=message):
        Select(0).infer(*types)


def test_fast_is_the_reference():
    graph = random_skipping_graph(4)
    feeds = random_feeds(graph, batch=4)
    for fast, plain in zip(
        evaluate(graph, feeds).values(), evaluate(graph, feeds, reference=True).values(), strict=True
    ):
        np.testing.assert_array_equal(fast, plain)

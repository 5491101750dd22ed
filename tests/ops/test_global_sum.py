import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import TypeMismatch
from codesign.fast import kernels
from codesign.ir import Bounds, TensorType
from codesign.ops import GlobalSum
from tests.models import I8, U8, Builder


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.sampled_from([I8, U8]), st.integers(0, 99))
def test_every_pixel_counts_once(h, w, c, elem, seed):
    b = Builder(seed)
    b.add("y", GlobalSum((h, w)), b.input("x", (h, w, c), elem))
    graph = b.graph(("y",))
    x = np.random.default_rng(seed).integers(elem.min, elem.max + 1, (2, h, w, c))
    wanted = [[[[sum(int(v) for v in x[n, :, :, k].reshape(-1)) for k in range(c)]]] for n in range(2)]
    np.testing.assert_array_equal(GlobalSum((h, w)).run(x), wanted)
    np.testing.assert_array_equal(kernels(graph)["y"](x), wanted)
    proven, type_ = graph.bounds()["y"], graph.types()["y"]
    assert (proven.low == type_.elem.min).all() or elem is I8
    assert (proven.low <= wanted).all() and (np.array(wanted) <= proven.high).all()


def test_the_proven_range_is_reached():
    op = GlobalSum((3, 4))
    proven = op.bounds(Bounds(np.array([-128, 0]), np.array([127, 255])))
    for value, end in (([-128, 0], proven.low), ([127, 255], proven.high)):
        np.testing.assert_array_equal(op.run(np.broadcast_to(value, (1, 3, 4, 2)))[0, 0, 0], end)


def test_types():
    op = GlobalSum((64, 64))
    assert str(op.infer(TensorType((64, 64, 5), U8))) == "u20[1,1,5]"
    assert repr(op) == "GlobalSum(size=64x64)" and op.macs(TensorType((64, 64, 5), U8)) == 0
    with pytest.raises(TypeMismatch, match=r"input is i8\[64,32,5\], expected a map of 64x64"):
        op.infer(TensorType((64, 32, 5), I8))

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import TypeMismatch
from codesign.fast import kernels
from codesign.ir import Bounds, IntType, TensorType
from codesign.ops import Mix
from tests.models import I8, U8, Builder


@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 5),
    st.sampled_from([I8, U8]),
    st.integers(0, 99),
)
def test_equals_the_definition_number_by_number(h, w, c, parts, elem, seed):
    b, op = Builder(seed), Mix(parts)
    b.add("y", op, b.input("x", (h, w, parts * c), elem), b.input("g", (1, 1, parts * c), U8))
    graph, rng = b.graph(("y",)), np.random.default_rng(seed)
    x = rng.integers(elem.min, elem.max + 1, (2, h, w, parts * c))
    g = rng.choice([0, 255, 1, *range(256)], (2, 1, 1, parts * c))
    wanted = np.zeros((2, h, w, c), np.int64)
    for n, y, z, j in np.ndindex(*wanted.shape):
        for k in range(parts):
            wanted[n, y, z, j] += int(g[n, 0, 0, k * c + j]) * int(x[n, y, z, k * c + j])
    np.testing.assert_array_equal(op.run(x, g), wanted)
    np.testing.assert_array_equal(kernels(graph)["y"](x, g), wanted)
    proven = graph.bounds()["y"]
    assert (proven.low <= wanted).all() and (wanted <= proven.high).all()


def test_the_proven_range_is_reached():
    op, ends = Mix(2), Bounds(np.array([-128, 3]), np.array([127, 5]))
    proven = op.bounds(ends, Bounds(np.array([0, 0]), np.array([255, 9])))
    assert op.run(np.full((1, 1, 1, 2), [-128, 3]), np.full((1, 1, 1, 2), [255, 0])) == proven.low
    assert op.run(np.full((1, 1, 1, 2), [127, 5]), np.full((1, 1, 1, 2), [255, 9])) == proven.high


@pytest.mark.parametrize(
    ("op", "gates", "text"),
    [
        (Mix(4), TensorType((1, 1, 6), U8), r"i8\[4,5,6\], expected \[H,W,C\] with channels in multiples of parts=4"),
        (Mix(0), TensorType((1, 1, 6), U8), r"expected \[H,W,C\] with channels in multiples of parts=0"),
        (Mix(2), TensorType((1, 1, 3), U8), r"gates are u8\[1,1,3\], expected \[1,1,6\]"),
        (Mix(2), TensorType((4, 5, 6), U8), r"gates are u8\[4,5,6\], expected \[1,1,6\]"),
        (Mix(2), TensorType((1, 1, 6), I8), "gates are i8, expected at most u8"),
        (Mix(2), TensorType((1, 1, 6), IntType(9, False)), "gates are u9, expected at most u8"),
    ],
)  # fmt: skip
def test_refuses(op, gates, text):
    with pytest.raises(TypeMismatch, match=text):
        op.infer(TensorType((4, 5, 6), I8), gates)


def test_types_and_macs():
    x, gates = TensorType((4, 5, 6), I8), TensorType((1, 1, 6), U8)
    assert str(Mix(2).infer(x, gates)) == "i17[4,5,3]"
    assert Mix(2).macs(x, gates) == 120 and repr(Mix(2)) == "Mix(parts=2)"

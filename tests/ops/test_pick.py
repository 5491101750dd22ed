import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import TypeMismatch
from codesign.fast import kernels
from codesign.ir import Bounds, TensorType
from codesign.ops import Mix, Pick
from tests.models import I8, U8, Builder


@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(0, 256),
    st.sampled_from([I8, U8]),
    st.integers(0, 99),
)
def test_equals_the_definition_set_by_set(h, w, sets, parts, threshold, elem, seed):
    b, op = Builder(seed), Pick(parts, threshold)
    b.add("y", op, b.input("x", (h, w, parts * sets), elem), b.input("g", (1, 1, sets), U8))
    graph, rng = b.graph(("y",)), np.random.default_rng(seed)
    x = rng.integers(elem.min, elem.max + 1, (2, h, w, parts * sets))
    g = rng.choice([0, 255, min(threshold, 255), max(threshold - 1, 0), *range(0, 256, 50)], (2, 1, 1, sets))
    wanted = np.zeros((2, h, w, sets), np.int64)
    for n, y, z, s in np.ndindex(*wanted.shape):
        gate, values = int(g[n, 0, 0, s]), [int(x[n, y, z, k * sets + s]) for k in range(parts)]
        wanted[n, y, z, s] = gate * (parts * max(values) if gate < threshold else sum(values))
    np.testing.assert_array_equal(op.run(x, g), wanted)
    np.testing.assert_array_equal(kernels(graph)["y"](x, g), wanted)
    proven, elem = graph.bounds()["y"], graph.types()["y"].elem
    assert (proven.low <= wanted).all() and (wanted <= proven.high).all()
    assert elem.min <= wanted.min() and wanted.max() <= elem.max


def test_with_one_part_it_is_a_gate():
    rng = np.random.default_rng(0)
    x, g = rng.integers(-128, 128, (2, 3, 4, 5)), rng.integers(0, 256, (2, 1, 1, 5))
    np.testing.assert_array_equal(Pick(1, 77).run(x, g), Mix(1).run(x, g))


def test_the_proven_range_is_reached():
    op = Pick(2, 100)
    proven = op.bounds(
        Bounds(np.array([-128, -9]), np.array([127, 3])), Bounds(np.array([0]), np.array([255]))
    )
    assert Pick(2, 256).run(np.array([[[[127, 3]]]]), np.full((1, 1, 1, 1), 255)) == proven.high
    assert op.run(np.array([[[[-128, -9]]]]), np.full((1, 1, 1, 1), 255)) == proven.low
    assert proven.low == -255 * (128 + 9)  # of the sum


@pytest.mark.parametrize(
    ("op", "gates", "text"),
    [
        (Pick(4), TensorType((1, 1, 6), U8), r"expected \[H,W,C\] with channels in multiples of parts=4"),
        (Pick(2), TensorType((1, 1, 6), U8), r"gates are u8\[1,1,6\], expected \[1,1,3\]"),
        (Pick(2), TensorType((1, 1, 3), I8), "gates are i8, expected at most u8"),
        (Pick(2, 257), TensorType((1, 1, 3), U8), r"threshold is 257, expected 0\.\.256"),
    ],
)
def test_refuses(op, gates, text):
    with pytest.raises(TypeMismatch, match=text):
        op.infer(TensorType((4, 5, 6), I8), gates)


def test_types_and_macs():
    x, gates = TensorType((4, 5, 6), I8), TensorType((1, 1, 3), U8)
    assert str(Pick(2).infer(x, gates)) == "i17[4,5,3]"
    assert Pick(2).macs(x, gates) == 60 and repr(Pick(2, 9)) == "Pick(parts=2, threshold=9)"

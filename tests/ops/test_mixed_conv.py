from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import TypeMismatch
from codesign.fast import kernels
from codesign.ir import Bounds, IntType, TensorType
from codesign.ops import Conv, MixedConv
from tests.models import I4, I8, U8, Builder

OPS = st.builds(
    lambda side, stride, bits: MixedConv((side, side), (stride, stride), (side // 2,) * 4, bits),
    st.sampled_from([1, 3]), st.sampled_from([1, 2]), st.sampled_from([2, 4, 8]),
)  # fmt: skip


def case(h, w, cin, cout, experts, op, bits, seed):
    rng = np.random.default_rng(seed)
    x, gates = rng.integers(-128, 128, (2, h, w, cin)), rng.choice([0, 255, *range(256)], (2, 1, 1, experts))
    bank = rng.integers(-bits.max, bits.max + 1, (experts, *op.kernel, cin, cout))
    return x, gates, bank, rng.integers(0, 15, cout)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), OPS,
       st.sampled_from([I4, I8]), st.integers(0, 99))  # fmt: skip
def test_equals_a_convolution_with_weights_rounded_as_fractions(h, w, cin, cout, experts, op, bits, seed):
    x, gates, bank, shift = case(h, w, cin, cout, experts, op, bits, seed)
    b = Builder(seed)
    b.const("bank", bank, bits)
    b.const("shift", shift, I8)
    b.add("y", op, b.input("x", x.shape[1:]), b.input("g", (1, 1, experts), U8), "bank", "shift")
    graph, wanted = b.graph(("y",)), []
    for image, gate in zip(x, gates, strict=True):
        weight = np.zeros(bank.shape[1:], np.int64)
        for at in np.ndindex(*weight.shape):
            total = sum(int(g) * int(bank[(k, *at)]) for k, g in enumerate(gate[0, 0]))
            rounded = round(Fraction(total, 1 << int(shift[at[-1]])))  # half to even
            weight[at] = max(-op.most, min(op.most, rounded))
        wanted.append(Conv(op.kernel, op.stride, op.pads).run(image[None], weight)[0])
    np.testing.assert_array_equal(op.run(x, gates, bank, shift), wanted)
    np.testing.assert_array_equal(kernels(graph)["y"](x, gates), wanted)
    proven, elem = graph.bounds()["y"], graph.types()["y"].elem
    assert (proven.low <= wanted).all() and (np.array(wanted) <= proven.high).all()
    assert elem.min <= np.min(wanted) and np.max(wanted) <= elem.max


def test_one_expert_with_a_gate_of_one_is_an_ordinary_convolution():
    op = MixedConv((3, 3), (1, 1), (1, 1, 1, 1))
    x, _, bank, _ = case(5, 6, 3, 4, 1, op, I4, 0)
    bank = bank.clip(-7, 7)
    got = op.run(x, np.ones((2, 1, 1, 1), np.int64), bank, np.zeros(4, np.int64))
    np.testing.assert_array_equal(got, Conv((3, 3), (1, 1), (1, 1, 1, 1)).run(x, bank[0]))


def test_a_gate_of_zero_and_the_proven_range():
    """Weights shrink to what the gates allow, and not to what the bank holds."""
    op, ends = MixedConv(), Bounds(np.array([-128]), np.array([127]))
    bank, shift = np.array([3, -100]).reshape(2, 1, 1, 1, 1), np.array([4])
    proven = op.bounds(ends, Bounds(np.array([0, 0]), np.array([16, 0])), bank, shift)
    assert (proven.low, proven.high) == (-3 * 128, 3 * 127)
    gates = np.array([16, 0]).reshape(1, 1, 1, 2)
    assert op.run(np.full((1, 1, 1, 1), -128), gates, bank, shift) == proven.low


X, G = TensorType((4, 6, 2), I8), TensorType((1, 1, 3), U8)


@pytest.mark.parametrize(
    ("op", "gates", "bank", "shift", "text"),
    [
        (MixedConv(bits=9), G, (3, 1, 1, 2, 5), 5, r"mixed weights of 9 bits, expected 2\.\.8"),
        (MixedConv(), G, (1, 1, 2, 5), 5, r"bank is i8\[1,1,2,5\], expected \[K,1,1,Cin,Cout\], K at most 8"),
        (MixedConv(), G, (9, 1, 1, 2, 5), 5, r"bank is i8\[9,1,1,2,5\], expected .* K at most 8"),
        (MixedConv(), TensorType((1, 1, 2), U8), (3, 1, 1, 2, 5), 5, r"gates are u8\[1,1,2\], expected \[1,1,3\]"),
        (MixedConv(), G, (3, 1, 1, 2, 5), 4, r"shift is i8\[4\], expected one value per channel: \[5\]"),
        (MixedConv(), G, (3, 1, 1, 4, 5), 5, r"weight is i4\[1,1,4,5\], expected \[1,1,2,Cout\]"),
    ],
)  # fmt: skip
def test_refuses(op, gates, bank, shift, text):
    with pytest.raises(TypeMismatch, match=text):
        op.infer(X, gates, TensorType(bank, I8), TensorType((shift,), I8))


def test_refuses_a_wide_bank_and_shifts_that_no_hardware_makes():
    with pytest.raises(TypeMismatch, match="bank is i9, expected at most i8"):
        MixedConv().infer(X, G, TensorType((3, 1, 1, 2, 5), IntType(9)), TensorType((5,), I8))
    one = Bounds(np.zeros(1, np.int64), np.ones(1, np.int64))
    for shift in (-1, 25):
        with pytest.raises(
            TypeMismatch, match=rf"mixed weights shift by {shift}\.\.{shift}, expected 0\.\.24"
        ):
            MixedConv().bounds(one, one, np.ones((1, 1, 1, 1, 1), np.int64), np.array([shift]))


def test_types_and_macs():
    op, bank = MixedConv((3, 3), pads=(1, 1, 1, 1)), TensorType((3, 3, 3, 2, 5), I8)
    shift = TensorType((5,), I8)
    assert str(op.infer(X, G, bank, shift)) == "i16[4,6,5]"  # 18 * 128 * 8
    assert op.macs(X, G, bank, shift) == 4 * 6 * 90 + 3 * 90
    assert repr(op) == "MixedConv(kernel=3x3, stride=1x1, pads=1,1,1,1, bits=4)"

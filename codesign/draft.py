"""What a draft of a step is, before anything has an address."""

from __future__ import annotations

from dataclasses import dataclass

from codesign.layout import Source, View
from codesign.ports import Ints
from codesign.windows import Mixing, Sampling


@dataclass(frozen=True)
class Tables:
    """A Requant with its constants, one entry a channel; with `ties` a WideRequant."""

    bias: Ints
    mult: Ints
    shift: Ints
    clamp: tuple[int, int]
    ties: Ints | None = None


@dataclass(frozen=True)
class Mixture:
    """Weights that a step computes: of a bank (K, kh, kw, Cin, Cout), shifted and limited to +-most."""

    bank: Ints
    shift: Ints
    most: int


@dataclass(frozen=True)
class Window:
    """What looks at neighbours. Gathering windows only lay out taps for the pointwise array."""

    kind: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    origin: tuple[int, int]  # input pixel of the centre tap of output pixel (0, 0)
    reach: int = 1
    weight: Ints | None = None  # (kh, kw, C)
    tables: Tables | None = None
    offset: str | None = None
    sampling: Sampling | None = None
    varied: Ints | None = None  # (H', W', 9, C): weights of every pixel, in place of `weight`
    mixing: Mixing | None = None
    parts: int = 1  # that gates multiply and that are added
    mixture: Mixture | None = None  # of the weights that it makes


@dataclass(frozen=True)
class Dense:
    """A matrix product at each pixel: weight (kh, kw, Cin, Cout), or a mixture; then that is its first expert."""

    weight: Ints
    tables: Tables
    mixture: Mixture | None = None


@dataclass(frozen=True)
class Front:
    """What comes before a draft's own matrix product: another one, and a depthwise 3x3 of its result."""

    name: str  # the tensor that is not stored
    dense: Dense
    joined: tuple[int, ...]  # as Draft.joined, of this product
    shape: tuple[int, int]  # of the map between
    channels: tuple[int, ...]  # for each channel of the depthwise, that of the product
    window: Window  # the depthwise


@dataclass(frozen=True)
class Condition:
    """A number that decides, as the one source that it has: whether it is at least `threshold`."""

    gate: Source
    threshold: int


@dataclass(frozen=True)
class Draft:
    """A future step: `name` is the tensor it stores, `view` the channels it loads."""

    name: str
    nodes: tuple[str, ...]
    view: View
    shape: tuple[int, int, int]  # of the input
    out_shape: tuple[int, int, int]
    signed: bool  # of the output
    window: Window | None = None
    dense: Dense | None = None
    offset: View = ()
    gates: View = ()  # of the mixture that `dense` multiplies with
    joined: tuple[int, ...] = ()  # fused: for each channel of the window, its input channel of `dense`
    absorbed: str = ""  # fused: the tensor that the window would have stored
    copies: bool = False  # `dense` changes nothing
    spread: bool = False  # moves the four phases of `view` to the pixels of a map twice as high and wide
    front: Front | None = None
    pool: int = 0  # stride of a 3x3 max-pool of the result; 0: there is none
    pooled: str = ""  # the tensor that the max-pool reads
    unpooled: tuple[int, int] = (0, 0)  # its height and width
    table: Ints | None = None  # (256,): what is stored is looked up in it
    into: str = ""  # what it stores, if that is not its own: one side of a Select
    taken: tuple[Condition, bool] | None = None  # which side, and what decides

    @property
    def stores(self) -> str:
        """The tensor that it stores."""
        return self.into or self.name

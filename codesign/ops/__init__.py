"""Every operator the compiler knows. To add one: a module here, a line below, and its tests."""

from codesign.ops.add import Add
from codesign.ops.concat import Concat
from codesign.ops.conv import Conv
from codesign.ops.deform_dwconv import DeformDwConv
from codesign.ops.depth_to_space import DepthToSpace
from codesign.ops.dwconv import DwConv
from codesign.ops.global_sum import GlobalSum
from codesign.ops.maxpool import MaxPool
from codesign.ops.mix import Mix
from codesign.ops.mixed_conv import MixedConv
from codesign.ops.pick import Pick
from codesign.ops.requant import Requant
from codesign.ops.sampled_dwconv import SampledDwConv
from codesign.ops.select import Select
from codesign.ops.shuffle import Shuffle
from codesign.ops.slice import Slice
from codesign.ops.table import Table
from codesign.ops.upsample import Upsample
from codesign.ops.varied_dwconv import VariedDwConv
from codesign.ops.wide_requant import WideRequant

OPS = (
    Add, Concat, Conv, DeformDwConv, DepthToSpace, DwConv, GlobalSum, MaxPool, Mix, MixedConv, Pick, Requant,
    SampledDwConv, Select, Shuffle, Slice, Table, Upsample, VariedDwConv, WideRequant,
)  # fmt: skip
DEFORMABLE = (DeformDwConv, SampledDwConv)  # input 1 says where input 0 is read

__all__ = [
    "DEFORMABLE",
    "OPS",
    "Add",
    "Concat",
    "Conv",
    "DeformDwConv",
    "DepthToSpace",
    "DwConv",
    "GlobalSum",
    "MaxPool",
    "Mix",
    "MixedConv",
    "Pick",
    "Requant",
    "SampledDwConv",
    "Select",
    "Shuffle",
    "Slice",
    "Table",
    "Upsample",
    "VariedDwConv",
    "WideRequant",
]

"""Pragmas that the two tools know: Vivado HLS 2020.1 by UG902, Vitis HLS by UG1399.

A line is NAME, place, options. `key=kind` is an option, `key!=kind` a required one, a bare word a flag. Kinds:
int (a constant), variable (one in scope), port (a parameter, or `return`), word (any), a|b (one of these).
Places:
    function   first in the body of a function       loop    first in the body of a loop
    body       first in either                       block   first between any braces
    variable   after the declaration of the variable, between the same braces
    top        first in the body of the top function
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

_PARTITION = "variable variable!=variable factor=int dim=int block cyclic complete"
_MODES = (
    "ap_none ap_stable ap_vld ap_ack ap_hs ap_ovld ap_fifo ap_memory bram axis s_axilite m_axi "
    "ap_ctrl_none ap_ctrl_hs ap_ctrl_chain"
)
_INTERFACE = (
    f"top {_MODES} port!=port bundle=word name=word register depth=int latency=int clock=word "
    "register_mode=both|forward|reverse|off num_read_outstanding=int num_write_outstanding=int "
    "max_read_burst_length=int max_write_burst_length=int offset=word"
)
_SHARED = """
dataflow             body disable_start_propagation
expression_balance   block off
function_instantiate function variable!=variable
latency              block min=int max=int
loop_flatten         loop off
loop_merge           block force
loop_tripcount       loop min=int max!=int avg=int
occurrence           block cycle=int
reset                variable variable!=variable off
stable               function variable!=variable
"""
_GRAMMAR = {
    "vivado": f"""{_SHARED}
allocation           block instances!=word limit!=int function operation core
array_map            variable variable!=variable instance=word offset=int horizontal vertical
array_partition      {_PARTITION}
array_reshape        {_PARTITION} object
data_pack            variable variable!=variable instance=word struct_level field_level
dependence           body variable=variable array pointer inter intra raw war waw distance=int true false
inline               function region recursive off
interface            {_INTERFACE} ap_bus
pipeline             body ii=int rewind enable_flush off
protocol             block fixed floating
resource             variable variable!=variable core!=word latency=int uram
stream               variable variable!=variable depth=int dim=int off
unroll               loop factor=int region skip_exit_check
""",
    "vitis": f"""{_SHARED}
aggregate            variable variable!=variable compact=bit|byte|none|auto
alias                function ports!=word offset=word distance=word
allocation           block instances!=word limit!=int type=function|operation function operation
array_partition      {_PARTITION} type=block|cyclic|complete
array_reshape        {_PARTITION} type=block|cyclic|complete object
bind_op              variable variable!=variable op!=word impl=word latency=int
bind_storage         variable variable!=variable type!=word impl=word latency=int
dependence           body variable=variable array pointer inter intra raw war waw distance=int true false \
    class=array|pointer type=inter|intra dependent=true|false direction=raw|war|waw
disaggregate         variable variable!=variable
inline               function recursive off
interface            {_INTERFACE} mode=word storage_type=word storage_impl=word max_widen_bitwidth=int channel=word
performance          body target_ti=word target_tl=word
pipeline             body ii=int rewind off style=stp|flp|frp
protocol             block fixed floating mode=fixed|floating
stream               variable variable!=variable depth=int type=fifo|pipo|shared|unsync
unroll               loop factor=int skip_exit_check off=true|false
""",
}
DIALECTS = tuple(_GRAMMAR)
MODES = frozenset(_MODES.split()) | {"ap_bus"}


@dataclass(frozen=True)
class Rule:
    """What one pragma may say, and where; all names in lower case."""

    place: str
    options: Mapping[str, str]  # key: kind
    required: frozenset[str]
    flags: frozenset[str]


@lru_cache(maxsize=2)
def rules(dialect: str) -> dict[str, Rule]:
    """Pragmas of a tool by name in lower case."""
    table = {}
    for line in filter(None, _GRAMMAR[dialect].splitlines()):
        name, place, *words = line.split()
        keys = [match.groups() for word in words if (match := re.fullmatch(r"(\w+)(!?)=(\S+)", word))]
        table[name] = Rule(
            place,
            {key: kind for key, _, kind in keys},
            frozenset(key for key, must, _ in keys if must),
            frozenset(word for word in words if "=" not in word),
        )
    return table

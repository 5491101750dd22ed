"""The simulation of cycles: small designs whose cycles are counted by hand, faults that must be found, real ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

import pytest

from codesign import cycles
from codesign.board import Board, load_board
from codesign.csim import EngineFailed
from codesign.cycles import DesignFailed, Region, simulate
from codesign.dram import BURST, OUTSTANDING, dram
from codesign.emit import sources
from codesign.engine_config import EngineConfig
from codesign.plan import plan
from codesign.program import Program
from hls_templates import HEADERS
from tests.engine.cases import CASES as OPERATORS
from tests.engine.engines import generic
from tests.models import random_feeds

LANES = 4
# Before anything else, a process enters its loop (2 cycles); it is over the cycle after its last.
ENTRY, OVER = 2, 1
ENGINE = """// engine.hpp -- small regions instead of the engine's, chosen by the address of the program.
#pragma once
#include "descriptor.hpp"
#include "trace.hpp"
#include "vendor.hpp"

namespace codesign {
typedef hls::stream<int> Numbers;
%s
template <class C>
int run_program(const typename Types<C>::Word *, const typename Types<C>::Word *, const typename Types<C>::Word *,
                typename Types<C>::Word *, int program, int) {
  int table[64], narrow[64];
  CODESIGN_IN_BRAM(narrow)
  static_cast<void>(table), static_cast<void>(narrow);
  Trace::begin("step", 0);
  switch (program) {
%s
    default:
      return kBadProgram;
  }
  Trace::end();
  return kDone;
}
}  // namespace codesign
"""


def loop(label: str, trips: int, body: str, ii: int = 1, depth: int = 1) -> str:
    return f"""
{label}:
  for (int i = 0; i < {trips}; ++i) {{
    #pragma HLS PIPELINE II={ii}
    Trace::iteration("{label}", {ii}, {depth}, i == 0);
    {body}
  }}
"""


class Case:
    """A region: its processes, `name(arguments) { body }`, and the streams between them."""

    def __init__(self, *processes: tuple[str, str], streams: Mapping[str, int] | None = None) -> None:
        self.processes, self.streams = processes, streams or {}

    def text(self, index: int) -> str:
        arguments = ", ".join(f"Numbers &{name}" for name in self.streams)
        names = ", ".join(self.streams)
        inner = "\n".join(
            f'inline void {name}_{index}({arguments}) {{\n  Trace::process("{name}");\n{body}}}\n'
            for name, body in self.processes
        )
        made = "".join(
            f'  Numbers {name}("{name}");\n'
            + (f"  #pragma HLS STREAM variable={name} depth={depth}\n" if depth != 2 else "")
            for name, depth in self.streams.items()
        )
        calls = "".join(f"  {name}_{index}({names});\n" for name, _ in self.processes)
        return f"{inner}\ninline void region_{index}() {{\n  #pragma HLS DATAFLOW\n{made}{calls}}}\n"


def accesses(what: str, array: str) -> str:
    """`r` reads an address of its own, `0` address 0, `w` writes."""
    return "".join(
        f'Trace::{"write" if a == "w" else "read"}("{array}", 0, {0 if a == "0" else f"i + {k}"}); '
        for k, a in enumerate(what)
    )


def moves(words: int, run_words: int, way: str = "fetch", port: str = "features") -> str:
    word = loop("Word", run_words, f'Trace::{way}("{port}", run * {run_words} + i);', 1, 3)
    return f"  for (int run = 0; run < {words // run_words}; ++run) {{{word}  }}\n"


def fork(depth: int) -> Case:
    early, late = f"early{depth}", f"late{depth}"
    give = loop("Early", 10, f"{early}.write(i);") + loop("Late", 10, f"{late}.write(i);")
    take = loop("Take", 10, f"{early}.read(); {late}.read();")
    give, take = f"  static_cast<void>({late});{give}", f"  static_cast<void>({late});{take}"
    return Case(("give", give), ("take", take), streams={early: depth, late: 2})


LOOPS = [(1, 1, 1), (10, 1, 1), (10, 1, 7), (10, 3, 7), (5, 4, 2)]  # trips, II, depth
ACCESSES = [  # what, II, array, and what is wrong with it
    ("rr", 1, "table", ""),
    ("rrr", 1, "table", "3 reads and 0 writes of table[0] in 1 cycle, which has two ports"),
    ("rrr", 2, "table", ""),
    ("rrrrr", 2, "table", "5 reads and 0 writes of table[0] in 2 cycles, which has two ports"),
    ("rrw", 1, "table", "2 reads and 1 writes of table[0] in 1 cycle, which has two ports"),
    ("rw", 1, "narrow", ""),
    (
        "rr",
        1,
        "narrow",
        "2 reads and 0 writes of narrow[0] in 1 cycle, which has one port to read and one to write",
    ),
    (
        "ww",
        1,
        "narrow",
        "0 reads and 2 writes of narrow[0] in 1 cycle, which has one port to read and one to write",
    ),
    ("000", 1, "narrow", ""),  # one address
]
GIVE_TAKE = (
    ("give", loop("Give", 20, "numbers.write(i);", 1, 3)),
    ("take", loop("Take", 20, "numbers.read();", 3, 1)),
)
TWO_LOOKS = loop("Look", 10, accesses("rr", "table"))
FETCH = loop("Read", 10, 'Trace::fetch("features", i);')
CASES: dict[str, Case] = {
    **{f"loop {k}": Case(("alone", loop("Turn", n, "", ii, d))) for k, (n, ii, d) in enumerate(LOOPS)},
    "twice": Case(
        ("twice", loop("First", 10, "", 1, 5) + "  Trace::control(7);" + loop("Second", 4, "", 1, 3))
    ),
    "two": Case(*GIVE_TAKE, streams={"numbers": 2}),
    **{f"fork {depth}": fork(depth) for depth in (2, 9, 10)},
    **{
        f"access {k}": Case(("look", loop("Look", 10, accesses(what, array), ii)))
        for k, (what, ii, array, _) in enumerate(ACCESSES)
    },
    "one look": Case(("one", TWO_LOOKS)),
    "two looks": Case(("one", TWO_LOOKS), ("other", TWO_LOOKS)),
    "one port": Case(("one", FETCH), ("other", FETCH)),
    **{f"moves of {n}": Case(("mover", moves(1024, n))) for n in (1, 16, 256)},
    "a long move": Case(("mover", moves(4096, 4096))),
    "writes": Case(("mover", moves(1024, 256, "put", "results"))),
    "both ways": Case(("mover", moves(4096, 4096)), ("writer", moves(4096, 4096, "put", "results"))),
}


@lru_cache(maxsize=1)
def design() -> Mapping[str, str]:
    texts = "\n".join(case.text(k) for k, case in enumerate(CASES.values()))
    chosen = "\n".join(f"    case {k}:\n      region_{k}();\n      break;" for k in range(len(CASES)))
    return {**sources(generic(LANES)), "engine.hpp": ENGINE % (texts, chosen)}


@pytest.fixture(scope="module")
def board() -> Board:
    return load_board("ultra96")


@lru_cache(maxsize=1)
def program() -> Program:
    return plan(OPERATORS["pointwise-10-to-13"](), config=generic(LANES)).program


def run(name: str, board: Board) -> Region:
    made = replace(program(), base=list(CASES).index(name), inputs={}, steps=program().steps[:1])
    (region,) = simulate(design(), made, board).regions
    return region


@pytest.mark.parametrize("index", range(len(LOOPS)))
def test_a_loop_takes_ii_a_trip_and_its_depth_once(board, index):
    trips, ii, depth = LOOPS[index]
    region = run(f"loop {index}", board)
    assert region.cycles == ENTRY + (trips - 1) * ii + depth + OVER
    (counted,) = region.processes
    assert (counted.busy, counted.control, counted.stalls) == (trips, 0, {})
    assert counted.end == region.cycles


def test_loops_one_after_the_other_drain_in_between(board):
    assert run("twice", board).cycles == (ENTRY + 9 + 5) + 7 + (ENTRY + 3 + 3) + OVER


def test_the_slower_of_two_decides_and_the_faster_waits(board):
    """A word can be read the cycle after it was written."""
    region = run("two", board)
    assert region.cycles == (ENTRY + 3) + 19 * 3 + 1 + OVER
    gives, takes = region.processes
    assert takes.stalls == {"empty numbers": 3} and set(gives.stalls) == {"full numbers"}
    assert region.streams[0].depth == 2 == region.streams[0].most
    assert region.bound == "take"


@pytest.mark.parametrize("depth", [2, 9])
def test_a_fifo_too_shallow_is_a_deadlock_with_names(board, depth):
    with pytest.raises(DesignFailed) as error:
        run(f"fork {depth}", board)
    assert str(error.value) == (
        f"design: deadlock in step 0: give waits to write to full stream early{depth} (depth {depth}), take waits "
        f"to read from empty stream late{depth}. Correct the sources, or build the bundle again."
    )


def test_a_fifo_deep_enough(board):
    assert [s.most for s in run("fork 10", board).streams] == [10, 1]


@pytest.mark.parametrize("index", range(len(ACCESSES)))
def test_an_access_without_a_port_names_array_and_loop(board, index):
    wrong = ACCESSES[index][3]
    if not wrong:
        assert run(f"access {index}", board).processes[0].busy == 10
        return
    with pytest.raises(DesignFailed) as error:
        run(f"access {index}", board)
    assert str(error.value) == (
        f"design: look, loop Look: {wrong}. Correct the sources, or build the bundle again."
    )


def test_processes_share_the_ports_of_a_memory(board):
    assert run("one look", board).processes[0].busy == 10
    with pytest.raises(
        DesignFailed, match=r"one and other: together 4 reads and 0 writes of table\[0\] in a cycle"
    ):
        run("two looks", board)


def test_a_port_belongs_to_one_process(board):
    with pytest.raises(DesignFailed, match="one and other use port features at the same time"):
        run("one port", board)


@pytest.mark.parametrize("slower", [1, 2, 10])
def test_memory_bandwidth(board, slower):
    """A long run: latency, then all bytes at the usable share of the peak, or a word a cycle."""
    slow = replace(board, dram_bytes_per_s=board.dram_bytes_per_s // slower)
    found = dram(slow, LANES)
    region = run("a long move", slow)
    expected = found.latency + 4096 * found.word_cycles
    assert region.cycles == pytest.approx(expected, abs=BURST * found.word_cycles + 10)
    assert (region.requests, region.bursts, region.read_bytes) == (1, 4096 // BURST, 4096 * LANES)
    assert region.processes[0].stalls["read features"] >= found.latency


@pytest.mark.parametrize("run_words", [1, 16, 256])
def test_every_request_waits_for_its_first_word(board, run_words):
    """A loop asks for its words when it is entered, and is left when it is done."""
    region = run(f"moves of {run_words}", board)
    found, runs = dram(board, LANES), 1024 // run_words
    each = ENTRY + found.latency + (run_words - 1) * found.word_cycles + 3
    assert region.requests == runs and region.cycles == pytest.approx(runs * each, rel=0.03)


def test_writes_wait_for_their_response(board):
    found, region = dram(board, LANES), run("writes", board)
    assert region.written_bytes == 1024 * LANES and region.requests == 4
    assert region.cycles == pytest.approx(4 * (ENTRY + 256 + 3 + found.latency), rel=0.05)
    assert region.processes[0].stalls["write results"] >= 4 * found.latency


def test_bursts_under_way_limit_a_port(board, monkeypatch):
    """With a latency of many bursts, a port moves what is under way in each latency."""
    far = replace(board, clock_mhz=1000, hp_width_bits=128, dram_bytes_per_s=10**12)
    found = replace(dram(far, LANES), latency=4 * BURST * OUTSTANDING)
    monkeypatch.setattr(cycles, "dram", lambda board, lanes: found)
    assert run("a long move", board).cycles == pytest.approx(4096 * 4 + found.latency, rel=0.1)


def test_ports_share_the_memory(board):
    slow = replace(board, dram_bytes_per_s=board.dram_bytes_per_s // 10)
    both = run("both ways", slow)
    assert both.cycles == pytest.approx(2 * run("a long move", slow).cycles, rel=0.05)
    assert both.bound == "DRAM"


def test_streams_are_as_deep_as_the_sources_say(board):
    assert cycles.depths("  #pragma HLS STREAM variable=wide depth=32\n") == {"wide": 32}
    facts = cycles.facts(design(), dram(board, LANES)).splitlines()
    assert {"stream early9 9", "stream early10 10", "split narrow"} < set(
        facts
    ) and "stream early2 2" not in facts
    assert [f for f in facts if f.startswith("port")] == [
        "port features", "port offsets", "port program", "port results",
    ]  # fmt: skip


def hooked() -> Iterator[tuple[str, str, str, str]]:
    """Header, label, II of the pragma, and what follows the pragmas, of every pipelined loop."""
    for path in sorted(HEADERS.glob("*.hpp")):
        for match in re.finditer(
            r"(\w+):\n\s*for \(.*\{\n\s*#pragma HLS PIPELINE(?: II=(\d+))?\n(?:\s*#pragma HLS .*\n)*(.*)\n",
            path.read_text(),
        ):
            yield path.name, match[1], match[2], match[3].strip()


def test_every_pipelined_loop_reports_the_interval_it_promises():
    found = list(hooked())
    pragmas = sum(path.read_text().count("#pragma HLS PIPELINE") for path in HEADERS.glob("*.hpp"))
    assert len(found) == pragmas > 10
    for header, label, ii, hook in found:
        assert re.fullmatch(rf'Trace::iteration\("{label}", {ii}, \d+, \w+ == 0\);', hook), (
            header,
            label,
            hook,
        )


def test_streams_have_the_names_of_their_variables():
    """Else a depth would be given to another one."""
    for arrays in (1, 2):
        texts = sources(EngineConfig(arrays=arrays))
        _named_as_variables("".join(text for name, text in texts.items() if "/" not in name))


def _named_as_variables(text: str) -> None:
    named = re.findall(r'[ ,](\w+)\("(\w+)"\)', text)
    assert len(named) > 5 and all(a == b for a, b in named)
    assert len({a for a, _ in named}) == len(named)
    assert set(cycles.depths(text)) <= {a for a, _ in named}


def test_a_program_the_engine_refuses(board):
    wrong = replace(program(), steps=(replace(program().steps[0], pointwise_in=99),))
    with pytest.raises(EngineFailed, match="step 0: mode or size of the pointwise array are out of range"):
        simulate(sources(generic(LANES)), wrong, board)


def test_what_is_fed_changes_no_cycle(board):
    graph = OPERATORS["pointwise-10-to-13"]()
    made = plan(graph, config=generic(LANES))
    feeds = {name: array[0] for name, array in random_feeds(graph).items()}
    texts = sources(made.config)
    first, again = (simulate(texts, made.program, board, feeds=f) for f in (None, feeds))
    assert first == again and first.cycles > 0

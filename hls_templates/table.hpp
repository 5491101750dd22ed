// table.hpp -- a function of every code that is stored: activation functions, as tables of 256 bytes.
//
//   stored[lane] = table[code[lane] mod 256]
//
// Every lane has a copy of its own, for the step that runs and for the one after it, because each reads another entry:
// rows of kTableWide entries, so that a table arrives in 256 / kTableWide cycles. An engine with kTables = 0 has none.
//
// Memories: `tables`, one read a cycle while a map passes, one write a cycle behind it.
#pragma once
#include "layout.hpp"
#include "trace.hpp"

namespace codesign {

// What the table of this step, in half `half` of the memories, makes of a word.
template <class C>
typename Types<C>::Acts look_up(
    const typename Types<C>::Acts &codes, int half,
    const typename Types<C>::TableRow (&tables)[2 * C::kLanes][Types<C>::kTableRows]) {
  #pragma HLS INLINE
  typename Types<C>::Acts found;
Lane:
  for (int lane = 0; lane < C::kLanes; ++lane) {
    #pragma HLS UNROLL
    const int code = int(codes[lane]) & 255, row = code / Types<C>::kTableWide % Types<C>::kTableRows;
    Trace::read("parameters.tables", 2 * lane + half, row);
    found[lane] = typename Types<C>::Act(int(tables[2 * lane + half][row].data[code % Types<C>::kTableWide]));
  }
  return found;
}

// Row `row` of a table, from a word of which `first` is the row's first byte, to all copies.
template <class C>
void take_row(const typename Types<C>::Word &word, int first, int row, int half,
              typename Types<C>::TableRow (&tables)[2 * C::kLanes][Types<C>::kTableRows]) {
  #pragma HLS INLINE
  typename Types<C>::TableRow taken;
Entry:
  for (int i = 0; i < Types<C>::kTableWide; ++i) {
    #pragma HLS UNROLL
    taken.data[i] = Types<C>::Memory::byte(word, first + i);
  }
Copy:
  for (int lane = 0; lane < C::kLanes; ++lane) {
    #pragma HLS UNROLL
    Trace::write("parameters.tables", 2 * lane + half, row);
    tables[2 * lane + half][row] = taken;
  }
}

}  // namespace codesign

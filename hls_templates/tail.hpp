// tail.hpp -- behind the arrays: a 3x3 max-pool from row buffers, or a table of codes, or nothing.
//
// out[y][x][c] = max over i,j of in[y*s + i][x*s + j][c] inside the map, i and j from -1 to 1, s = pool_stride; or
//                table[in[y][x][c] mod 256]
//
// Streams: words of a pixel together, pixels row by row.
// Cycles: the words; with a max-pool (rows + 1) * (columns + 1) * max(words a pixel, kSlots). Afterwards, rows of the next
// step's table. Memories: see lines.hpp and table.hpp.
#pragma once
#include "lines.hpp"
#include "parameters.hpp"
#include "table.hpp"

namespace codesign {

template <class C>
void tail(const Step &step, const Step &next, int half, typename Types<C>::Stream &in,
          hls::stream<typename Types<C>::Word> &next_table,
          typename Types<C>::TableRow (&tables)[2 * C::kLanes][Types<C>::kTableRows],
          typename Types<C>::Stream &out) {
  Trace::process("tail");
  if (step.pool_stride == 0 || C::kPoolWords < 2) {  // a constant: without room there is no max-pool
    const int total = step.middle_height * step.middle_width * step.store_words;
    if (C::kTables > 0 && step.table != 0) {
    Look:
      for (int i = 0; i < total; ++i) {
        #pragma HLS PIPELINE II=1
        Trace::iteration("Look", 1, 3, i == 0);
        out.write(look_up<C>(in.read(), half, tables));
      }
    } else {
    Pass:
      for (int i = 0; i < total; ++i) {
        #pragma HLS PIPELINE II=1
        Trace::iteration("Pass", 1, 1, i == 0);
        out.write(in.read());
      }
    }
  } else {
    Lines<C, C::kPoolWords, C::kPoolGroups> pool_lines;
    #pragma HLS ARRAY_PARTITION variable=pool_lines.above complete dim=1
    #pragma HLS ARRAY_PARTITION variable=pool_lines.behind complete dim=1
    #pragma HLS ARRAY_PARTITION variable=pool_lines.behind complete dim=2
    CODESIGN_ONE_WORD(pool_lines.above)
    CODESIGN_ONE_WORD(pool_lines.behind)
    CODESIGN_IN_BRAM(pool_lines.above)
    Turn turn(step.middle_height, step.middle_width, step.store_words);
    const int total = turn.turns();
    Trace::control(6);  // products
  Slot:
    for (int i = 0; i < total; ++i) {
      #pragma HLS PIPELINE II=1
      #pragma HLS DEPENDENCE variable=pool_lines.above inter distance=8 true
      #pragma HLS DEPENDENCE variable=pool_lines.behind inter distance=4 true
      Trace::iteration("Slot", 1, 8, i == 0);
      if (turn.used()) {
        typename Types<C>::Acts word = zeros<typename Types<C>::Acts>();
        if (turn.arrives()) word = in.read();
        Taps<C> taps;
        neighbours(pool_lines, turn, word, "pool_lines.above", "pool_lines.behind", taps);
        if (turn.centred(step.pool_stride)) out.write(max_pool<C>(taps, 3));
      }
      turn.advance();
    }
  }
  const int arriving = ParameterWords<C>::table(next) != 0 ? Types<C>::kTableRows : 0;
  typename Types<C>::Word word = Types<C>::Memory::zero();
  int first = 0;
NextTable:
  for (int i = 0; i < arriving; ++i) {
    #pragma HLS PIPELINE II=1
    Trace::iteration("NextTable", 1, 3, i == 0);
    if (first == 0) word = next_table.read();
    take_row<C>(word, first, i, 1 - half, tables);
    first += Types<C>::kTableWide;
    if (first == C::kLanes) first = 0;
  }
}

}  // namespace codesign

// tail.hpp -- behind the arrays: a 3x3 max-pool from row buffers, or nothing.
//
// out[y][x][c] = max over i,j of in[y*s + i][x*s + j][c] inside the map, i and j from -1 to 1, s = pool_stride.
//
// Streams: words of a pixel together, pixels row by row.
// Cycles: the words; with a max-pool (rows + 1) * (columns + 1) * max(words a pixel, kSlots). Memories: see lines.hpp.
#pragma once
#include "lines.hpp"

namespace codesign {

template <class C>
void tail(const Step &step, typename Types<C>::Stream &in, typename Types<C>::Stream &out) {
  Trace::process("tail");
  if (step.pool_stride == 0 || C::kPoolWords < 2) {  // a constant: without room there is no max-pool
    const int total = step.middle_height * step.middle_width * step.store_words;
  Pass:
    for (int i = 0; i < total; ++i) {
      #pragma HLS PIPELINE II=1
      Trace::iteration("Pass", 1, 1, i == 0);
      out.write(in.read());
    }
    return;
  }

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

}  // namespace codesign

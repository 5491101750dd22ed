// ring.hpp -- the rows that a window can see, and nine words of them at once.
//
// The ring: while output row y is produced from rows r - reach to r + reach, the stride_y rows after them
// arrive, so 2*reach + 1 + stride_y rows must have a place (checked with the descriptor). For stride 1 and bound D
// that is 2*D + 2 rows: with one row fewer, a pixel of offset D reads what has just been overwritten. The ring has
// kRingRows slots of kRowWords words. A window that needs few rows spreads each over 2 or 4 slots, so that rows may be
// as much longer: of `rows` = kRingRows >> spread, row n takes slots n % rows, n % rows + rows, ...
//
// Banks: every slot is a memory of its own, three times over: copy j holds what column j of the taps reads. The three
// rows of a column share one address in different slots, so each bank is read at one address and written at one, in
// any cycle and for any offset; which bank is which row is a choice among what was read. A slot being written is never
// one being read.
#pragma once
#include "descriptor.hpp"
#include "trace.hpp"

namespace codesign {

template <class C>
struct Ring {
  static_assert(C::kRingRows >= 4, "kRingRows: a 3x3 window needs three rows to read and one to write");
  typename Types<C>::Acts bank[kRingCopies][C::kRingRows][C::kRowWords];

  static int wrap(int index, int rows) {
    #pragma HLS INLINE
    return index >= rows ? index - rows : index < 0 ? index + rows : index;
  }
  // Which of the slots of its row a word lies in.
  static int part(int word) {
    #pragma HLS INLINE
    return (word >= C::kRowWords) + (word >= 2 * C::kRowWords) + (word >= 3 * C::kRowWords);
  }
};

// Where one output pixel looks: the map, the centre, the first slot of the centre's row among so many rows, and the
// word of the centre.
struct Place {
  int height, width, y, x, slot, rows, word;
};

// What is read for one word of output: rows y + i*d, columns x + j*d; zero outside the map.
template <class C>
struct Taps {
  typename Types<C>::Acts word[3][3];
  bool inside[3][3];
};

// `step_words`: words between the columns. A packed row holds several pixels a word.
template <class C>
void look(const Ring<C> &ring, const Place &at, int d, int step_words, bool packed, Taps<C> &taps) {
#pragma HLS INLINE
Column:
  for (int j = 0; j < 3; ++j) {
    #pragma HLS UNROLL
    const int x = at.x + (j - 1) * d;
    const bool in_row = x >= 0 && x < at.width;
    const int there = packed ? x >> C::kPackLog2 : at.word + (j - 1) * step_words;
    const int word_of_row = in_row ? there : 0, part = Ring<C>::part(word_of_row);
    const int first = part * at.rows, address = word_of_row - part * C::kRowWords;
  Row:
    for (int i = 0; i < 3; ++i) {
      #pragma HLS UNROLL
      const int y = at.y + (i - 1) * d;
      const bool inside = in_row && y >= 0 && y < at.height;
      const int slot = first + Ring<C>::wrap(at.slot + (i - 1) * d, at.rows);
      Trace::read("ring.bank", (j % kRingCopies) * C::kRingRows + slot, address);
      const typename Types<C>::Acts word = ring.bank[j % kRingCopies][slot][address];
      taps.word[i][j] = inside ? word : zeros<typename Types<C>::Acts>();
      taps.inside[i][j] = inside;
    }
  }
}

}  // namespace codesign

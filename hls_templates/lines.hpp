// lines.hpp -- the 3x3 neighbourhoods of a map that arrives as a stream, without random access.
//
// While word g of pixel (y, x) arrives, that of (y - 1, x - 1) has all its neighbours: rows y - 1 and y - 2 are in row
// buffers, columns x - 1 and x - 2 of all three rows a few words back. One more row and one more column than the map
// has complete its edge; nothing arrives in them. Outside the map is zero.
//
// A pixel takes at least kSlots turns, empty ones if it has fewer words, so that what is written in one of them is
// there when it is read in a later one: kSlots turns for columns, a row for rows.
//
// Memories: `above`, one read and one write a turn at the same address in each; `behind`, likewise.
#pragma once
#include "trace.hpp"
#include "vendor.hpp"
#include "window.hpp"

namespace codesign {

template <class C, int kWords, int kGroups>
struct Lines {
  typename Types<C>::Acts above[2][kWords];       // one and two rows up: words of a row
  typename Types<C>::Acts behind[2][3][kGroups];  // one and two columns to the left: rows, words of a pixel
};

// Where the words of a map are, as they come. `turns` is how many there are.
struct Turn {
  int height, width, words, slots;
  int y, x, slot, at;  // `at`: word of the row

  Turn(int rows, int columns, int pixel_words)
      : height(rows),
        width(columns),
        words(pixel_words),
        slots(larger(pixel_words, kSlots)),
        y(0),
        x(0),
        slot(0),
        at(0) {}

  int turns() const {
    #pragma HLS INLINE
    return (height + 1) * (width + 1) * slots;
  }
  bool used() const {
    #pragma HLS INLINE
    return slot < words;
  }
  bool arrives() const {
    #pragma HLS INLINE
    return used() && y < height && x < width;
  }
  // Whether the centre is in the map and one of every `stride` rows and columns.
  bool centred(int stride) const {
    #pragma HLS INLINE
    const int mask = stride - 1;
    return used() && y > 0 && x > 0 && ((y - 1) & mask) == 0 && ((x - 1) & mask) == 0;
  }
  void advance() {
    #pragma HLS INLINE
    if (used() && x < width) ++at;
    if (++slot < slots) return;
    slot = 0;
    if (++x <= width) return;
    x = at = 0;
    ++y;
  }
};

// Takes a word and gives the neighbourhood of the centre. `rows` and `columns` name the memories.
template <class C, int kWords, int kGroups>
void neighbours(Lines<C, kWords, kGroups> &lines, const Turn &turn, const typename Types<C>::Acts &word,
                const char *rows, const char *columns, Taps<C> &taps) {
  #pragma HLS INLINE
  const bool in_row = turn.x < turn.width;
  typename Types<C>::Acts column[3];
  column[2] = word;
  column[1] = column[0] = zeros<typename Types<C>::Acts>();
  if (in_row) {
    Trace::read(rows, 0, turn.at);
    Trace::read(rows, 1, turn.at);
    Trace::write(rows, 0, turn.at);
    Trace::write(rows, 1, turn.at);
    column[1] = lines.above[0][turn.at];
    column[0] = lines.above[1][turn.at];
    lines.above[1][turn.at] = column[1];
    lines.above[0][turn.at] = word;
  }
Row:
  for (int i = 0; i < 3; ++i) {
    #pragma HLS UNROLL
    Trace::read(columns, i, turn.slot);
    Trace::read(columns, 3 + i, turn.slot);
    Trace::write(columns, i, turn.slot);
    Trace::write(columns, 3 + i, turn.slot);
    taps.word[i][2] = column[i];
    taps.word[i][1] = lines.behind[0][i][turn.slot];
    taps.word[i][0] = lines.behind[1][i][turn.slot];
    lines.behind[1][i][turn.slot] = taps.word[i][1];
    lines.behind[0][i][turn.slot] = column[i];
  Column:
    for (int j = 0; j < 3; ++j) {
      #pragma HLS UNROLL
      const int y = turn.y - 2 + i, x = turn.x - 2 + j;
      taps.inside[i][j] = y >= 0 && y < turn.height && x >= 0 && x < turn.width;
      if (!taps.inside[i][j]) taps.word[i][j] = zeros<typename Types<C>::Acts>();
    }
  }
}

}  // namespace codesign

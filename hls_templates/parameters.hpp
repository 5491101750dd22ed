// parameters.hpp -- weights and requantization rows of the next step, on their way to the units while one runs.
//
//   requant rows   kRowWords words a group; byte `lane` of word 0..3 is that byte of bias[lane], of word 4
//                  mult[lane], of word 5 shift[lane]; wide ones: rows.hpp
//   depthwise      9 words a group, one a tap, row-major; byte `lane` is the weight of that channel
//   tiles          (kLanes + 1) / 2 words a tile; byte `lane` of word j holds the weights from input lane 2j
//                  (low half) and 2j + 1 (high half) to output lane `lane`
//   table          256 bytes, entry by entry, a word kLanes of them
//   order of tiles output group, input word, and for int8 weights the high half, -8..7, before the low, 0..15
//
// Every unit has room for two steps: it works with one half and fills the other. `prefetch` sends what the next step
// needs in this order, each part as one burst:
//
//   rows of finish.hpp, first array, then second   taken before it begins: it begins later than all others
//   tiles of pointwise.hpp, first array            evenly beside its first products, so that these need not wait
//   tiles of the second array                      evenly beside the second half of its products; what is left of
//                                                  both, after them
//   taps and rows of window.hpp, then middle.hpp   taken when its map is done
//   table of tail.hpp                              the same
//
// Tiles that an earlier step has computed lie in the arena instead of before their rows; which is when they are brought,
// engine.hpp says.
//
// Nothing waits for a part that is sent after what it must first take itself, so that no order of events can stop: the
// second array is never half through while the first is not nearly so.
// Cycles: words, at one a cycle; beside a step they cost nothing as long as they are fewer than its products.
#pragma once
#include "descriptor.hpp"
#include "trace.hpp"

namespace codesign {

// Words of each part that a step needs.
template <class C>
struct ParameterWords {
  static const int kTileWords = (C::kLanes + 1) / 2;
  static const int kTableWords = kTableBytes / C::kLanes;

  static int tiles(const Matrix &matrix) {
    #pragma HLS INLINE
    return matrix.mode * matrix.in * matrix.out * kTileWords;
  }
  static int rows(const Matrix &matrix) {
    #pragma HLS INLINE
    return matrix.mode == kNoPointwise ? 0 : matrix.out * Types<C>::kRowWords;
  }
  static int taps(const Step &step) {
    #pragma HLS INLINE
    return has_taps(step) ? step.groups * 9 : 0;
  }
  static int window_rows(const Step &step) {
    #pragma HLS INLINE
    return rows_of_window(step) * Types<C>::kRowWords;
  }
  static int middle_taps(const Step &step) {
    #pragma HLS INLINE
    return step.middle_stride != 0 ? step.first.out * 9 : 0;
  }
  static int middle_rows(const Step &step) {
    #pragma HLS INLINE
    return step.middle_stride != 0 ? step.first.out * Types<C>::kRowWords : 0;
  }
  static int table(const Step &step) {
    #pragma HLS INLINE
    return C::kTables > 0 && step.table != 0 ? kTableWords : 0;
  }
};

// Collects the words of a requantization row.
template <class C>
struct RowTaker {
  typename Types<C>::Word word[Types<C>::kRowWords];
  int count, row;

  explicit RowTaker(int first) : count(0), row(first) {}

  template <int kRows>
  void take(const typename Types<C>::Word &next, const char *name,
            typename Types<C>::RequantRow (&table)[kRows]) {
    #pragma HLS INLINE
    word[count] = next;
    if (++count < Types<C>::kRowWords) return;
    typename Types<C>::RequantRow taken;
  Lane:
    for (int lane = 0; lane < C::kLanes; ++lane) {
      #pragma HLS UNROLL
      taken.set(lane, word);
    }
    Trace::write(name, 0, row);
    table[row] = taken;
    ++row;
    count = 0;
  }
};

// Collects the taps of a group.
template <class C>
struct TapTaker {
  typename Types<C>::DepthwiseWeights group;
  int tap, index;

  explicit TapTaker(int first) : tap(0), index(first) {}

  template <int kGroups>
  void take(const typename Types<C>::Word &next, const char *name,
            typename Types<C>::DepthwiseWeights (&weights)[kGroups]) {
    #pragma HLS INLINE
  Lane:
    for (int lane = 0; lane < C::kLanes; ++lane) {
      #pragma HLS UNROLL
      group.tap[tap][lane] = static_cast<signed char>(Types<C>::Memory::byte(next, lane));
    }
    if (++tap < 9) return;
    Trace::write(name, 0, index);
    weights[index] = group;
    ++index;
    tap = 0;
  }
};

// Collects the words of a tile.
template <class C>
struct TileTaker {
  typename Types<C>::Tile tile;
  int word, index;
  bool halves, low;  // int8 weights; the next tile is the lower half of them

  TileTaker(int first, bool in_halves) : word(0), index(first), halves(in_halves), low(false) {}

  void take(const typename Types<C>::Word &next, const char *name,
            typename Types<C>::Tile (&weights)[2 * C::kWeightTiles]) {
    #pragma HLS INLINE
    // A low half is 0..15; every other nibble is -8..7: the bit of weight 8 counts -8.
    const int flip = low ? 0 : 8;
  Lane:
    for (int lane = 0; lane < C::kLanes; ++lane) {
      #pragma HLS UNROLL
      const int byte = int(Types<C>::Memory::byte(next, lane));
      tile.data[2 * word][lane] = static_cast<signed char>(((byte & 15) ^ flip) - flip);
      if (C::kLanes > 1) {  // with one lane, the high half of the byte is empty
        tile.data[(2 * word + 1) % C::kLanes][lane] = static_cast<signed char>(((byte >> 4) ^ flip) - flip);
      }
    }
    if (++word < ParameterWords<C>::kTileWords) return;
    Trace::write(name, 0, index);
    weights[index] = tile;
    ++index;
    word = 0;
    low = halves && !low;
  }
};

// When to take words: after `wait` turns, evenly over `over` turns; `left` is what has not been taken.
struct Pace {
  int left, count, turns, sum, wait;

  Pace(int words, int first, int over)
      : left(words), count(words), turns(larger(words, over)), sum(0), wait(first) {}

  // Once a turn.
  bool due() {
    #pragma HLS INLINE
    if (wait > 0) {
      --wait;
      return false;
    }
    if (left == 0) return false;
    sum += count;
    if (sum < turns) return false;
    sum -= turns;
    --left;
    return true;
  }
};

// Where the rows of both arrays begin: behind the tiles of each, or apart from tiles that lie in the arena.
template <class C>
int rows_of_first(const Step &step) {
  #pragma HLS INLINE
  return step.rows != 0 ? step.rows : step.first.parameters + ParameterWords<C>::tiles(step.first);
}

template <class C>
int rows_of_second(const Step &step) {
  #pragma HLS INLINE
  if (step.rows != 0) return step.rows + ParameterWords<C>::rows(step.first);
  return step.second.parameters + ParameterWords<C>::tiles(step.second);
}

// One part, as one burst.
template <class C>
void send(const typename Types<C>::Word *memory, int address, int words,
          hls::stream<typename Types<C>::Word> &out) {
  #pragma HLS INLINE
Word:
  for (int i = 0; i < words; ++i) {
    #pragma HLS PIPELINE II=1
    Trace::iteration("Word", 1, 3, i == 0);
    Trace::fetch("program", address + i);
    out.write(memory[address + i]);
  }
}

// For an engine of one array.
template <class C>
void prefetch(const Step &next, const typename Types<C>::Word *memory,
              hls::stream<typename Types<C>::Word> &rows, hls::stream<typename Types<C>::Word> &tiles,
              hls::stream<typename Types<C>::Word> &filters, hls::stream<typename Types<C>::Word> &table) {
  Trace::process("prefetch");
  typedef ParameterWords<C> Words;
  send<C>(memory, rows_of_first<C>(next), Words::rows(next.first), rows);
  send<C>(memory, next.first.parameters, Words::tiles(next.first), tiles);
  send<C>(memory, next.window_parameters, Words::taps(next) + Words::window_rows(next), filters);
  send<C>(memory, next.table, Words::table(next), table);
}

// For an engine of two.
template <class C>
void prefetch_both(
    const Step &next, const typename Types<C>::Word *memory, hls::stream<typename Types<C>::Word> &first_rows,
    hls::stream<typename Types<C>::Word> &second_rows, hls::stream<typename Types<C>::Word> &first_tiles,
    hls::stream<typename Types<C>::Word> &second_tiles, hls::stream<typename Types<C>::Word> &filters,
    hls::stream<typename Types<C>::Word> &middle_filters, hls::stream<typename Types<C>::Word> &table) {
  Trace::process("prefetch_both");
  typedef ParameterWords<C> Words;
  send<C>(memory, rows_of_first<C>(next), Words::rows(next.first), first_rows);
  send<C>(memory, rows_of_second<C>(next), Words::rows(next.second), second_rows);
  send<C>(memory, next.first.parameters, Words::tiles(next.first), first_tiles);
  send<C>(memory, next.second.parameters, Words::tiles(next.second), second_tiles);
  send<C>(memory, next.window_parameters, Words::taps(next) + Words::window_rows(next), filters);
  send<C>(memory, next.middle_parameters, Words::middle_taps(next) + Words::middle_rows(next),
          middle_filters);
  send<C>(memory, next.table, Words::table(next), table);
}

}  // namespace codesign

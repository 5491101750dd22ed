// middle.hpp -- between the arrays: a 3x3 depthwise convolution from row buffers, or nothing.
//
//   first -> depthwise -> second     1x1, 3x3 depthwise and 1x1 in one step: neither of the two maps between them
//                                    reaches memory
//   first, second                    both compute words of the same result from the same words: `fork` gives them to
//                                    both, and `join` takes of each pixel first the words of the first, which `middle`
//                                    has passed on, then those of the second
//
// with out[y][x][c] = requant(sum over i,j of w[i][j][c] * in[y*s + i][x*s + j][c]), i and j from -1 to 1, zero outside
// the map, s = middle_stride.
//
// Streams: words of a pixel together, pixels row by row.
// Cycles: (rows + 1) * (columns + 1) * max(words a pixel, kSlots); the words, if nothing is between the arrays.
// Afterwards, words of the next step's filters. Memories: see lines.hpp.
#pragma once
#include "lines.hpp"
#include "parameters.hpp"

namespace codesign {

// Whether both arrays get the same words.
inline bool is_forked(const Step &step) {
  #pragma HLS INLINE
  return step.second.mode != kNoPointwise && step.middle_stride == 0;
}

template <class C>
void fork(const Step &step, typename Types<C>::Stream &in, typename Types<C>::Stream &first,
          typename Types<C>::Stream &second) {
  Trace::process("fork");
  const int total = step.out_height * step.out_width * step.window_words;
Word:
  for (int i = 0; i < total; ++i) {
    #pragma HLS PIPELINE II=1
    Trace::iteration("Word", 1, 1, i == 0);
    const typename Types<C>::Acts word = in.read();
    first.write(word);
    if (is_forked(step)) second.write(word);
  }
}

template <class C>
void middle(const Step &step, const Step &next, int half, typename Types<C>::Stream &in,
            hls::stream<typename Types<C>::Word> &next_filters,
            typename Types<C>::DepthwiseWeights (&weights)[2 * C::kMiddleGroups],
            typename Types<C>::RequantRow (&table)[2 * C::kMiddleGroups], typename Types<C>::Stream &chained,
            typename Types<C>::Stream &passed) {
  Trace::process("middle");
  if (step.middle_stride == 0 || C::kMiddleWords < 2) {  // a constant: without room there is no depthwise
    const int total = step.out_height * step.out_width * step.first_words;
  Pass:
    for (int i = 0; i < total; ++i) {
      #pragma HLS PIPELINE II=1
      Trace::iteration("Pass", 1, 1, i == 0);
      passed.write(in.read());
    }
  } else {
    Lines<C, C::kMiddleWords, C::kMiddleGroups> middle_lines;
    #pragma HLS ARRAY_PARTITION variable=middle_lines.above complete dim=1
    #pragma HLS ARRAY_PARTITION variable=middle_lines.behind complete dim=1
    #pragma HLS ARRAY_PARTITION variable=middle_lines.behind complete dim=2
    CODESIGN_ONE_WORD(middle_lines.above)
    CODESIGN_ONE_WORD(middle_lines.behind)
    CODESIGN_IN_BRAM(middle_lines.above)
    Turn turn(step.out_height, step.out_width, step.first.out);
    const int total = turn.turns();
    Trace::control(6);  // products
  Slot:
    for (int i = 0; i < total; ++i) {
      #pragma HLS PIPELINE II=1
      #pragma HLS DEPENDENCE variable=middle_lines.above inter distance=8 true
      #pragma HLS DEPENDENCE variable=middle_lines.behind inter distance=4 true
      Trace::iteration("Slot", 1, 18, i == 0);
      if (turn.used()) {
        typename Types<C>::Acts word = zeros<typename Types<C>::Acts>();
        if (turn.arrives()) word = in.read();
        Taps<C> taps;
        neighbours(middle_lines, turn, word, "middle_lines.above", "middle_lines.behind", taps);
        if (turn.centred(step.middle_stride)) {
          const int group = half * C::kMiddleGroups + turn.slot;
          Trace::read("parameters.middle", 0, group);
          Trace::read("parameters.middle_requant", 0, group);
          chained.write(depthwise<C>(taps, weights[group], table[group], step.middle_low, step.middle_high));
        }
      }
      turn.advance();
    }
  }
  const int taps = ParameterWords<C>::middle_taps(next), rows = ParameterWords<C>::middle_rows(next);
  TapTaker<C> tap_taker((1 - half) * C::kMiddleGroups);
  RowTaker<C> row_taker((1 - half) * C::kMiddleGroups);
NextTaps:
  for (int i = 0; i < taps; ++i) {
    #pragma HLS PIPELINE II=1
    Trace::iteration("NextTaps", 1, 3, i == 0);
    tap_taker.take(next_filters.read(), "parameters.middle", weights);
  }
NextRows:
  for (int i = 0; i < rows; ++i) {
    #pragma HLS PIPELINE II=1
    Trace::iteration("NextRows", 1, 3, i == 0);
    row_taker.take(next_filters.read(), "parameters.middle_requant", table);
  }
}

// What the second array gets: the words of the window, or those of the middle.
template <class C>
void feed(const Step &step, typename Types<C>::Stream &forked, typename Types<C>::Stream &chained,
          typename Types<C>::Stream &out) {
  Trace::process("feed");
  const int total = pixels_of<1>(step) * step.second.in;
Word:
  for (int i = 0; i < total; ++i) {
    #pragma HLS PIPELINE II=1
    Trace::iteration("Word", 1, 1, i == 0);
    if (step.middle_stride != 0) {
      out.write(chained.read());
    } else {
      out.write(forked.read());
    }
  }
}

template <class C>
void join(const Step &step, typename Types<C>::Stream &first, typename Types<C>::Stream &second,
          typename Types<C>::Stream &out) {
  Trace::process("join");
  const int total = step.middle_height * step.middle_width * step.store_words;
  const int from_first = step.middle_stride != 0 ? 0 : step.first_words;
  int word = 0;
Word:
  for (int i = 0; i < total; ++i) {
    #pragma HLS PIPELINE II=1
    Trace::iteration("Word", 1, 1, i == 0);
    if (word < from_first) {
      out.write(first.read());
    } else {
      out.write(second.read());
    }
    if (++word == step.store_words) word = 0;
  }
}

}  // namespace codesign

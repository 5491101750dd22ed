// finish.hpp -- behind an array: requantization, and pixels in order again.
//
//   out[p][o] = requant(sum[p][o])
//
// The array leaves one output word of all kPixels pixels of a block after the other; memory wants all words of one
// pixel after the other. While one block is written into a half of `block`, the one before is read from the other.
//
// Streams: in: one Sums a block and output word; out: words of a pixel together, pixels in order.
// Cycles: words of the next step's rows, then (blocks + 1) * kPixels * output words, one word requantized and one
// written in each. Memories: one read and one write a cycle in `block`, one read or one write in `table`.
#pragma once
#include "descriptor.hpp"
#include "parameters.hpp"
#include "requant.hpp"
#include "trace.hpp"
#include "vendor.hpp"

namespace codesign {

template <class C, int kArray>
void finish(const Step &step, const Step &next, int half, typename Types<C>::SumStream &in,
            hls::stream<typename Types<C>::Word> &next_rows,
            typename Types<C>::RequantRow (&table)[2 * C::kOutputWords], typename Types<C>::Stream &out) {
  Trace::process(kArray == 0 ? "finish" : "second_finish");
  const char *const rows_name = kArray == 0 ? "parameters.pointwise_requant" : "parameters.second_requant";
  const Matrix &matrix = matrix_of<kArray>(step);
  const int arriving = ParameterWords<C>::rows(matrix_of<kArray>(next)), first_row = half * C::kOutputWords;
  RowTaker<C> taker((1 - half) * C::kOutputWords);
Next:
  for (int i = 0; i < arriving; ++i) {
    #pragma HLS PIPELINE II=1
    Trace::iteration("Next", 1, 3, i == 0);
    taker.take(next_rows.read(), rows_name, table);
  }
  const int pixels = pixels_of<kArray>(step);
  if (matrix.mode == kNoPointwise) {
    const int total = kArray == 0 ? pixels * step.window_words : 0;
  Pass:
    for (int i = 0; i < total; ++i) {
      #pragma HLS PIPELINE II=1
      Trace::iteration("Pass", 1, 1, i == 0);
      const typename Types<C>::Sums sums = in.read();
      typename Types<C>::Acts acts;
    PassLane:
      for (int lane = 0; lane < C::kLanes; ++lane) {
        #pragma HLS UNROLL
        acts[lane] = typename Types<C>::Act(int(sums.data[0][lane]));
      }
      out.write(acts);
    }
    return;
  }

  typename Types<C>::Acts block[2 * C::kOutputWords][C::kPixels];
  #pragma HLS ARRAY_PARTITION variable=block complete dim=2
  CODESIGN_ONE_WORD(block)
  typename Types<C>::Sums sums = Types<C>::no_sums();
  const int blocks = (pixels + C::kPixels - 1) / C::kPixels;
  const int trips = C::kPixels * matrix.out;
  const long long total = static_cast<long long>(blocks + 1) * trips;
  int trip = 0, from = C::kOutputWords, to = 0;
  int taken_pixel = 0, taken_word = 0, given_pixel = 0, given_word = 0;
  int present = 0, left = pixels;  // pixels of the block that is given, and of those that have not been taken
Word:
  for (long long i = 0; i < total; ++i) {
    #pragma HLS PIPELINE II=1
    #pragma HLS DEPENDENCE variable=block inter false
    Trace::iteration("Word", 1, 12, i == 0);
    if (given_pixel < present) {
      Trace::read("block", kArray * C::kPixels + given_pixel, from + given_word);
      out.write(block[from + given_word][given_pixel]);
      if (++given_word == matrix.out) {
        given_word = 0;
        ++given_pixel;
      }
    }
    if (left > 0) {
      if (taken_pixel == 0) sums = in.read();
      typename Types<C>::Accs acc;
    Lane:
      for (int lane = 0; lane < C::kLanes; ++lane) {
        #pragma HLS UNROLL
        acc[lane] = sums.data[taken_pixel][lane];
      }
      Trace::read(rows_name, 0, first_row + taken_word);
      Trace::write("block", kArray * C::kPixels + taken_pixel, to + taken_word);
      block[to + taken_word][taken_pixel] =
          requant<C>(acc, table[first_row + taken_word], matrix.low, matrix.high);
      if (++taken_pixel == C::kPixels) {
        taken_pixel = 0;
        ++taken_word;
      }
    }
    if (++trip == trips) {
      trip = taken_word = given_pixel = 0;
      present = smaller(left, C::kPixels);
      left = larger(left - C::kPixels, 0);
      const int half = from;
      from = to;
      to = half;
    }
  }
}

}  // namespace codesign

// pointwise.hpp -- an array of multipliers: a matrix product at kPixels pixels at once. There are two of them.
//
//   sum[p][o] = sum over i of w[o][i] * in[p][i]
//
// kPixels x kLanes x kLanes / kTurns products a cycle. A block of kPixels pixels is kept on chip while its outputs
// are computed, a word of them in kTurns turns of the array; the words of the next block arrive meanwhile, in the other half of `kept`. What is
// left of a last block that is not full is zero. An int4 weight is one pass of the array. An int8 weight is
// 16 * high + low, two passes, with high in -8..7 and low in 0..15. Two weights share a multiplier: see numbers.hpp.
//
// Streams: in: words of a pixel together, pixels in order; out: one Sums a block and output word, to finish.hpp.
// Cycles: (blocks + 1) * max(kPixels * input words, input words * output words * kTurns * passes),
// blocks = pixels / kPixels rounded up. One loop over all of them: no refill between blocks.
// Beside them the next step's weights, evenly over a part of it (see parameters.hpp): the array must not wait for the
// memory. What does not find room arrives after them.
// Memories: one read and one write a cycle in `kept` and in `weights`.
#pragma once
#include "descriptor.hpp"
#include "parameters.hpp"
#include "trace.hpp"
#include "vendor.hpp"
#include "whole.hpp"

namespace codesign {

// Turns of an array in a step, cut at 2^30, which is far more than there are weights to take meanwhile.
template <class C, int kArray>
int turns_of(const Step &step) {
  #pragma HLS INLINE
  const Matrix &matrix = matrix_of<kArray>(step);
  const int pixels = pixels_of<kArray>(step), most = 1 << 30;
  const int trips = larger(C::kPixels * matrix.in, matrix.mode * matrix.in * matrix.out * C::kTurns);
  const long long blocks = (pixels + C::kPixels - 1) / C::kPixels + 1;
  const long long passing = kArray == 0 ? static_cast<long long>(pixels) * step.window_words : 0;
  const long long all = matrix.mode == kNoPointwise ? passing : blocks * trips;
  return all < most ? int(all) : most;
}

template <class C, int kArray>
void pointwise(const Step &step, const Step &next, int half, typename Types<C>::Stream &in,
               hls::stream<typename Types<C>::Word> &next_tiles,
               typename Types<C>::Tile (&weights)[2 * C::kWeightTiles], typename Types<C>::SumStream &out) {
  static_assert(C::kPixels >= 1, "kPixels must be at least 1");
  static_assert(C::kTurns >= 1 && C::kLanes % C::kTurns == 0,
                "kTurns must divide kLanes: every turn computes as many outputs");
  static const int kOutputs = C::kLanes / C::kTurns;  // of a pixel, at once
  typedef DotProducts<C::kPixels, C::kLanes, kOutputs, C::kFabric> Array;

  Trace::process(kArray == 0 ? "pointwise" : "second_pointwise");
  const char *const tiles_name = kArray == 0 ? "parameters.tiles" : "parameters.second_tiles";
  const Matrix &matrix = matrix_of<kArray>(step), &next_matrix = matrix_of<kArray>(next);
  const int pixels = pixels_of<kArray>(step);
  const int arriving = ParameterWords<C>::tiles(next_matrix);
  TileTaker<C> taker((1 - half) * C::kWeightTiles, next_matrix.mode == kInt8);
  const bool halves = matrix.mode == kInt8;
  const int blocks = matrix.mode == kNoPointwise ? -1 : (pixels + C::kPixels - 1) / C::kPixels;
  const int fetches = C::kPixels * matrix.in;
  const int tiles = matrix.mode * matrix.in;  // of an output word
  const int products = tiles * matrix.out * C::kTurns;
  const int trips = larger(larger(fetches, products), 1);
  const bool done = Whole<C>::product(matrix, pixels, half * C::kWeightTiles, weights, in, out);
  const long long total = done ? 0 : static_cast<long long>(blocks + 1) * trips;
  const int passing = kArray == 0 && matrix.mode == kNoPointwise ? pixels * step.window_words : 0;
  // The second array begins to take when the first has all that is its own, for which it must have had the time.
  const int eighth = turns_of<C, kArray>(step) / 8, first_time = 3 * (turns_of<C, 0>(step) / 8);
  const bool late = kArray == 1 && ParameterWords<C>::tiles(next.first) > first_time;
  Pace pace(arriving, late ? 1 << 30 : kArray == 1 ? 4 * eighth : 0, 3 * eighth);
  if (passing > 0) {
  Pass:
    for (int i = 0; i < passing; ++i) {
      #pragma HLS PIPELINE II=1
      Trace::iteration("Pass", 1, 1, i == 0);
      if (pace.due()) taker.take(next_tiles.read(), tiles_name, weights);
      const typename Types<C>::Acts acts = in.read();
      typename Types<C>::Sums word = Types<C>::no_sums();
    PassLane:
      for (int lane = 0; lane < C::kLanes; ++lane) {
        #pragma HLS UNROLL
        word.data[0][lane] = int(acts[lane]);
      }
      out.write(word);
    }
  }

  typename Types<C>::Factors kept[2 * C::kInputWords][C::kPixels];
  #pragma HLS ARRAY_PARTITION variable=kept complete dim=2
  CODESIGN_ONE_WORD(kept)
  typename Types<C>::Sums sums = Types<C>::no_sums(), word = sums;
  int trip = 0, due = 0, from = C::kInputWords, to = 0;    // the halves of `kept`
  int left = pixels, fetched_pixel = 0, fetched_word = 0;  // pixels that have not begun to arrive
  const int first = half * C::kWeightTiles;
  int input = 0, pass = 0, turn = 0, output = 0, tile = first;
  bool computes = false;  // in the first pass, nothing is there to compute with
MultiplyAccumulate:
  for (long long i = 0; i < total; ++i) {
    #pragma HLS PIPELINE II=1
    #pragma HLS DEPENDENCE variable=kept inter false
    #pragma HLS DEPENDENCE variable=weights inter false
    Trace::iteration("MultiplyAccumulate", 1, 24, i == 0);
    if (pace.due()) taker.take(next_tiles.read(), tiles_name, weights);
    due += fetches;
    if (due >= trips) {  // spread over the block: nobody has to send words faster than they are needed
      due -= trips;
      typename Types<C>::Acts acts = zeros<typename Types<C>::Acts>();
      if (fetched_pixel < left) acts = in.read();
      Trace::write("kept", kArray * C::kPixels + fetched_pixel, to + fetched_word);
    Keep:
      for (int lane = 0; lane < C::kLanes; ++lane) {
        #pragma HLS UNROLL
        kept[to + fetched_word][fetched_pixel][lane] = int(acts[lane]);
      }
      if (++fetched_word == matrix.in) {
        fetched_word = 0;
        ++fetched_pixel;
      }
    }
    if (computes && trip < products) {
      typename Array::Weights chosen;
      Trace::read(tiles_name, 0, tile + input * matrix.mode + pass);
      Array::choose(weights[tile + input * matrix.mode + pass].data, turn * kOutputs, chosen);
      typename Array::Result product;
      Array::multiply(kept[from + input], chosen, product);
      const bool begins = input == 0 && pass == 0;
      const int scale = halves && pass == 0 ? 16 : 1;
    Pixel:
      for (int p = 0; p < C::kPixels; ++p) {
        #pragma HLS UNROLL
        Trace::read("kept", kArray * C::kPixels + p, from + input);
      Output:
        for (int o = 0; o < kOutputs; ++o) {
          #pragma HLS UNROLL
          const int before = begins ? 0 : int(sums.data[p][o]);
          sums.data[p][o] = typename Types<C>::Acc(before + int(product.data[p][o]) * scale);
        }
      }
      if (++pass == matrix.mode) {
        pass = 0;
        if (++input == matrix.in) {
          input = 0;
        Turn:
          for (int p = 0; p < C::kPixels; ++p) {
            #pragma HLS UNROLL
          Place:
            for (int o = 0; o < kOutputs; ++o) {
              #pragma HLS UNROLL
              word.data[p][turn * kOutputs + o] = sums.data[p][o];
            }
          }
          if (++turn == C::kTurns) {
            turn = 0;
            out.write(word);
            tile += tiles;
            if (++output == matrix.out) {
              output = 0;
              tile = first;
            }
          }
        }
      }
    }
    if (++trip == trips) {
      trip = 0;
      computes = true;
      left -= C::kPixels;
      fetched_pixel = 0;
      const int half = from;
      from = to;
      to = half;
    }
  }
  const int rest = pace.left;
Rest:
  for (int i = 0; i < rest; ++i) {
    #pragma HLS PIPELINE II=1
    Trace::iteration("Rest", 1, 3, i == 0);
    taker.take(next_tiles.read(), tiles_name, weights);
  }
}

}  // namespace codesign

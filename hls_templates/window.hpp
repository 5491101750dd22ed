// window.hpp -- what looks at neighbouring pixels: a ring of rows, and the ways to read it.
//
//   pass        out[y][x][g] = in[y][x][g]; the ring is not used
//   depthwise   out[y][x][c] = requant(sum over i,j of w[i][j][c] * in[r + i][q + j][c])
//   deformable  the same at [r + i*d][q + j*d], d = offset[y][x], 0 <= d <= reach
//   sampled     out[y][x][c] = requant(sum over taps k of w[k][c] * m_k * X_k[c]): tap k looks at pixel
//               [r + i + dy_k][q + j + dx_k], which lies between four, mixed by their shares; offsets and masks m_k are
//               those of [y][x], limited. Exactly: codesign/ops/sampled_dwconv.py. A word takes a cycle a tap
//   varied      as depthwise, with weights w[y][x][i][j][c] that arrive beside the map. A word takes nine cycles
//   max-pool    out[y][x][c] = max over i,j of in[r + i][q + j][c], only inside the map
//   global      the sum over the whole map: global.hpp; the ring is not used
//   mix         sums of what gates multiply: mix.hpp; nor here
//   gather      the taps one after the other, row-major, each with all its words: what a pointwise array
//               needs to compute a dense convolution; up to 5x5, i and j from -reach to kernel - 1 - reach
//
// with r = y*stride_y + origin_y, q = x*stride_x + origin_x, i and j from -1 to kernel - 2, 0 outside the map.
// Packed words hold 2^kPackLog2 pixels of a row with kLanes >> kPackLog2 channels each; gather then fills
// its words with as many taps.
//
// Streams: words of a pixel together, pixels row by row, one Numbers an output pixel, of a varied window one a tap.
// Cycles: sum over output rows of max(words of the input rows that arrive, words of the output row, times taps where it
// samples), and before them reach + 1 rows to fill the ring (ring.hpp); afterwards, words of the next step's filters.
#pragma once
#include "descriptor.hpp"
#include "global.hpp"
#include "mix.hpp"
#include "parameters.hpp"
#include "requant.hpp"
#include "ring.hpp"
#include "sample.hpp"
#include "trace.hpp"
#include "vendor.hpp"

namespace codesign {

template <class C, class S>
typename Types<C>::Accs narrowed(const S &sum) {
  #pragma HLS INLINE
  typename Types<C>::Accs acc;
Narrow:
  for (int lane = 0; lane < C::kLanes; ++lane) {
    #pragma HLS UNROLL
    acc[lane] = typename Types<C>::Acc(int(sum[lane]));
  }
  return acc;
}

template <class C>
typename Types<C>::Accs weighted(const Taps<C> &taps, const typename Types<C>::DepthwiseWeights &weights) {
  #pragma HLS INLINE
  typename Types<C>::Products sum = zeros<typename Types<C>::Products>();
Row:
  for (int i = 0; i < 3; ++i) {
    #pragma HLS UNROLL
  Column:
    for (int j = 0; j < 3; ++j) {
      #pragma HLS UNROLL
    Lane:
      for (int lane = 0; lane < C::kLanes; ++lane) {
        #pragma HLS UNROLL
        const Product product = Product(int(taps.word[i][j][lane])) * Product(weights.tap[3 * i + j][lane]);
        CODESIGN_IN_LUTS(product)
        sum[lane] += product;
      }
    }
  }
  return narrowed<C>(sum);
}

template <class C>
typename Types<C>::Acts depthwise(const Taps<C> &taps, const typename Types<C>::DepthwiseWeights &weights,
                                  const typename Types<C>::RequantRow &row, int low, int high) {
  #pragma HLS INLINE
  return requant<C>(weighted<C>(taps, weights), row, low, high);
}

template <class C>
typename Types<C>::Acts max_pool(const Taps<C> &taps, int kernel) {
  #pragma HLS INLINE
  typename Types<C>::Acts best = zeros<typename Types<C>::Acts>();
  bool found = false;
Tap:
  for (int tap = 0; tap < 9; ++tap) {
    #pragma HLS UNROLL
    const bool counts = taps.inside[tap / 3][tap % 3] && tap / 3 < kernel && tap % 3 < kernel;
  Lane:
    for (int lane = 0; lane < C::kLanes; ++lane) {
      #pragma HLS UNROLL
      const typename Types<C>::Act act = taps.word[tap / 3][tap % 3][lane];
      if (counts && (!found || act > best[lane])) best[lane] = act;
    }
    found = found || counts;
  }
  return best;
}

// Word `index` of the gathered taps of a packed image; `x` is the column of the centre.
template <class C>
typename Types<C>::Acts gather_packed(const Taps<C> &taps, int x, int kernel, int index) {
  #pragma HLS INLINE
  static const int kPixels = 1 << C::kPackLog2;
  static const int kChannels = C::kLanes / kPixels;
  static_assert(kChannels >= 1, "kPackLog2: a word cannot hold more pixels than it has lanes");
  typename Types<C>::Acts word = zeros<typename Types<C>::Acts>();
Pixel:
  for (int pixel = 0; pixel < kPixels; ++pixel) {
    #pragma HLS UNROLL
    const int tap = index * kPixels + pixel;
    if (tap >= kernel * kernel) continue;
    const int i = tap / kernel, j = tap % kernel, first = ((x + j - 1) & (kPixels - 1)) * kChannels;
  Channel:
    for (int c = 0; c < kChannels; ++c) {
      #pragma HLS UNROLL
      word[pixel * kChannels + c] = taps.word[i][j][first + c];
    }
  }
  return word;
}

template <class C>
void window_map(const Step &step, int half, typename Types<C>::Stream &in,
                typename Types<C>::OffsetStream &offsets,
                const typename Types<C>::DepthwiseWeights (&weights)[2 * C::kWindowGroups],
                const typename Types<C>::RequantRow (&table)[2 * C::kWindowGroups],
                typename Types<C>::Stream &out) {
  #pragma HLS INLINE
  Ring<C> ring;
  #pragma HLS ARRAY_PARTITION variable=ring.bank complete dim=1
  #pragma HLS ARRAY_PARTITION variable=ring.bank complete dim=2
  CODESIGN_ONE_WORD(ring.bank)
  CODESIGN_IN_BRAM(ring.bank)
  const bool packed = step.packed != 0, gathers = step.window == kGather && !packed;
  const bool varied = C::kWeightStream > 0 && step.window == kVaried;
  const bool samples = (C::kSampler > 0 && step.window == kSample) || varied;
  const int turns = turns_of(step);
  const int pixel_words = packed ? 0 : step.groups, stride_words = step.stride_x * pixel_words;
  const int tap_reach = step.reach * pixel_words, tap_span = step.kernel * pixel_words;
  int fetched = 0;     // input rows taken
  int write_slot = 0;  // fetched % rows
  Place at;
  at.height = step.height;
  at.width = step.width;
  at.y = step.origin_y - step.stride_y;  // of the row before the first: nothing is produced in that pass
  at.rows = C::kRingRows >> step.spread;
  at.slot = Ring<C>::wrap(at.y, at.rows);
Row:
  for (int y = -1; y < step.out_height; ++y) {
    const bool first = y < 0, last = y + 1 == step.out_height;
    const int needed = smaller(at.y + step.stride_y + step.reach + 1, step.height);  // by the next row
    const int target = last ? step.height : larger(needed, fetched);
    const int fetch_words = (target - fetched) * step.row_words;
    const int emit_turns = first ? 0 : step.out_width * step.window_words * turns;
    const int trips = larger(fetch_words, emit_turns);
    Trace::control(6);
    int column = 0, index = 0, group = 0, i_tap = 0, j_tap = 0, d = 1;
    int turn = 0;  // the tap of a sampled word
    typename Types<C>::Numbers numbers = zeros<typename Types<C>::Numbers>();
    typename Types<C>::WideSums sum = zeros<typename Types<C>::WideSums>();
    int centre = step.origin_x * pixel_words;  // word of the pixel
    int tap_word = centre - tap_reach;         // and of the tap that is gathered
    at.x = step.origin_x;
  Word:
    for (int i = 0; i < trips; ++i) {
      #pragma HLS PIPELINE II=1
      #pragma HLS DEPENDENCE variable=ring.bank inter false
      Trace::iteration("Word", 1, 18, i == 0);
      if (i < emit_turns) {
        if (varied || (is_steered(step) && index == 0 && turn == 0)) {
          numbers = offsets.read();
          if (!samples) d = int(numbers[0]);
        }
        const Sample<C> sample = sample_of<C>(step, at, numbers, turn);
        Place there = at;
        there.word = (gathers ? tap_word : centre) + group;
        if (gathers) {
          there.x += j_tap - step.reach;
          there.y += i_tap - step.reach;
          there.slot = Ring<C>::wrap(there.slot + i_tap - step.reach, at.rows);
        }
        if (samples) {
          there.x += sample.column;
          there.y += sample.row;
          there.slot = Ring<C>::wrap(there.slot + sample.row, at.rows);
          there.word += sample.column * pixel_words;
        }
        Taps<C> taps;
        look<C>(ring, there, d, d * pixel_words, packed, taps);
        const bool complete = !samples || turn + 1 == turns;
        typename Types<C>::Acts word;
        if (step.window == kMaxPool) {
          word = max_pool<C>(taps, step.kernel);
        } else if (gathers) {
          word = taps.word[1][1];
        } else if (step.window == kGather) {
          word = gather_packed<C>(taps, at.x, step.kernel, index);
        } else {
          const int at_group = half * C::kWindowGroups + index;
          if (!varied) Trace::read("parameters.depthwise", 0, at_group);
          Trace::read("parameters.window_requant", 0, at_group);
          typename Types<C>::Accs acc;
          if (samples) {
            if (turn == 0) sum = zeros<typename Types<C>::WideSums>();
            add_sample<C>(step, taps, sample, weights[at_group], numbers, turn, sum);
            acc = narrowed<C>(sum);
          } else {
            acc = weighted<C>(taps, weights[at_group]);
          }
          word = requant<C>(acc, table[at_group], step.window_low, step.window_high);
        }
        turn = complete ? 0 : turn + 1;
        if (complete) out.write(word);
        if (complete && ++group == step.groups) {
          group = 0;
          tap_word += pixel_words;
          if (++j_tap == step.kernel) {
            tap_word -= tap_span;
            j_tap = 0;
            ++i_tap;
          }
        }
        if (complete && ++index == step.window_words) {
          index = group = i_tap = j_tap = 0;
          at.x += step.stride_x;
          centre += stride_words;
          tap_word = centre - tap_reach;
        }
      }
      if (i < fetch_words) {
        const typename Types<C>::Acts word = in.read();
        const int part = Ring<C>::part(column), slot = write_slot + part * at.rows;
        const int address = column - part * C::kRowWords;
      Copy:
        for (int copy = 0; copy < kRingCopies; ++copy) {
          #pragma HLS UNROLL
          if (!last) {  // after the last pass nobody reads
            Trace::write("ring.bank", copy * C::kRingRows + slot, address);
            ring.bank[copy][slot][address] = word;
          }
        }
        if (++column == step.row_words) {
          column = 0;
          write_slot = Ring<C>::wrap(write_slot + 1, at.rows);
        }
      }
    }
    fetched = target;
    at.y += step.stride_y;
    at.slot = Ring<C>::wrap(at.slot + step.stride_y, at.rows);
  }
}

template <class C>
void window(const Step &step, const Step &next, int half, typename Types<C>::Stream &in,
            typename Types<C>::OffsetStream &offsets, hls::stream<typename Types<C>::Word> &next_filters,
            typename Types<C>::DepthwiseWeights (&weights)[2 * C::kWindowGroups],
            typename Types<C>::RequantRow (&table)[2 * C::kWindowGroups], typename Types<C>::Stream &out) {
  Trace::process("window");
  if (step.window == kPass) {
    const int total = step.height * step.width * step.groups;
  Pass:
    for (int i = 0; i < total; ++i) {
      #pragma HLS PIPELINE II=1
      Trace::iteration("Pass", 1, 1, i == 0);
      out.write(in.read());
    }
  } else if (C::kGlobalWords > 0 && step.window == kGlobal) {
    global_map<C>(step, half, in, table, out);
  } else if (C::kMixer > 0 && step.window == kMix) {
    mix_map<C>(step, half, in, offsets, table, out);
  } else {
    window_map<C>(step, half, in, offsets, weights, table, out);
  }
  const int taps = ParameterWords<C>::taps(next), rows = ParameterWords<C>::window_rows(next);
  TapTaker<C> tap_taker((1 - half) * C::kWindowGroups);
  RowTaker<C> row_taker((1 - half) * C::kWindowGroups);
NextTaps:
  for (int i = 0; i < taps; ++i) {
    #pragma HLS PIPELINE II=1
    Trace::iteration("NextTaps", 1, 3, i == 0);
    tap_taker.take(next_filters.read(), "parameters.depthwise", weights);
  }
NextRows:
  for (int i = 0; i < rows; ++i) {
    #pragma HLS PIPELINE II=1
    Trace::iteration("NextRows", 1, 3, i == 0);
    row_taker.take(next_filters.read(), "parameters.window_requant", table);
  }
}

}  // namespace codesign

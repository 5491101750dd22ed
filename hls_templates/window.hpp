// window.hpp -- what looks at neighbouring pixels: a ring of rows, and five ways to read it.
//
//   pass        out[y][x][g] = in[y][x][g]; the ring is not used
//   depthwise   out[y][x][c] = requant(sum over i,j of w[i][j][c] * in[r + i][q + j][c])
//   deformable  the same at [r + i*d][q + j*d], d = offset[y][x], 0 <= d <= reach
//   max-pool    out[y][x][c] = max over i,j of in[r + i][q + j][c], only inside the map
//   gather      the taps one after the other, row-major, each with all its words: what a pointwise array
//               needs to compute a dense convolution
//
// with r = y*stride_y + origin_y, q = x*stride_x + origin_x, i and j from -1 to kernel - 2, 0 outside the map.
// Packed words hold 2^kPackLog2 pixels of a row with kLanes >> kPackLog2 channels each; gather then fills
// its words with as many taps.
//
// The ring: while output row y is produced from rows r - reach to r + reach, the stride_y rows after them
// arrive, so 2*reach + 1 + stride_y <= kRingRows (checked with the descriptor). For stride 1 and bound D that is
// 2*D + 2 rows: with one row fewer, a pixel of offset D reads what has just been overwritten. Row n lives in slot
// n % kRingRows. Every slot is a memory of its own; the three columns read from one slot need two copies
// of it (two ports each: three reads; a slot being written is never one being read).
//
// Streams: words of a pixel together, pixels row by row, one offset an output pixel.
// Cycles: sum over output rows of max(words of the input rows that arrive, words of the output row), and before
// them reach + 1 rows to fill the ring.
#pragma once
#include "descriptor.hpp"
#include "requant.hpp"
#include "vendor.hpp"

namespace codesign {

template <class C>
struct Ring {
  static_assert(C::kRingRows >= 4, "kRingRows: a 3x3 window needs three rows to read and one to write");
  typename Types<C>::Acts slot[C::kRingRows][C::kRowWords];

  static int wrap(int index) {
    #pragma HLS INLINE
    return index >= C::kRingRows ? index - C::kRingRows : index < 0 ? index + C::kRingRows : index;
  }
};

// Where one output pixel looks: the map, the centre, and the slot of the centre's row.
struct Place {
  int height, width, y, x, slot;
};

// Words of input at row y + i*d, column x + j*d; zero outside the map. `column` counts words of a row.
template <class C>
typename Types<C>::Acts sample(const Ring<C> &ring, const Place &at, int dy, int dx, int groups, int group,
                               bool &inside) {
  #pragma HLS INLINE
  const int y = at.y + dy, x = at.x + dx;
  inside = y >= 0 && y < at.height && x >= 0 && x < at.width;
  typename Types<C>::Acts word = zeros<typename Types<C>::Acts>();
  if (inside) word = ring.slot[Ring<C>::wrap(at.slot + dy)][x * groups + group];
  return word;
}

template <class C>
typename Types<C>::Acts depthwise(const Ring<C> &ring, const Place &at, int d, int groups, int group,
                                  const typename Types<C>::DepthwiseWeights &weights,
                                  const typename Types<C>::RequantRow &row, int low, int high) {
  #pragma HLS INLINE
  typename Types<C>::Products sum = zeros<typename Types<C>::Products>();
Tap:
  for (int tap = 0; tap < 9; ++tap) {
    #pragma HLS UNROLL
    bool inside;
    const typename Types<C>::Acts word =
        sample<C>(ring, at, (tap / 3 - 1) * d, (tap % 3 - 1) * d, groups, group, inside);
  Lane:
    for (int lane = 0; lane < C::kLanes; ++lane) {
      #pragma HLS UNROLL
      sum[lane] += Product(int(word[lane])) * Product(weights.tap[tap][lane]);
    }
  }
  typename Types<C>::Accs acc;
Narrow:
  for (int lane = 0; lane < C::kLanes; ++lane) {
    #pragma HLS UNROLL
    acc[lane] = typename Types<C>::Acc(int(sum[lane]));
  }
  return requant<C>(acc, row, low, high);
}

template <class C>
typename Types<C>::Acts max_pool(const Ring<C> &ring, const Place &at, int kernel, int groups, int group) {
  #pragma HLS INLINE
  typename Types<C>::Acts best = zeros<typename Types<C>::Acts>();
  bool found = false;
Tap:
  for (int tap = 0; tap < 9; ++tap) {
    #pragma HLS UNROLL
    bool inside;
    const typename Types<C>::Acts word = sample<C>(ring, at, tap / 3 - 1, tap % 3 - 1, groups, group, inside);
    const bool counts = inside && tap / 3 < kernel && tap % 3 < kernel;
  Lane:
    for (int lane = 0; lane < C::kLanes; ++lane) {
      #pragma HLS UNROLL
      if (counts && (!found || word[lane] > best[lane])) best[lane] = word[lane];
    }
    found = found || counts;
  }
  return best;
}

// Word `index` of the gathered taps of a packed image.
template <class C>
typename Types<C>::Acts gather_packed(const Ring<C> &ring, const Place &at, int kernel, int index) {
  #pragma HLS INLINE
  static const int kPixels = 1 << C::kPackLog2;
  static const int kChannels = C::kLanes / kPixels;
  static_assert(kChannels >= 1, "kPackLog2: a word cannot hold more pixels than it has lanes");
  typename Types<C>::Acts word = zeros<typename Types<C>::Acts>();
Pixel:
  for (int pixel = 0; pixel < kPixels; ++pixel) {
    #pragma HLS UNROLL
    const int tap = index * kPixels + pixel;
    const int y = at.y + tap / kernel - 1, x = at.x + tap % kernel - 1;
    const bool inside = tap < kernel * kernel && y >= 0 && y < at.height && x >= 0 && x < at.width;
    if (!inside) continue;
    const typename Types<C>::Acts source = ring.slot[Ring<C>::wrap(at.slot + tap / kernel - 1)][x / kPixels];
  Channel:
    for (int c = 0; c < kChannels; ++c) {
      #pragma HLS UNROLL
      word[pixel * kChannels + c] = source[(x % kPixels) * kChannels + c];
    }
  }
  return word;
}

template <class C>
void window(const Step &step, typename Types<C>::Stream &in, typename Types<C>::OffsetStream &offsets,
            const typename Types<C>::DepthwiseWeights (&weights)[C::kWindowGroups],
            const typename Types<C>::RequantRow (&table)[C::kWindowGroups], typename Types<C>::Stream &out) {
  if (step.window == kPass) {
    const int total = step.height * step.width * step.groups;
  Pass:
    for (int i = 0; i < total; ++i) {
      #pragma HLS PIPELINE II=1
      out.write(in.read());
    }
    return;
  }

  Ring<C> ring;
  #pragma HLS ARRAY_PARTITION variable=ring.slot complete dim=1
  CODESIGN_ONE_WORD(ring.slot)
  CODESIGN_IN_BRAM(ring.slot)
  const bool gathers = step.window == kGather && step.packed == 0;
  int fetched = 0;     // input rows taken
  int write_slot = 0;  // fetched % kRingRows
  Place at;
  at.height = step.height;
  at.width = step.width;
  at.y = step.origin_y - step.stride_y;  // of the row before the first: nothing is produced in that pass
  at.slot = (C::kRingRows + at.y) % C::kRingRows;
Row:
  for (int y = -1; y < step.out_height; ++y) {
    const bool first = y < 0, last = y + 1 == step.out_height;
    const int needed = smaller(at.y + step.stride_y + step.reach + 1, step.height);  // by the next row
    const int target = last ? step.height : larger(needed, fetched);
    const int fetch_words = (target - fetched) * step.row_words;
    const int emit_words = first ? 0 : step.out_width * step.window_words;
    const int trips = larger(fetch_words, emit_words);
    int column = 0, index = 0, group = 0, tap = 0, d = 1;
    at.x = step.origin_x;
  Word:
    for (int i = 0; i < trips; ++i) {
      #pragma HLS PIPELINE II=1
      #pragma HLS DEPENDENCE variable=ring.slot inter false
      if (i < fetch_words) {
        const typename Types<C>::Acts word = in.read();
        if (!last) ring.slot[write_slot][column] = word;  // after the last pass nobody reads
        if (++column == step.row_words) {
          column = 0;
          write_slot = Ring<C>::wrap(write_slot + 1);
        }
      }
      if (i < emit_words) {
        typename Types<C>::Acts word;
        if (step.window == kDeformable && index == 0) d = int(offsets.read());
        if (step.window == kMaxPool) {
          word = max_pool<C>(ring, at, step.kernel, step.groups, index);
        } else if (gathers) {
          bool inside;
          const int i_tap = tap / step.kernel - 1, j_tap = tap % step.kernel - 1;
          word = sample<C>(ring, at, i_tap, j_tap, step.groups, group, inside);
        } else if (step.window == kGather) {
          word = gather_packed<C>(ring, at, step.kernel, index);
        } else {
          word = depthwise<C>(ring, at, d, step.groups, index, weights[index], table[index], step.window_low,
                              step.window_high);
        }
        out.write(word);
        if (++group == step.groups) {
          group = 0;
          ++tap;
        }
        if (++index == step.window_words) {
          index = group = tap = 0;
          at.x += step.stride_x;
        }
      }
    }
    fetched = target;
    at.y += step.stride_y;
    at.slot = Ring<C>::wrap(at.slot + step.stride_y);
  }
}

}  // namespace codesign

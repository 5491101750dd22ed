// pointwise.hpp -- the array of kLanes x kLanes multipliers: a matrix product at every pixel.
//
//   out[p][o] = requant(sum over i of w[o][i] * in[p][i])
//
// The words of a pixel are kept while its output groups are computed one after the other. An int4 weight is
// one pass of the array. An int8 weight is 16 * high + low, two passes, with high in -8..7 and low in 0..15.
// Streams: words of a pixel together, pixels in order.
// Cycles: pixels * output groups * input words * passes. One loop over all of them: no refill between pixels.
#pragma once
#include "descriptor.hpp"
#include "requant.hpp"
#include "vendor.hpp"

namespace codesign {

// One pass of the array. In the host's own types, because operators of ap_int cost simulation dearly; widths
// are checked where the sum is stored. Even and odd inputs are summed apart: two short chains of additions.
template <class C>
typename Types<C>::Products multiply(const typename Types<C>::Factors &acts,
                                     const typename Types<C>::Tile &tile) {
  #pragma HLS INLINE
  typename Types<C>::Products even = zeros<typename Types<C>::Products>(), odd = even;
Input:
  for (int i = 0; i < C::kLanes; i += 2) {
    #pragma HLS UNROLL
    const int next = (i + 1) % C::kLanes;
    const Product act = Product(acts[i]);
    const Product other = C::kLanes > 1 ? Product(acts[next]) : Product(0);
  Output:
    for (int o = 0; o < C::kLanes; ++o) {
      #pragma HLS UNROLL
      even[o] += act * Product(tile.data[i][o]);
      odd[o] += other * Product(tile.data[next][o]);
    }
  }
Add:
  for (int o = 0; o < C::kLanes; ++o) {
    #pragma HLS UNROLL
    even[o] += odd[o];
  }
  return even;
}

template <class C>
void pointwise(const Step &step, typename Types<C>::Stream &in,
               const typename Types<C>::Tile (&weights)[C::kWeightTiles],
               const typename Types<C>::RequantRow (&table)[C::kOutputWords],
               typename Types<C>::Stream &out) {
  const int pixels = step.out_height * step.out_width;
  if (step.pointwise == kNoPointwise) {
    const int total = pixels * step.window_words;
  Pass:
    for (int i = 0; i < total; ++i) {
      #pragma HLS PIPELINE II=1
      out.write(in.read());
    }
    return;
  }

  typename Types<C>::Factors kept[C::kInputWords];
  CODESIGN_ONE_WORD(kept)
  const bool halves = step.pointwise == kInt8;
  const int tiles = step.pointwise * step.pointwise_in * step.pointwise_out;
  const long long total = static_cast<long long>(pixels) * tiles;
  typename Types<C>::Accs acc = zeros<typename Types<C>::Accs>();
  int tile = 0, word = 0, group = 0;
  bool low = false;  // the second pass of an int8 weight
MultiplyAccumulate:
  for (long long i = 0; i < total; ++i) {
    #pragma HLS PIPELINE II=1
    if (group == 0 && !low) {
      const typename Types<C>::Acts acts = in.read();
    Keep:
      for (int lane = 0; lane < C::kLanes; ++lane) {
        #pragma HLS UNROLL
        kept[word][lane] = int(acts[lane]);
      }
    }
    const bool begins = word == 0 && !low;
    const bool ends = word + 1 == step.pointwise_in && (low || !halves);
    const typename Types<C>::Products sum = multiply<C>(kept[word], weights[tile]);
  Lane:
    for (int lane = 0; lane < C::kLanes; ++lane) {
      #pragma HLS UNROLL
      const int before = begins ? 0 : int(acc[lane]);
      acc[lane] = typename Types<C>::Acc(before + int(sum[lane]) * (halves && !low ? 16 : 1));
    }
    if (ends) out.write(requant<C>(acc, table[group], step.pointwise_low, step.pointwise_high));
    if (++tile == tiles) tile = 0;
    if (halves) low = !low;
    if (!low) {
      if (++word == step.pointwise_in) {
        word = 0;
        if (++group == step.pointwise_out) group = 0;
      }
    }
  }
}

}  // namespace codesign

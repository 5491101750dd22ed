// global.hpp -- sums over a whole map: what a mean of it is, before the requantization divides.
//
//   out[0][0][c] = requant(sum over y, x of in[y][x][c])
//
// A sum is read and written again kSlots words later at the earliest: a map of fewer words a pixel has several partial
// sums a word, which are added at the end.
//
// Streams: words of a pixel together, pixels row by row; out: one pixel.
// Cycles: the words, then a turn for each partial sum. Memories: one read and one write a cycle in `sums`.
#pragma once
#include "descriptor.hpp"
#include "requant.hpp"
#include "trace.hpp"
#include "vendor.hpp"

namespace codesign {

template <class C>
void global_map(const Step &step, int half, typename Types<C>::Stream &in,
                const typename Types<C>::RequantRow (&table)[2 * C::kWindowGroups],
                typename Types<C>::Stream &out) {
  #pragma HLS INLINE
  static const int kRoom = C::kGlobalWords > 2 * kSlots ? C::kGlobalWords : 2 * kSlots;
  typename Types<C>::Accs sums[kRoom];
  CODESIGN_ONE_WORD(sums)
  const int partial = partial_sums(step), total = step.height * step.width * step.groups;
  Trace::control(6);  // products
  int at = 0;
Sum:
  for (int i = 0; i < total; ++i) {
    #pragma HLS PIPELINE II=1
    #pragma HLS DEPENDENCE variable=sums inter distance=4 true
    Trace::iteration("Sum", 1, 4, i == 0);
    const typename Types<C>::Acts word = in.read();
    typename Types<C>::Accs sum = zeros<typename Types<C>::Accs>();
    if (i >= partial) {
      Trace::read("sums", 0, at);
      sum = sums[at];
    }
  Lane:
    for (int lane = 0; lane < C::kLanes; ++lane) {
      #pragma HLS UNROLL
      sum[lane] = typename Types<C>::Acc(int(sum[lane]) + int(word[lane]));
    }
    Trace::write("sums", 0, at);
    sums[at] = sum;
    if (++at == partial) at = 0;
  }
  typename Types<C>::Accs whole = zeros<typename Types<C>::Accs>();
  int group = 0, from = 0;
Give:
  for (int i = 0; i < partial; ++i) {
    #pragma HLS PIPELINE II=1
    Trace::iteration("Give", 1, 14, i == 0);
    if (from < total) {  // a map of few pixels leaves some out
      Trace::read("sums", 0, from);
      const typename Types<C>::Accs sum = sums[from];
    Add:
      for (int lane = 0; lane < C::kLanes; ++lane) {
        #pragma HLS UNROLL
        whole[lane] = typename Types<C>::Acc(int(whole[lane]) + int(sum[lane]));
      }
    }
    from += step.groups;
    if (from >= partial) {
      const int row = half * C::kWindowGroups + group;
      Trace::read("parameters.window_requant", 0, row);
      out.write(requant<C>(whole, table[row], step.window_low, step.window_high));
      whole = zeros<typename Types<C>::Accs>();
      from = ++group;
    }
  }
}

}  // namespace codesign

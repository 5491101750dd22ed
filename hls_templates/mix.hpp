// mix.hpp -- what is multiplied by gates: numbers that are computed from the image, of each word or of each part.
//
//   maps     out[y][x][c] = requant(sum over k of gate[k][c] * in[y][x][k][c])
//   pick     out[y][x][c] = requant(gate[c] * (gate[c] < threshold ? parts * max over k of in[y][x][k][c]
//                                                                 : sum over k of in[y][x][k][c]))
//   weights  tiles of pointwise.hpp, as parameters.hpp lays them out, of w = requant(sum over k of gate[k] * bank[k]):
//            what is loaded is the bank, signed bytes in the order [output word][input lane][k][output lane], and what
//            is stored are weights that the next steps read from the arena
//
// with k < parts. Gates come through the offsets port before anything else: bytes, of maps and picks a word for each of
// their words; of weights one number for each k, the first in lane 0.
//
// A pixel's words arrive with all words of a part together and are needed with all parts of a word together: while one
// pixel arrives in a half of `mixed`, the one before is read from the other.
//
// Streams: words of a pixel together, pixels row by row. Cycles: words of gates, then for maps and picks
// (pixels + 1) * words that are loaded; for weights the words of the bank, and for int8, whose lower halves follow the
// upper ones, kLanes / 2 more a tile. Memories: one read and one write a cycle in `mixed`, one of them in `gates`.
#pragma once
#include "descriptor.hpp"
#include "parameters.hpp"
#include "requant.hpp"
#include "trace.hpp"
#include "vendor.hpp"

namespace codesign {

template <class C>
struct Gates {
  typedef Pack<typename Unsigned<8>::type, C::kLanes> Word;
  static const int kWords = C::kMixer > 0 ? C::kMixer : 1;
};

// gate * value, of the 16 bits that a sum of kMaxParts activations has.
template <class C>
int gated(int value, int gate) {
  #pragma HLS INLINE
  const typename Signed<16>::type wide = value;
  const typename Signed<9>::type factor = gate;
  const typename Signed<25>::type product = wide * factor;
  CODESIGN_IN_LUTS(product)
  return int(product);
}

template <class C>
void mix_maps(const Step &step, int half, typename Types<C>::Stream &in,
              const typename Gates<C>::Word (&gates)[Gates<C>::kWords],
              const typename Types<C>::RequantRow (&table)[2 * C::kWindowGroups],
              typename Types<C>::Stream &out) {
  #pragma HLS INLINE
  typename Types<C>::Acts mixed[2 * Gates<C>::kWords];
  CODESIGN_ONE_WORD(mixed)
  const bool picks = step.mix == kMixPick;
  const int arriving = step.height * step.width * step.groups, total = arriving + step.groups;
  Trace::control(6);  // products
  typename Types<C>::Accs acc = zeros<typename Types<C>::Accs>(), sum = acc, best = acc;
  int to = 0, from = Gates<C>::kWords, filled = 0;
  int part = 0, group = 0, at = 0;  // at: the word of that part and group
Part:
  for (int i = 0; i < total; ++i) {
    #pragma HLS PIPELINE II=1
    #pragma HLS DEPENDENCE variable=mixed inter false
    Trace::iteration("Part", 1, 18, i == 0);
    if (i >= step.groups) {  // the pixel before is complete
      Trace::read("mixed", 0, from + at);
      Trace::read("gates", 0, picks ? group : at);
      const typename Types<C>::Acts word = mixed[from + at];
      const typename Gates<C>::Word gate = gates[picks ? group : at];
    Lane:
      for (int lane = 0; lane < C::kLanes; ++lane) {
        #pragma HLS UNROLL
        const int value = int(word[lane]), factor = int(gate[lane]);
        sum[lane] = typename Types<C>::Acc((part == 0 ? 0 : int(sum[lane])) + value);
        best[lane] = typename Types<C>::Acc(part == 0 || value > int(best[lane]) ? value : int(best[lane]));
        const int picked = factor < step.threshold ? step.parts * int(best[lane]) : int(sum[lane]);
        const int product = gated<C>(picks ? picked : value, factor);
        acc[lane] = typename Types<C>::Acc((picks || part == 0 ? 0 : int(acc[lane])) + product);
      }
      at += step.window_words;
      if (++part == step.parts) {
        const int row = half * C::kWindowGroups + group;
        Trace::read("parameters.window_requant", 0, row);
        out.write(requant<C>(acc, table[row], step.window_low, step.window_high));
        part = 0;
        at = ++group;
        if (group == step.window_words) group = at = 0;
      }
    }
    if (i < arriving) {
      Trace::write("mixed", 0, to + filled);
      mixed[to + filled] = in.read();
    }
    if (++filled == step.groups) {
      filled = 0;
      const int other = from;
      from = to;
      to = other;
    }
  }
}

template <class C>
void mix_weights(const Step &step, int half, typename Types<C>::Stream &in,
                 const typename Gates<C>::Word (&gates)[Gates<C>::kWords],
                 const typename Types<C>::RequantRow (&table)[2 * C::kWindowGroups],
                 typename Types<C>::Stream &out) {
  #pragma HLS INLINE
  static const int kTileWords = ParameterWords<C>::kTileWords;
  typename Types<C>::Acts lower[kTileWords];  // halves of the tile's weights
  #pragma HLS ARRAY_PARTITION variable=lower complete dim=1
  const bool halves = step.mix == kMixInt8;
  const int tiles = step.width / C::kLanes;  // of an output word
  const long long all = static_cast<long long>(step.height) * tiles;
  const long long total = all * (C::kLanes * step.parts + (halves ? kTileWords : 0));
  Trace::control(8);  // products
  typename Types<C>::Accs acc = zeros<typename Types<C>::Accs>();
  typename Types<C>::Acts first = zeros<typename Types<C>::Acts>();  // weights of the pair's first lane
  int part = 0, input = 0, tile = 0, output = 0;  // input: lane of the tile, then words of lower halves
Weight:
  for (long long i = 0; i < total; ++i) {
    #pragma HLS PIPELINE II=1
    Trace::iteration("Weight", 1, 18, i == 0);
    bool ends = false;  // the tile
    if (input < C::kLanes) {
      const typename Types<C>::Acts word = in.read();
      Trace::read("gates", 0, part / C::kLanes);
      const int gate = int(gates[part / C::kLanes][part % C::kLanes]);
    Lane:
      for (int lane = 0; lane < C::kLanes; ++lane) {
        #pragma HLS UNROLL
        const int product = gated<C>(int(word[lane]), gate);
        acc[lane] = typename Types<C>::Acc((part == 0 ? 0 : int(acc[lane])) + product);
      }
      if (++part == step.parts) {
        part = 0;
        const int row = half * C::kWindowGroups + output;
        Trace::read("parameters.window_requant", 0, row);
        const typename Types<C>::Acts weight = requant<C>(acc, table[row], step.window_low, step.window_high);
        const bool alone = C::kLanes == 1, second = (input & 1) != 0;
        typename Types<C>::Acts high, low;
      Nibble:
        for (int lane = 0; lane < C::kLanes; ++lane) {
          #pragma HLS UNROLL
          const int a = int(second ? first[lane] : weight[lane]), b = second ? int(weight[lane]) : 0;
          high[lane] = typename Types<C>::Act(((a >> 4) & 15) | ((b >> 4) & 15) << 4);
          low[lane] = typename Types<C>::Act((a & 15) | (b & 15) << 4);
        }
        if (second || alone) {
          out.write(halves ? high : low);
          lower[input / 2] = low;
        }
        first = weight;
        ++input;
        ends = input == C::kLanes && !halves;
      }
    } else {
      out.write(lower[input - C::kLanes]);
      ++input;
      ends = input == C::kLanes + kTileWords;
    }
    if (ends) {
      input = 0;
      if (++tile == tiles) {
        tile = 0;
        ++output;
      }
    }
  }
}

template <class C>
void mix_map(const Step &step, int half, typename Types<C>::Stream &in,
             typename Types<C>::OffsetStream &offsets,
             const typename Types<C>::RequantRow (&table)[2 * C::kWindowGroups],
             typename Types<C>::Stream &out) {
  #pragma HLS INLINE
  typename Gates<C>::Word gates[Gates<C>::kWords];
  CODESIGN_ONE_WORD(gates)
  const int count = step.offset.count;
Gate:
  for (int i = 0; i < count; ++i) {
    #pragma HLS PIPELINE II=1
    Trace::iteration("Gate", 1, 2, i == 0);
    const typename Types<C>::Numbers numbers = offsets.read();
    Trace::write("gates", 0, i);
  GateLane:
    for (int lane = 0; lane < C::kLanes; ++lane) {
      #pragma HLS UNROLL
      gates[i][lane] = numbers[lane % Types<C>::kNumbers];
    }
  }
  if (mixes_weights(step)) {
    mix_weights<C>(step, half, in, gates, table, out);
  } else {
    mix_maps<C>(step, half, in, gates, table, out);
  }
}

}  // namespace codesign

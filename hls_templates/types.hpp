// types.hpp -- the values that live on chip, derived from the constants in config.hpp.
//
// C is the struct of constants that config.hpp defines; C::kLanes channels travel together everywhere.
// Bytes in memory are unsigned or signed; on chip both become 9-bit signed, so that no unit needs to know.
#pragma once
#include <hls_stream.h>

#include "rows.hpp"

namespace codesign {

// N elements side by side.
template <class T, int N>
struct Pack {
  T data[N];
  T &operator[](int i) { return data[i]; }
  const T &operator[](int i) const { return data[i]; }
};

// All zero. (The default constructor of ap_int leaves its bits as they were.)
template <class T>
T zeros() {
  #pragma HLS INLINE
  T pack;
Lane:
  for (int lane = 0; lane < int(sizeof(pack.data) / sizeof(pack.data[0])); ++lane) {
    #pragma HLS UNROLL
    pack.data[lane] = 0;
  }
  return pack;
}

template <class C>
struct Types {
  static const int kLanes = C::kLanes;
  static_assert(kLanes >= 1 && kLanes <= 64 && (kLanes & (kLanes - 1)) == 0,
                "kLanes must be a power of two from 1 to 64: words of memory are kLanes bytes");
  static_assert(C::kTapBits >= 2 && C::kTapBits <= 8, "kTapBits must lie in 2..8: weights are bytes at most");
  static_assert(C::kSumBits >= 16 && C::kSumBits <= 33,
                "kSumBits must lie in 16..33: 32-bit sums and biases");
  static_assert(C::kWide == 0 || (C::kWide >= 16 && C::kWide <= 48), "kWide must be 0 or lie in 16..48");
  static_assert(C::kMultBits >= 1 && C::kMultBits <= (C::kWide > 0 ? 32 : 8),
                "kMultBits must lie in 1..8, or in 1..32 in wide rows");
  static_assert(C::kMostShift >= 1,
                "kMostShift must be at least 1: see numbers.hpp for the largest that counts");
  static_assert(C::kAccBits >= 16 && C::kAccBits <= 32, "kAccBits must lie in 16..32: sums are 32-bit");

  typedef MemoryWord<kLanes> Memory;
  typedef typename Memory::type Word;    // one word of DRAM
  typedef typename Signed<9>::type Act;  // an activation: u8 or s8
  typedef typename Signed<C::kAccBits>::type Acc;
  typedef Pack<Act, kLanes> Acts;
  // How far a deformable window reaches; or offsets of nine taps, row before column, then their masks; or a word of
  // weights or gates.
  static_assert(C::kSampler >= 0 && C::kSampler <= 5,
                "kSampler must lie in 0..5: at most four bits of fraction");
  static_assert(C::kTables == 0 || C::kTables == 1, "kTables must be 0 or 1");
  static_assert(C::kMixer >= 0 && C::kGlobalWords >= 0, "kMixer and kGlobalWords are numbers of words");
  static const int kSampled = C::kSampler > 0 ? 27 : 1;
  static const int kWordwise = C::kWeightStream > 0 || C::kMixer > 0 ? kLanes : 1;
  static const int kNumbers = kSampled > kWordwise ? kSampled : kWordwise;
  typedef Pack<typename Unsigned<8>::type, kNumbers> Numbers;
  // Entries of a table, so many that arrive together: see table.hpp.
  static const int kTableWide = kLanes < 4 ? kLanes : 4;
  static const int kTableRows = C::kTables > 0 ? 256 / kTableWide : 1;
  typedef Pack<typename Unsigned<8>::type, kTableWide> TableRow;
  typedef Pack<Acc, kLanes> Accs;
  typedef Pack<typename Factor<9>::type, kLanes> Factors;  // activations to be multiplied
  typedef Pack<Product, kLanes> Products;
  typedef Pack<typename Signed<36>::type, kLanes>
      WideSums;  // of nine products of a sample, a mask and a weight

  // Arrays rather than Packs inside: DATA_PACK takes no struct that holds other structs.
  // Half of an int8 weight is 0..15, an int4 weight -8..7; five bits hold both.
  struct Tile {
    typename Factor<5>::type data[kLanes][kLanes];  // [input lane][output lane]
  };
  struct DepthwiseWeights {
    typename Factor<C::kTapBits>::type tap[9][kLanes];
  };
  typedef typename RowOf<C>::type RequantRow;
  static const int kRowWords = RequantRow::kWords;

  // What the array leaves: one output word of each pixel of a block.
  struct Sums {
    Acc data[C::kPixels][kLanes];
  };
  static Sums no_sums() {
    #pragma HLS INLINE
    Sums sums;
  Pixel:
    for (int p = 0; p < C::kPixels; ++p) {
      #pragma HLS UNROLL
    Lane:
      for (int lane = 0; lane < kLanes; ++lane) {
        #pragma HLS UNROLL
        sums.data[p][lane] = 0;
      }
    }
    return sums;
  }

  typedef hls::stream<Acts> Stream;
  typedef hls::stream<Sums> SumStream;
  typedef hls::stream<Numbers> OffsetStream;
};

inline int smaller(int a, int b) {
  #pragma HLS INLINE
  return a < b ? a : b;
}

inline int larger(int a, int b) {
  #pragma HLS INLINE
  return a > b ? a : b;
}

}  // namespace codesign

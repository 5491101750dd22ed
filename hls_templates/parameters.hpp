// parameters.hpp -- weights and requantization rows of one step, from memory to the buffers on chip.
//
//   requant rows   kRequantWords words a group; byte `lane` of word 0..3 is that byte of bias[lane],
//                  of word 4 mult[lane], of word 5 shift[lane]
//   depthwise      9 words a group, one a tap, row-major; byte `lane` is the weight of that channel
//   tiles          (kLanes + 1) / 2 words a tile; byte `lane` of word j holds the weights from input lane 2j
//                  (low half) and 2j + 1 (high half) to output lane `lane`
//   order of tiles output group, input word, and for int8 weights the high half, -8..7, before the low, 0..15
//
// Cycles: words read, at one a cycle, and the latency of the memory once for each of the three.
#pragma once
#include "descriptor.hpp"
#include "trace.hpp"

namespace codesign {

template <class C, int kRows>
void load_requant(const typename Types<C>::Word *memory, int address, int rows,
                  typename Types<C>::RequantRow (&table)[kRows]) {
  typename Types<C>::Word word[kRequantWords];
  #pragma HLS ARRAY_PARTITION variable=word complete dim=1
First:
  for (int i = 0; i < kRequantWords; ++i) {
    #pragma HLS UNROLL
    word[i] = Types<C>::Memory::zero();
  }
  int row = 0, part = 0;
Row:
  for (int i = 0; i < rows * kRequantWords; ++i) {
    #pragma HLS PIPELINE II=1
    Trace::iteration("Row", 1, 6, i == 0);
    Trace::fetch("program", address + i);
    word[part] = memory[address + i];
    if (++part == kRequantWords) {
      part = 0;
    Lane:
      for (int lane = 0; lane < C::kLanes; ++lane) {
        #pragma HLS UNROLL
        const unsigned bias =
            Types<C>::Memory::byte(word[0], lane) | Types<C>::Memory::byte(word[1], lane) << 8 |
            Types<C>::Memory::byte(word[2], lane) << 16 | Types<C>::Memory::byte(word[3], lane) << 24;
        table[row].bias[lane] = int(bias);
        table[row].scale[lane] = Scale::of(static_cast<unsigned char>(Types<C>::Memory::byte(word[4], lane)),
                                           static_cast<signed char>(Types<C>::Memory::byte(word[5], lane)));
      }
      ++row;
    }
  }
}

template <class C>
void load_depthwise(const typename Types<C>::Word *memory, int address, int groups,
                    typename Types<C>::DepthwiseWeights (&weights)[C::kWindowGroups]) {
  int group = 0, tap = 0;
Tap:
  for (int i = 0; i < groups * 9; ++i) {
    #pragma HLS PIPELINE II=1
    Trace::iteration("Tap", 1, 4, i == 0);
    Trace::fetch("program", address + i);
    const typename Types<C>::Word word = memory[address + i];
  Lane:
    for (int lane = 0; lane < C::kLanes; ++lane) {
      #pragma HLS UNROLL
      weights[group].tap[tap][lane] = static_cast<signed char>(Types<C>::Memory::byte(word, lane));
    }
    if (++tap == 9) {
      tap = 0;
      ++group;
    }
  }
}

template <class C>
void load_tiles(const typename Types<C>::Word *memory, int address, int tiles, bool halves,
                typename Types<C>::Tile (&weights)[C::kWeightTiles]) {
  static const int kTileWords = (C::kLanes + 1) / 2;
  int tile = 0, part = 0;
Word:
  for (int i = 0; i < tiles * kTileWords; ++i) {
    #pragma HLS PIPELINE II=1
    Trace::iteration("Word", 1, 4, i == 0);
    Trace::fetch("program", address + i);
    // A low half is 0..15; every other nibble is -8..7: the bit of weight 8 counts -8.
    const int flip = halves && tile % 2 == 1 ? 0 : 8;
    const typename Types<C>::Word word = memory[address + i];
  Lane:
    for (int lane = 0; lane < C::kLanes; ++lane) {
      #pragma HLS UNROLL
      const int byte = int(Types<C>::Memory::byte(word, lane));
      weights[tile].data[2 * part][lane] = static_cast<signed char>(((byte & 15) ^ flip) - flip);
      if (C::kLanes > 1) {  // with one lane, the high half of the byte is empty
        weights[tile].data[(2 * part + 1) % C::kLanes][lane] =
            static_cast<signed char>(((byte >> 4) ^ flip) - flip);
      }
    }
    if (++part == kTileWords) {
      part = 0;
      ++tile;
    }
  }
}

}  // namespace codesign

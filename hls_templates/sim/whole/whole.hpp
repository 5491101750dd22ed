// sim/whole/whole.hpp -- the product of a whole step at once, for simulation of data sets.
//
// What it replaces: the loop MultiplyAccumulate of pointwise.hpp, which computes kPixels pixels of one word and of one
// half of the weights a turn. Here eight pixels take every weight from memory that is loaded, both halves of an int8
// weight are one number again, and products are added in 32 bits, two at a time. Sums are the same integers, in the same
// order on the same stream; how many pixels the engine computes at once shows only in how they are packed. Tests
// hold the two to the same bits on random programs, and exact simulation and the sanitizers always take the loop.
#pragma once
#include <vector>

#include "layout.hpp"
#include "vectors.hpp"

namespace codesign {

template <class C>
struct Whole {
  static const int kLanes = C::kLanes, kPairs = (kLanes + 1) / 2;
  static const int kCount = kLanes < kRegister / 4 ? kLanes : kRegister / 4;  // sums in a vector
  static const int kParts = kLanes / kCount;                                  // vectors of an output word
  static const int kTogether = 8;                                             // pixels
  static_assert(static_cast<long long>(C::kInputWords) * kLanes <= 1 << 15,
                "Whole: sums of products of 9 and 8 bits must stay within 32");
  typedef typename Vector<kCount>::type Sum;
  typedef typename Types<C>::Acts Acts;

  // Activations of two neighbouring input lanes, or weights from them, in one number.
  struct Factors {
    int16_t data[2 * kPairs];
  };

  // Weights of a step: [output word][part][input word][pair of input lanes][output lane][of the pair].
  static void arrange(const Matrix &matrix, const typename Types<C>::Tile *tiles, std::vector<int16_t> &to) {
    const int halves = matrix.mode;
    to.resize(static_cast<std::size_t>(matrix.out) * matrix.in * kPairs * kLanes * 2);
    int16_t *next = to.data();
    for (int output = 0; output < matrix.out; ++output) {
      for (int part = 0; part < kParts; ++part) {
        for (int input = 0; input < matrix.in; ++input) {
          const typename Types<C>::Tile *tile = tiles + (output * matrix.in + input) * halves;
          for (int lane = 0; lane < 2 * kPairs; lane += 2) {
            for (int o = 0; o < kCount; ++o) {
              next[2 * o] = weight(tile, halves, lane, part * kCount + o);
              next[2 * o + 1] = kLanes > 1 ? weight(tile, halves, (lane + 1) % kLanes, part * kCount + o) : 0;
            }
            next += 2 * kCount;
          }
        }
      }
    }
  }
  static int16_t weight(const typename Types<C>::Tile *tile, int halves, int input, int output) {
    const int high = int(tile[0].data[input][output]);
    return int16_t(halves == 1 ? high : 16 * high + int(tile[1].data[input][output]));
  }

  // Sums of kTogether pixels and kWords vectors of outputs, `steps` pairs of inputs each.
  template <int kWords>
  static void multiply(const Factors *const (&acts)[kTogether], const int16_t *weights, int steps,
                       int32_t *const (&sums)[kTogether]) {
    Sum sum[kTogether][kWords] = {};
    for (int i = 0; i < steps; ++i) {
      Sum weight[kWords];
#pragma GCC unroll 2
      for (int w = 0; w < kWords; ++w) {
        weight[w] = load_vector<Sum>(weights + 2 * kCount * (static_cast<std::size_t>(w) * steps + i));
      }
#pragma GCC unroll 8
      for (int p = 0; p < kTogether; ++p) {
        int32_t pair;
        memcpy(&pair, acts[p]->data + 2 * i, sizeof pair);
        const Sum act = Sum() + pair;
#pragma GCC unroll 2
        for (int w = 0; w < kWords; ++w) add_pairs(sum[p][w], act, weight[w]);
      }
    }
#pragma GCC unroll 8
    for (int p = 0; p < kTogether; ++p) {
#pragma GCC unroll 2
      for (int w = 0; w < kWords; ++w) store_vector(sum[p][w], sums[p] + w * kCount);
    }
  }

  static bool product(const Matrix &matrix, int pixels, int first,
                      const typename Types<C>::Tile (&tiles)[2 * C::kWeightTiles],
                      typename Types<C>::Stream &in, typename Types<C>::SumStream &out) {
    if (matrix.mode == kNoPointwise) return false;
    std::vector<int16_t> weights;
    arrange(matrix, tiles + first, weights);
    static const int kChunk = kTogether * C::kPixels;
    const int steps = matrix.in * kPairs, parts = matrix.out * kParts;
    std::vector<Factors> acts(static_cast<std::size_t>(kTogether) * matrix.in);
    std::vector<int32_t> sums(static_cast<std::size_t>(kChunk) * matrix.out * kLanes);
    for (int begin = 0; begin < pixels; begin += kChunk) {
      const int present = smaller(pixels - begin, kChunk);
      for (int block = 0; block < present; block += kTogether) {
        const int some = smaller(present - block, kTogether);
        for (int i = 0; i < some * matrix.in; ++i) {
          const Acts word = in.read();
          for (int lane = 0; lane < kLanes; ++lane) acts[i].data[lane] = int16_t(word[lane]);
          if (kLanes == 1) acts[i].data[1] = 0;
        }
        const Factors *act[kTogether];
        int32_t *sum[kTogether];
        for (int p = 0; p < kTogether; ++p) {
          act[p] =
              &acts[(p < some ? p : 0) * matrix.in];  // there may be fewer pixels: their sums are not taken
          sum[p] = &sums[static_cast<std::size_t>(block + p) * matrix.out * kLanes];
        }
        const int16_t *weight = weights.data();
        int part = 0;
        for (; part + 2 <= parts; part += 2) {
          multiply<2>(act, weight, steps, sum);
          weight += static_cast<std::size_t>(2) * steps * 2 * kCount;
          for (int p = 0; p < kTogether; ++p) sum[p] += 2 * kCount;
        }
        if (part < parts) multiply<1>(act, weight, steps, sum);
      }
      // As the array leaves them: a word of all pixels of a block after the other, zeros for those that are not there.
      for (int block = 0; block < present; block += C::kPixels) {
        for (int output = 0; output < matrix.out; ++output) {
          typename Types<C>::Sums word = Types<C>::no_sums();
          for (int p = 0; p < smaller(present - block, C::kPixels); ++p) {
            const int32_t *sum = &sums[(static_cast<std::size_t>(block + p) * matrix.out + output) * kLanes];
            for (int lane = 0; lane < kLanes; ++lane) word.data[p][lane] = typename Types<C>::Acc(sum[lane]);
          }
          out.write(word);
        }
      }
    }
    return true;
  }
};

}  // namespace codesign

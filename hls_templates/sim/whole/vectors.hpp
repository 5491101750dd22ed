// sim/whole/vectors.hpp -- integers side by side in a register of the host, and pairs of products added to them.
#pragma once
#include <stdint.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace codesign {

#if defined(__AVX512BW__)
static const int kRegister = 64;
#elif defined(__AVX2__)
static const int kRegister = 32;
#else
static const int kRegister = 16;
#endif

// kCount sums of 32 bits. As a factor, each of the 32 bits is two of 16.
template <int kCount>
struct Vector {
  typedef int32_t type __attribute__((vector_size(4 * kCount)));
};

// sum + a.first * b.first + a.second * b.second, in each of the 32 bits.
template <class V>
inline void add_pairs(V &sum, const V &a, const V &b) {
  sum += (a >> 16) * (b >> 16) + ((a << 16) >> 16) * ((b << 16) >> 16);
}

#if defined(__AVX2__)
inline void add_pairs(Vector<4>::type &sum, const Vector<4>::type &a, const Vector<4>::type &b) {
  sum += Vector<4>::type(_mm_madd_epi16(__m128i(a), __m128i(b)));
}
inline void add_pairs(Vector<8>::type &sum, const Vector<8>::type &a, const Vector<8>::type &b) {
  sum += Vector<8>::type(_mm256_madd_epi16(__m256i(a), __m256i(b)));
}
#endif
#if defined(__AVX512VNNI__)
inline void add_pairs(Vector<16>::type &sum, const Vector<16>::type &a, const Vector<16>::type &b) {
  sum = Vector<16>::type(_mm512_dpwssd_epi32(__m512i(sum), __m512i(a), __m512i(b)));
}
#elif defined(__AVX512BW__)
inline void add_pairs(Vector<16>::type &sum, const Vector<16>::type &a, const Vector<16>::type &b) {
  sum += Vector<16>::type(_mm512_madd_epi16(__m512i(a), __m512i(b)));
}
#endif

// From memory, which need not be aligned.
template <class V>
inline V load_vector(const void *from) {
  V vector;
  memcpy(&vector, from, sizeof vector);
  return vector;
}
template <class V>
inline void store_vector(const V &vector, void *to) {
  memcpy(to, &vector, sizeof vector);
}

}  // namespace codesign

// header.hpp -- reading integers of a program, and its header with the checks that it passes.
#pragma once
#include "layout.hpp"
#include "trace.hpp"

namespace codesign {

template <class C>
long long words_of_integers(long long count) {
  return (4 * count + C::kLanes - 1) / C::kLanes;
}

// `count` integers from consecutive words, a word a cycle: values must lie in kLanes / 4 banks.
template <class C>
void read_integers(const typename Types<C>::Word *memory, int address, int count, int *values) {
  const int words = int(words_of_integers<C>(count));
  unsigned value = 0;
Word:
  for (int i = 0; i < words; ++i) {
    #pragma HLS PIPELINE II=1
    Trace::iteration("Word", 1, 4, i == 0);
    Trace::fetch("program", address + i);
    const typename Types<C>::Word word = memory[address + i];
  Lane:
    for (int lane = 0; lane < C::kLanes; ++lane) {
      #pragma HLS UNROLL
      const int at = i * C::kLanes + lane;
      value = (value >> 8) | (Types<C>::Memory::byte(word, lane) << 24);
      if (at % 4 == 3 && at / 4 < count) values[at / 4] = int(value);
    }
  }
}

inline bool in_range(int value, int low, int high) { return low <= value && value <= high; }

// Whether `words` words from `address` on lie in [begin, end).
inline bool lies_in(long long address, long long words, long long begin, long long end) {
  return address >= begin && words >= 0 && address + words <= end;
}

inline bool overlap(long long a, long long a_words, long long b, long long b_words) {
  return a < b + b_words && b < a + a_words;
}

template <class C>
Status read_header(const typename Types<C>::Word *memory, int program, int memory_words, Header &header) {
  const long long header_words = words_of_integers<C>(kHeaderFields);
  if (!lies_in(program, header_words, 0, memory_words)) return kBadProgram;
  int field[kHeaderFields];
  #pragma HLS ARRAY_PARTITION variable=field complete dim=1
  read_integers<C>(memory, program, kHeaderFields, field);
  header.steps = field[kHeaderSteps];
  header.program_words = field[kHeaderProgramWords];
  header.arena_begin = field[kHeaderArenaBegin];
  header.arena_end = field[kHeaderArenaEnd];
  if (field[kHeaderMagic] != kProgramMagic) return kBadMagic;
  if (field[kHeaderVersion] != kProgramVersion) return kBadVersion;
  if (field[kHeaderLanes] != C::kLanes) return kBadLanes;
  if (field[kHeaderWide] != int(C::kWide > 0)) return kBadRows;
Reserved:
  for (int i = kHeaderReserved; i < kHeaderFields; ++i) {
    if (field[i] != 0) return kBadProgram;
  }
  if (!in_range(header.steps, 0, kMaxSteps)) return kBadProgram;
  const long long needed = header_words + header.steps * words_of_integers<C>(kStepFields);
  const long long program_end = static_cast<long long>(program) + header.program_words;
  if (header.program_words < needed || program_end > memory_words) return kBadProgram;
  if (header.arena_begin < 0 || header.arena_end < header.arena_begin) return kBadProgram;
  if (header.arena_end > memory_words) return kBadProgram;
  if (header.arena_begin < program_end && program < header.arena_end) return kBadProgram;
  return kDone;
}

}  // namespace codesign

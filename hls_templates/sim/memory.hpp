// sim/memory.hpp -- bytes of the host as words of the engine's memory, and a run over them.
#pragma once
#include <cstddef>
#include <stdint.h>
#include <vector>

#include "misuse.hpp"
#include "top.hpp"

namespace codesign {

// One frame on `bytes` (words * kLanes of them), in place. Streams that were misused give -1.
inline int simulate(uint8_t *bytes, int words, int program) {
  typedef Types<Config>::Word Word;
  hls::Misuse::clear();
  std::vector<Word> memory(static_cast<std::size_t>(words));
  for (int i = 0; i < words; ++i) {
    for (int lane = 0; lane < Config::kLanes; ++lane) {
      Types<Config>::Memory::set_byte(memory[i], lane,
                                      bytes[static_cast<std::size_t>(i) * Config::kLanes + lane]);
    }
  }
  Word *base = memory.data();
  const int status = codesign_engine(base, base, base, base, program, words);
  for (int i = 0; i < words; ++i) {
    for (int lane = 0; lane < Config::kLanes; ++lane) {
      bytes[static_cast<std::size_t>(i) * Config::kLanes + lane] =
          static_cast<uint8_t>(Types<Config>::Memory::byte(memory[i], lane));
    }
  }
  return hls::Misuse::message() != NULL ? -1 : status;
}

}  // namespace codesign

// sim/hls_stream.h -- the part of hls::stream that simulation needs.
#pragma once
#include "fifo.hpp"

namespace hls {

template <class T>
class stream : public Fifo<T> {
 public:
  stream() {}
  explicit stream(const char *) {}
};

}  // namespace hls

// sim/cycles/hls_stream.h -- streams that tell the recorder when they are read and written.
#pragma once
#include <string>

#include "sim/cycles/recorder.hpp"
#include "sim/fifo.hpp"

namespace hls {

template <class T>
class stream : public Fifo<T> {
 public:
  stream() : number_(made("")) {}
  explicit stream(const char *name) : number_(made(name)) {}
  T read() {
    if (cycles::recorder().active()) cycles::recorder().read_stream(number_);
    return Fifo<T>::read();
  }
  void write(const T &value) {
    if (cycles::recorder().active()) cycles::recorder().write_stream(number_);
    Fifo<T>::write(value);
  }

 private:
  static int made(const std::string &name) {
    return cycles::recorder().active() ? cycles::recorder().stream(name) : 0;
  }

  const int number_;
};

}  // namespace hls

// sim/fifo.hpp -- a stream for simulation: a ring buffer that grows.
//
// Processes of a dataflow region run one after the other in simulation, so a FIFO has no bound here. What
// hardware would not forgive is recorded, and the simulation must then be called failed: a read of an empty
// FIFO (the hardware would wait for ever) and data left in a FIFO at the end of its life.
#pragma once
#include <algorithm>
#include <cstddef>
#include <memory>

#include "misuse.hpp"

namespace hls {

template <class T>
class Fifo {
 public:
  Fifo() : buffer_(new T[kFirstCapacity]), mask_(kFirstCapacity - 1), head_(0), tail_(0) {}
  ~Fifo() {
    if (!empty()) Misuse::report("data left unread in a stream");
  }
  bool empty() const { return head_ == tail_; }
  // Valid until something is written.
  const T &read() {
    if (empty()) {
      Misuse::report("read of an empty stream");
      buffer_[head_ & mask_] = T();
      return buffer_[head_ & mask_];
    }
    return buffer_[head_++ & mask_];
  }
  void write(const T &value) {
    if (tail_ - head_ > mask_) grow();
    buffer_[tail_++ & mask_] = value;
  }

 private:
  static const std::size_t kFirstCapacity = 1024;  // a power of two, as every later capacity

  Fifo(const Fifo &);  // a FIFO is a piece of hardware: it is not copied
  Fifo &operator=(const Fifo &);

  void grow() {
    const std::size_t capacity = mask_ + 1, first = head_ & mask_;  // it is full
    std::unique_ptr<T[]> larger(new T[4 * capacity]);
    std::copy(&buffer_[first], &buffer_[0] + capacity, &larger[0]);
    std::copy(&buffer_[0], &buffer_[0] + first, &larger[capacity - first]);
    buffer_.swap(larger);
    mask_ = 4 * capacity - 1;
    head_ = 0;
    tail_ = capacity;
  }

  std::unique_ptr<T[]> buffer_;  // not a vector: what is written before it is read needs no zeros
  std::size_t mask_, head_, tail_;
};

}  // namespace hls

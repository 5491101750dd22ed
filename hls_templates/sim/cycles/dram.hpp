// sim/cycles/dram.hpp -- ports and the memory behind them.
//
// All that is assumed of a memory is here and in the figures of codesign/cycles.py, which gives the reasons:
//   - A port reads or writes a word in `beats` cycles of the engine's clock, at most.
//   - A request is cut into bursts of at most `burst` words; the adapter of a port keeps at most `outstanding` of them
//     under way, and has room for that many: to a read it adds a burst when the words of the oldest have been taken,
//     a write goes on its way when all its words are there.
//   - The memory serves one burst after the other, ports in turn, at `bytes_per_cycle`; it moves whole blocks of
//     `block` bytes.
//   - From a request to its first word, and from the last word written to the response, it takes `latency` cycles.
#pragma once
#include <algorithm>
#include <deque>
#include <vector>

namespace cycles {

struct MemoryFacts {
  double bytes_per_cycle;
  int word_bytes, beats, burst, outstanding, latency, block;
};

class Dram {
 public:
  Dram(const MemoryFacts &facts, int ports)
      : read_bytes(0),
        written_bytes(0),
        moved_bytes(0),
        bursts(0),
        requests(0),
        busy(0),
        facts_(facts),
        ports_(std::size_t(ports)),
        turn_(0),
        free_(0) {}

  long long read_bytes, written_bytes, moved_bytes, bursts, requests;
  double busy;  // cycles

  void request_read(int port, long long address, long long words) {
    const Part part = {address, words};
    ports_[port].wanted.push_back(part);
    ++requests;
  }
  // Whether the next `count` words of a port are there.
  bool can_fetch(int port, long long now, long long count) const {
    const std::deque<Burst> &reads = ports_[port].reads;
    for (std::size_t i = 0; i < reads.size(); ++i) {
      if (!reads[i].served) return false;
      const long long here = std::min(count, reads[i].words - reads[i].taken);
      if (reads[i].available(reads[i].taken + here - 1) > double(now)) return false;
      count -= here;
      if (count == 0) return true;
    }
    return false;
  }
  void fetch(int port) {
    Burst &oldest = ports_[port].reads.front();
    if (++oldest.taken == oldest.words) ports_[port].reads.pop_front();
    read_bytes += facts_.word_bytes;
  }

  void request_write(int port, long long address, long long words) {
    Port &at = ports_[port];
    at.address = address;
    at.expected = words;
    ++requests;
  }
  bool can_put(int port) const { return ports_[port].held < facts_.burst * facts_.outstanding; }
  void put(int port) {
    Port &at = ports_[port];
    ++at.held;
    --at.expected;
    if (++at.filled == facts_.burst || at.expected == 0) {
      const Burst made = {at.address, at.filled, 0, false, 0, 0};
      at.full.push_back(made);
      at.address += at.filled;
      at.filled = 0;
    }
    written_bytes += facts_.word_bytes;
  }
  // Whether everything that was written has been acknowledged.
  bool written(int port, long long now) const {
    return ports_[port].held == 0 && ports_[port].responses.empty() &&
           ports_[port].last_response <= double(now);
  }

  // Whether nothing is under way: nothing more will happen unless a process asks for it.
  bool idle(long long now) const {
    for (std::size_t i = 0; i < ports_.size(); ++i) {
      const Port &at = ports_[i];
      if (!at.wanted.empty() && int(at.reads.size()) < facts_.outstanding) return false;
      if (!at.full.empty() || !at.writes.empty() || !at.responses.empty()) return false;
      for (std::size_t k = 0; k < at.reads.size(); ++k) {
        if (!at.reads[k].served || at.reads[k].available(at.reads[k].words - 1) > double(now)) return false;
      }
    }
    return true;
  }

  void tick(long long now) {
    for (std::size_t i = 0; i < ports_.size(); ++i) adapt(ports_[i], double(now));
    while (free_ < double(now) + 1) {
      Port *next = NULL;
      for (std::size_t i = 0; i < ports_.size() && next == NULL; ++i) {
        const std::size_t index = (turn_ + i) % ports_.size();
        if (ports_[index].waiting() != NULL) {
          next = &ports_[index];
          turn_ = index + 1;
        }
      }
      if (next == NULL) break;
      serve(*next, double(now));
    }
  }

 private:
  struct Part {
    long long address, words;
  };
  struct Burst {
    long long address, words, taken;
    bool served;
    double first, pace;  // cycle of its first word, cycles from word to word
    double available(long long word) const { return first + double(word) * pace; }
  };
  struct Port {
    std::deque<Part> wanted;       // what is not cut into bursts yet
    std::deque<Burst> reads;       // under way, oldest first
    std::deque<Burst> full;        // writes that are complete in the adapter
    std::deque<Burst> writes;      // writes on their way to the memory
    std::deque<double> responses;  // of writes that the memory has taken
    long long address, expected, filled, held;
    double read_bus, write_bus, last_response;  // when they are free again
    Port() : address(0), expected(0), filled(0), held(0), read_bus(0), write_bus(0), last_response(0) {}

    Burst *waiting() {
      if (!writes.empty()) return &writes.front();
      for (std::size_t i = 0; i < reads.size(); ++i) {
        if (!reads[i].served) return &reads[i];
      }
      return NULL;
    }
  };

  void adapt(Port &at, double now) const {
    if (!at.wanted.empty() && int(at.reads.size()) < facts_.outstanding) {
      Part &part = at.wanted.front();
      const long long words = std::min<long long>(part.words, facts_.burst);
      const Burst made = {part.address, words, 0, false, 0, 0};
      at.reads.push_back(made);
      part.address += words;
      part.words -= words;
      if (part.words == 0) at.wanted.pop_front();
    }
    while (!at.responses.empty() && at.responses.front() <= now) at.responses.pop_front();
    const std::size_t under_way = at.writes.size() + at.responses.size();
    if (!at.full.empty() && at.write_bus <= now && int(under_way) < facts_.outstanding) {
      at.writes.push_back(at.full.front());
      at.write_bus = now + double(at.full.front().words * facts_.beats);
      at.full.pop_front();
    }
  }

  void serve(Port &at, double now) {
    Burst &burst = *at.waiting();
    const long long begin = burst.address * facts_.word_bytes;
    const long long end = begin + burst.words * facts_.word_bytes;
    const long long bytes =
        ((end + facts_.block - 1) / facts_.block - begin / facts_.block) * (long long)(facts_.block);
    const double time = double(bytes) / facts_.bytes_per_cycle;
    free_ = std::max(free_, now) + time;
    busy += time;
    moved_bytes += bytes;
    ++bursts;
    if (!at.writes.empty()) {
      at.held -= burst.words;
      at.last_response = free_ + double(facts_.latency);
      at.responses.push_back(at.last_response);
      at.writes.pop_front();
    } else {
      burst.served = true;
      burst.pace = std::max(double(facts_.beats), time / double(burst.words));
      burst.first = std::max(free_ - time + double(facts_.latency), at.read_bus);
      at.read_bus = burst.first + double(burst.words) * burst.pace;
    }
  }

  MemoryFacts facts_;
  std::vector<Port> ports_;
  std::size_t turn_;
  double free_;  // when the memory can serve the next burst
};

}  // namespace cycles

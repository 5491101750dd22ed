// sim/cycles/recorder.hpp -- what processes do, iteration by iteration, written down while they run.
//
// Processes of a dataflow region run one after the other; each leaves a tape. An iteration of a loop is a number:
// the node of a tree in which every path from the root is a sequence of operations (a loop's iteration begins, a
// stream is read, ...). Loops do the same thing most of the time, so the tree is small and a tape is two bytes an
// iteration. network.hpp plays the tapes of a region against each other.
//
// Accesses to memories on chip are counted here, while an iteration runs: a pipelined loop with interval II has
// II cycles for each iteration, so no more than II times the ports of a memory.
#pragma once
#include <stdint.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

namespace cycles {

// Operations. Each is followed by the number of a stream or a port in its lower bits.
enum Operation {
  kBegin = 0x000,    // a loop's iteration; the first of a run of that loop if bit 0 is set
  kControl = 0x400,  // cycles outside of loops
  kRead = 0x500,     // of a stream
  kWrite = 0x600,
  kFetch = 0x700,         // the next word of a request that is under way
  kFetchRequest = 0x740,  // a new request, and its first word
  kPut = 0x780,
  kPutRequest = 0x7c0
};

struct Loop {
  std::string label;
  int ii, depth;
};

struct Request {
  long long address, words;
};

struct Tape {
  std::string name;
  std::vector<Loop> loops;
  std::vector<uint16_t> items;                 // nodes of the tree
  std::vector<std::vector<int>> path;          // of each node: its operations
  std::vector<std::map<int, uint16_t>> next;   // of each node: where one more operation leads
  std::vector<std::vector<Request>> requests;  // of each port
  Tape() { clear(""); }
  void clear(const std::string &title) {
    name = title;
    loops.clear();
    items.clear();
    path.assign(1, std::vector<int>());
    next.assign(1, std::map<int, uint16_t>());
    requests.clear();
  }
};

struct Stream {
  std::string name;
  int depth;
};

struct Region {
  std::string name;
  int step;
  std::vector<Tape> tapes;
  std::vector<Stream> streams;
};

// What is wrong with a design, found while it runs.
struct Failure {
  std::string text;
};

class Recorder {
 public:
  // The depths and memories of the design, and what is to be done with each region.
  struct Player {
    virtual ~Player() {}
    virtual void play(const Region &region) = 0;
  };
  static const int kStreamDepth = 2;  // of a FIFO without a pragma

  std::map<std::string, int> depths;           // of streams
  std::map<std::string, bool> one_read_write;  // memories with a port to read and a port to write
  std::vector<std::string> ports;
  Player *player;

  Recorder() : player(NULL), at_(NULL), node_(0), last_loop_(NULL), stamp_(0) { reset(); }

  void reset() {
    depths.clear();
    one_read_write.clear();
    ports.clear();
    player = NULL;
    memories_.clear();
    open("control", -1);
    inside_ = false;
  }

  bool active() const { return player != NULL; }

  void begin(const std::string &name, int step) {
    close();
    open(name, step);
    inside_ = true;
  }
  void end() {
    close();
    // What comes before the next step; an idle step is part of what comes before the one it prepares.
    open("control", region_.name == "idle" ? region_.step : region_.step + 1);
    inside_ = false;
  }
  // After the frame.
  void finish() {
    close();
    open("control", -1);
  }

  void process(const char *name) {
    if (!inside_) {
      close();
      open(name, region_.step);
    }
    finish_item();
    region_.tapes.push_back(Tape());
    at_ = &region_.tapes.back();
    at_->clear(name);
    last_loop_ = NULL;
  }

  void iteration(const char *label, int ii, int depth, bool first) {
    finish_item();
    if (first || last_loop_ != label) {
      find_loop(label, ii, depth);
      open_.assign(ports.size(), -1);
    }
    go((kBegin | loop_ << 1) + (first ? 1 : 0));
    used_ = true;
  }

  void control(int count) {
    for (int i = 0; i < count; ++i) {
      finish_item();
      go(kControl);
      used_ = true;
    }
    finish_item();
    last_loop_ = NULL;
  }

  int stream(const std::string &name) {
    std::map<std::string, int>::const_iterator found = depths.find(name);
    Stream made = {name, found == depths.end() ? kStreamDepth : found->second};
    region_.streams.push_back(made);
    return int(region_.streams.size()) - 1;
  }
  void read_stream(int stream) { operation(kRead | stream); }
  void write_stream(int stream) { operation(kWrite | stream); }

  void access(const char *array, int bank, int address, bool writes) {
    used();
    Memory &memory = find(array);
    if (std::size_t(bank) >= memory.banks.size()) memory.banks.resize(bank + 1);
    Bank &b = memory.banks[bank];
    if (b.stamp != stamp_) {
      b.stamp = stamp_;
      b.reads = b.writes = 0;
    }
    if (writes) {
      ++b.writes;
    } else {
      const int seen = std::min(b.reads, kSeen);
      if (std::find(b.read, b.read + seen, address) != b.read + seen) return;
      if (b.reads < kSeen) b.read[b.reads] = address;
      ++b.reads;
    }
    const int ii = last_loop_ == NULL ? 1 : at_->loops[loop_].ii;
    const bool bad = memory.split ? b.reads > ii || b.writes > ii : b.reads + b.writes > 2 * ii;
    if (bad) {
      fail(where() + ": " + number(b.reads) + " reads and " + number(b.writes) + " writes of " + memory.name +
           "[" + number(bank) + "] in " + number(ii) + (ii == 1 ? " cycle" : " cycles") + ", which has " +
           (memory.split ? "one port to read and one to write" : "two ports"));
    }
    if (!inside_) return;
    Shared &shared = memory.shared[at_->name];
    const std::size_t need = bank + 1;
    if (shared.reads.size() < need) shared.reads.resize(need), shared.writes.resize(need);
    shared.reads[bank] = std::max(shared.reads[bank], (b.reads + ii - 1) / ii);
    shared.writes[bank] = std::max(shared.writes[bank], (b.writes + ii - 1) / ii);
  }

  void port(const char *name, long long address, bool writes) {
    used();
    const int index = int(std::find(ports.begin(), ports.end(), name) - ports.begin());
    if (index == int(ports.size())) fail(where() + ": there is no port " + name);
    if (open_.size() < ports.size()) open_.resize(ports.size(), -1);
    if (at_->requests.size() < ports.size()) at_->requests.resize(ports.size());
    std::vector<Request> &made = at_->requests[index];
    if (open_[index] >= 0 && open_[index] == address) {
      ++made.back().words;
      operation((writes ? kPut : kFetch) | index);
    } else {
      const Request request = {address, 1};
      made.push_back(request);
      operation((writes ? kPutRequest : kFetchRequest) | index);
    }
    open_[index] = address + 1;
  }

  static std::string number(long long value) {
    std::string text;
    const bool negative = value < 0;
    for (value = negative ? -value : value; value > 0 || text.empty(); value /= 10) {
      text.insert(text.begin(), char('0' + value % 10));
    }
    return negative ? "-" + text : text;
  }

 private:
  static const int kSeen = 8;
  struct Bank {
    long long stamp;
    int reads, writes;
    int read[kSeen];  // the addresses that were read
    Bank() : stamp(-1), reads(0), writes(0) {}
  };
  struct Shared {  // by one process, in one cycle
    std::vector<int> reads, writes;
  };
  struct Memory {
    const char *key;
    std::string name;
    bool split;
    std::vector<Bank> banks;
    std::map<std::string, Shared> shared;
  };

  void open(const std::string &name, int step) {
    region_ = Region();
    region_.name = name;
    region_.step = step;
    at_ = NULL;
    node_ = 0;
    used_ = false;
    last_loop_ = NULL;
    for (std::size_t i = 0; i < memories_.size(); ++i) memories_[i].shared.clear();
  }

  void close() {
    finish_item();
    if (inside_) check_shared();
    bool any = false;
    for (std::size_t i = 0; i < region_.tapes.size(); ++i) any = any || !region_.tapes[i].items.empty();
    if (any && player != NULL) player->play(region_);
  }

  // Several processes at the same memory, at the same time.
  void check_shared() {
    for (std::size_t m = 0; m < memories_.size(); ++m) {
      const Memory &memory = memories_[m];
      for (std::size_t bank = 0; bank < memory.banks.size(); ++bank) {
        int reads = 0, writes = 0;
        std::string who;
        std::map<std::string, Shared>::const_iterator it;
        for (it = memory.shared.begin(); it != memory.shared.end(); ++it) {
          if (bank >= it->second.reads.size() || it->second.reads[bank] + it->second.writes[bank] == 0)
            continue;
          reads += it->second.reads[bank];
          writes += it->second.writes[bank];
          who += (who.empty() ? "" : " and ") + it->first;
        }
        if (memory.split ? reads > 1 || writes > 1 : reads + writes > 2) {
          fail(who + ": together " + number(reads) + " reads and " + number(writes) + " writes of " +
               memory.name + "[" + number(bank) + "] in a cycle, which has " +
               (memory.split ? "one port to read and one to write" : "two ports"));
        }
      }
    }
  }

  void finish_item() {
    if (used_) at_->items.push_back(node_);
    node_ = 0;
    used_ = false;
    ++stamp_;
  }

  // Code outside of every hook is a loop of one iteration.
  void used() {
    if (at_ == NULL) process("control");
    if (!used_) iteration("straight", 1, 1, true);
  }

  void operation(int code) {
    used();
    go(code);
  }

  void go(int code) {
    if (at_ == NULL) process("control");
    std::map<int, uint16_t> &ways = at_->next[node_];
    const std::map<int, uint16_t>::const_iterator found = ways.find(code);
    if (found != ways.end()) {
      node_ = found->second;
      return;
    }
    if (at_->path.size() > 0xffff) fail(where() + ": iterations differ too much to be recorded");
    const uint16_t made = uint16_t(at_->path.size());
    ways[code] = made;
    std::vector<int> path = at_->path[node_];
    path.push_back(code);
    at_->path.push_back(path);
    at_->next.push_back(std::map<int, uint16_t>());
    node_ = made;
  }

  void find_loop(const char *label, int ii, int depth) {
    if (at_ == NULL) process("control");
    last_loop_ = label;
    for (loop_ = 0; loop_ < int(at_->loops.size()); ++loop_) {
      const Loop &loop = at_->loops[loop_];
      if (loop.label == label && loop.ii == ii && loop.depth == depth) return;
    }
    const Loop made = {label, ii, depth};
    at_->loops.push_back(made);
  }

  Memory &find(const char *array) {
    for (std::size_t i = 0; i < memories_.size(); ++i) {
      if (memories_[i].key == array) return memories_[i];
    }
    for (std::size_t i = 0; i < memories_.size(); ++i) {
      if (memories_[i].name == array) return memories_[i];
    }
    Memory made;
    made.key = array;
    made.name = array;
    made.split = one_read_write.count(array) != 0;
    memories_.push_back(made);
    return memories_.back();
  }

  std::string where() const {
    std::string text = at_ == NULL ? region_.name : at_->name;
    return last_loop_ == NULL ? text : text + ", loop " + last_loop_;
  }

  void fail(const std::string &text) const {
    const Failure failure = {text};
    throw failure;
  }

  Region region_;
  bool inside_;
  Tape *at_;
  uint16_t node_;
  bool used_;
  const char *last_loop_;
  int loop_;
  std::vector<long long> open_;  // of each port: the address that would go on with its request
  long long stamp_;
  std::vector<Memory> memories_;
};

// The recorder of this thread.
inline Recorder &recorder() {
  static thread_local Recorder one;
  return one;
}

}  // namespace cycles

// sim/cycles/network.hpp -- the processes of a region, cycle by cycle.
//
// Every process plays its tape; streams are bounded FIFOs, what is written can be read a cycle later, and a place
// that becomes free can be taken a cycle later. In a loop, an iteration begins every II cycles, reads at once, and
// writes `depth` - 1 cycles later. What cannot go on stalls the whole pipeline, as in a pipeline without flushing: a
// reading of an empty stream, a writing of a full one, a word of memory that is not there. To enter and leave a loop
// takes kEntry cycles; a loop that has written to memory is left when all is acknowledged.
//
// If no process can go on and the memory has nothing under way, that is a deadlock, and the waiting are named.
#pragma once
#include <string>
#include <vector>

#include "sim/cycles/dram.hpp"
#include "sim/cycles/recorder.hpp"

namespace cycles {

static const int kEntry = 2;
static const int kMaxDepth = 1024;

// A node of a tape, ready to be played.
struct Item {
  bool control, first;
  int ii, depth;
  std::vector<int> reads, writes;  // streams
  std::vector<int> fetches, puts;  // ports
  std::vector<int> requests;  // ports at which a request begins; it is a read if `fetches` names the port
};

struct StreamState {
  int depth, held, read, written;  // held when the cycle began; read and written in it
  int most;
  long long empty, full;  // cycles that somebody waited
};

class Process {
 public:
  enum Wait { kEmpty, kFull, kFetching, kPutting, kWaits };

  long long busy, fill, control,
      finished;                   // cycles: iterations begun, others in loops, outside of loops; end
  std::vector<long long> stalls;  // by kind and stream or port
  int waiting, object;            // what it waits for

  explicit Process(const Tape &tape, int streams, int ports)
      : busy(0),
        fill(0),
        control(0),
        finished(0),
        waiting(-1),
        object(0),
        tape_(&tape),
        issued_(0),
        done_(0),
        local_(0),
        last_(0),
        entry_(kEntry),
        requested_(false),
        when_(kMaxDepth),
        next_request_(std::size_t(ports), 0),
        wrote_(-1),
        width_(streams > ports ? streams : ports) {
    stalls.assign(std::size_t(kWaits * width_), 0);
    for (std::size_t node = 0; node < tape.path.size(); ++node) items_.push_back(item(tape, tape.path[node]));
  }

  const std::string &name() const { return tape_->name; }
  bool over() const { return finished > 0; }
  long long stalled(int kind, int index) const { return stalls[std::size_t(kind * width_ + index)]; }

  // One cycle. Returns whether anything went on.
  bool tick(long long now, std::vector<StreamState> &streams, Dram &dram) {
    if (over()) return false;
    waiting = -1;
    const std::size_t all = tape_->items.size();
    const Item *completes = NULL, *issues = NULL;
    if (done_ < issued_) {
      const Item &oldest = items_[tape_->items[done_]];
      if (when_[done_ % kMaxDepth] + oldest.depth - 1 <= local_) completes = &oldest;
    }
    bool entering = false;
    if (issued_ < all) {
      const Item &next = items_[tape_->items[issued_]];
      if (next.control || next.first) {
        if (issued_ == done_) {
          if (wrote_ >= 0) {
            if (!dram.written(wrote_, now)) return stall(kPutting, wrote_);
            wrote_ = -1;
          }
          entering = next.first && entry_ > 0;
          if (!entering) issues = &next;
        }
      } else if (local_ - last_ >= next.ii) {
        issues = &next;
      }
    } else if (done_ == all) {
      if (wrote_ >= 0 && !dram.written(wrote_, now)) return stall(kPutting, wrote_);
      finished = now;
      return true;
    }

    const Item *at_once = issues != NULL && issues->depth == 1 ? issues : NULL;
    if (completes != NULL && !can_write(*completes, streams, dram)) return false;
    if (at_once != NULL && !can_write(*at_once, streams, dram)) return false;
    if (issues != NULL && !can_read(*issues, now, streams, dram)) return false;

    if (completes != NULL) {
      complete(*completes, streams, dram);
      ++done_;
    }
    if (issues != NULL) {
      for (std::size_t i = 0; i < issues->reads.size(); ++i) ++streams[issues->reads[i]].read;
      for (std::size_t i = 0; i < issues->fetches.size(); ++i) dram.fetch(issues->fetches[i]);
      requested_ = false;
      when_[issued_ % kMaxDepth] = last_ = local_;
      ++issued_;
      entry_ = kEntry;
      ++(issues->control ? control : busy);
      if (at_once != NULL) {
        complete(*at_once, streams, dram);
        ++done_;
      }
    } else {
      if (entering) --entry_;
      ++fill;
    }
    ++local_;
    return true;
  }

 private:
  static Item item(const Tape &tape, const std::vector<int> &path) {
    Item made = {path.empty() || path[0] >= kControl, false, 1, 1, {}, {}, {}, {}, {}};
    for (std::size_t i = 0; i < path.size(); ++i) {
      const int code = path[i];
      if (code < kControl) {
        made.first = (code & 1) != 0;
        made.ii = tape.loops[code >> 1].ii;
        made.depth = tape.loops[code >> 1].depth;
      } else if (code >= kPut) {
        made.puts.push_back(code & 63);
        if (code >= kPutRequest) made.requests.push_back(code & 63);
      } else if (code >= kFetch) {
        made.fetches.push_back(code & 63);
        if (code >= kFetchRequest) made.requests.push_back(code & 63);
      } else if (code >= kWrite) {
        made.writes.push_back(code & 255);
      } else if (code >= kRead) {
        made.reads.push_back(code & 255);
      }
    }
    return made;
  }

  bool stall(int kind, int index) {
    waiting = kind;
    object = index;
    ++stalls[std::size_t(kind * width_ + index)];
    return false;
  }

  bool can_write(const Item &item, std::vector<StreamState> &streams, Dram &dram) {
    for (std::size_t i = 0; i < item.writes.size(); ++i) {
      StreamState &stream = streams[item.writes[i]];
      if (stream.held >= stream.depth) {
        ++stream.full;
        return stall(kFull, item.writes[i]);
      }
    }
    for (std::size_t i = 0; i < item.puts.size(); ++i) {
      if (!dram.can_put(item.puts[i])) return stall(kPutting, item.puts[i]);
    }
    return true;
  }

  bool can_read(const Item &item, long long now, std::vector<StreamState> &streams, Dram &dram) {
    for (std::size_t i = 0; i < item.requests.size() && !requested_; ++i) {
      const int port = item.requests[i];
      for (std::size_t k = 0; k < item.fetches.size(); ++k) {
        if (item.fetches[k] == port) {
          const Request &request = tape_->requests[port][next_request_[port]++];
          dram.request_read(port, request.address, request.words);
          break;
        }
      }
    }
    requested_ = true;
    for (std::size_t i = 0; i < item.reads.size(); ++i) {
      StreamState &stream = streams[item.reads[i]];
      if (stream.held - stream.read < 1) {
        ++stream.empty;
        return stall(kEmpty, item.reads[i]);
      }
    }
    for (std::size_t i = 0; i < item.fetches.size(); ++i) {
      if (!dram.can_fetch(item.fetches[i], now,
                          1 + std::count(item.fetches.begin(), item.fetches.begin() + i, item.fetches[i])))
        return stall(kFetching, item.fetches[i]);
    }
    return true;
  }

  void complete(const Item &item, std::vector<StreamState> &streams, Dram &dram) {
    for (std::size_t i = 0; i < item.writes.size(); ++i) ++streams[item.writes[i]].written;
    for (std::size_t i = 0; i < item.puts.size(); ++i) {
      const int port = item.puts[i];
      if (std::find(item.requests.begin(), item.requests.end(), port) != item.requests.end()) {
        const Request &request = tape_->requests[port][next_request_[port]++];
        dram.request_write(port, request.address, request.words);
      }
      dram.put(port);
      wrote_ = port;
    }
  }

  const Tape *tape_;
  std::vector<Item> items_;
  std::size_t issued_, done_;
  long long local_, last_;       // cycles that were no stalls; of the last iteration's beginning
  int entry_;                    // cycles until the loop is entered
  bool requested_;               // whether the next item has sent its requests
  std::vector<long long> when_;  // local cycle in which an iteration began, in a ring
  std::vector<std::size_t> next_request_;
  int wrote_;  // the port with writes that are not acknowledged
  int width_;
};

// Plays regions one after the other and writes down how long they took, as JSON.
class Network : public Recorder::Player {
 public:
  Network(const MemoryFacts &facts, const std::vector<std::string> &ports) : facts_(facts), ports_(ports) {}

  const std::string &report() const { return report_; }

  virtual void play(const Region &region) {
    Dram dram(facts_, int(ports_.size()));
    std::vector<StreamState> streams;
    for (std::size_t i = 0; i < region.streams.size(); ++i) {
      const StreamState made = {region.streams[i].depth, 0, 0, 0, 0, 0, 0};
      streams.push_back(made);
    }
    std::vector<Process> processes;
    for (std::size_t i = 0; i < region.tapes.size(); ++i) {
      if (region.tapes[i].items.empty()) continue;
      processes.push_back(Process(region.tapes[i], int(streams.size()), int(ports_.size())));
    }
    check_ports(region);
    long long now = 1;
    std::size_t left = processes.size();
    for (; left > 0; ++now) {
      dram.tick(now);
      bool moved = false;
      left = 0;
      for (std::size_t i = 0; i < processes.size(); ++i) {
        moved = processes[i].tick(now, streams, dram) || moved;
        if (!processes[i].over()) ++left;
      }
      for (std::size_t i = 0; i < streams.size(); ++i) {
        StreamState &stream = streams[i];
        stream.held += stream.written - stream.read;
        stream.most = std::max(stream.most, stream.held);
        stream.read = stream.written = 0;
      }
      if (!moved && left > 0 && dram.idle(now)) fail_deadlocked(region, processes);
    }
    describe(region, now - 1, processes, streams, dram);
  }

 private:
  void check_ports(const Region &region) const {
    for (std::size_t port = 0; port < ports_.size(); ++port) {
      std::string user;
      for (std::size_t i = 0; i < region.tapes.size(); ++i) {
        const Tape &tape = region.tapes[i];
        if (port >= tape.requests.size() || tape.requests[port].empty()) continue;
        if (!user.empty())
          fail(user + " and " + tape.name + " use port " + ports_[port] + " at the same time");
        user = tape.name;
      }
    }
  }

  void fail_deadlocked(const Region &region, const std::vector<Process> &processes) const {
    static const char *const kText[] = {"to read from empty stream ", "to write to full stream ",
                                        "to read from port ", "to write to port "};
    std::string text = "deadlock in step " + Recorder::number(region.step) + ":";
    std::string before = " ";
    for (std::size_t i = 0; i < processes.size(); ++i) {
      const Process &process = processes[i];
      if (process.over() || process.waiting < 0) continue;
      const bool stream = process.waiting == Process::kEmpty || process.waiting == Process::kFull;
      text += before + process.name() + " waits " + kText[process.waiting] +
              (stream ? region.streams[process.object].name : ports_[process.object]);
      if (process.waiting == Process::kFull) {
        text += " (depth " + Recorder::number(region.streams[process.object].depth) + ")";
      }
      before = ", ";
    }
    fail(text);
  }

  static void fail(const std::string &text) {
    const Failure failure = {text};
    throw failure;
  }

  static std::string pair(const std::string &key, long long value) {
    return "\"" + key + "\": " + Recorder::number(value);
  }

  void describe(const Region &region, long long total, const std::vector<Process> &processes,
                const std::vector<StreamState> &streams, const Dram &dram) {
    static const char *const kKey[] = {"empty ", "full ", "read ", "write "};
    std::string text = "{\"name\": \"" + region.name + "\", " + pair("step", region.step) + ", " +
                       pair("cycles", total) + ", \"processes\": [";
    for (std::size_t i = 0; i < processes.size(); ++i) {
      const Process &p = processes[i];
      text += std::string(i == 0 ? "" : ", ") + "{\"name\": \"" + p.name() + "\", " + pair("busy", p.busy) +
              ", " + pair("fill", p.fill) + ", " + pair("control", p.control) + ", " +
              pair("end", p.finished) + ", \"stalls\": {";
      std::string comma;
      for (int kind = 0; kind < Process::kWaits; ++kind) {
        const bool stream = kind == Process::kEmpty || kind == Process::kFull;
        const std::size_t count = stream ? streams.size() : ports_.size();
        for (std::size_t k = 0; k < count; ++k) {
          if (p.stalled(kind, int(k)) == 0) continue;
          text += comma +
                  pair(kKey[kind] + (stream ? region.streams[k].name : ports_[k]), p.stalled(kind, int(k)));
          comma = ", ";
        }
      }
      text += "}}";
    }
    text += "], \"streams\": [";
    for (std::size_t i = 0; i < streams.size(); ++i) {
      text += std::string(i == 0 ? "" : ", ") + "{\"name\": \"" + region.streams[i].name + "\", " +
              pair("depth", streams[i].depth) + ", " + pair("most", streams[i].most) + ", " +
              pair("empty", streams[i].empty) + ", " + pair("full", streams[i].full) + "}";
    }
    text += "], " + pair("read_bytes", dram.read_bytes) + ", " + pair("written_bytes", dram.written_bytes) +
            ", " + pair("moved_bytes", dram.moved_bytes) + ", " + pair("requests", dram.requests) + ", " +
            pair("bursts", dram.bursts) + ", " + pair("dram_busy", (long long)(dram.busy)) + "}";
    report_ += (report_.empty() ? "" : ",\n") + text;
  }

  MemoryFacts facts_;
  std::vector<std::string> ports_;
  std::string report_;
};

}  // namespace cycles

#include "nextscale/io/pickle.h"

#include <algorithm>
#include <bit>

#include <fmt/format.h>

#include "nextscale/io/bytes.h"
#include "nextscale/io/pickle_machine.h"

namespace nextscale {
namespace {

constexpr size_t kLineLimit = 1001;

/// Decodes operations (Python's pickletools.py describes each) and hands them to the machine.
class Decoder {
 public:
  Decoder(std::span<const std::byte> bytes, const std::string& where, bool (*allowed)(std::string_view))
      : bytes_(bytes), machine_(where, allowed) {}

  PickleTree run() {
    for (;;) {
      machine_.begin_operation(at_);
      const auto code = static_cast<char>(number(1));
      if (code == '.') return machine_.finish(at_);
      if (!scalar(code) && !container(code) && !stack(code)) {
        throw machine_.wrong("pickle holds an operation that is not read", "one of protocols 2 to 5",
                             fmt::format("0x{:02x}", static_cast<unsigned char>(code)));
      }
    }
  }

 private:
  using Ids = PickleMachine::Ids;

  std::span<const std::byte> take(uint64_t count) {
    const auto left = bytes_.size() - at_;
    if (count > left) {
      throw machine_.wrong("pickle is cut off", fmt::format("{} bytes", count), fmt::format("{} bytes", left));
    }
    const auto taken = bytes_.subspan(at_, static_cast<size_t>(count));
    at_ += taken.size();
    return taken;
  }
  uint64_t number(size_t count) {
    uint64_t value = 0;
    const auto taken = take(count);
    for (size_t i = count; i-- > 0;) value = (value << 8) | static_cast<uint64_t>(taken[i]);
    return value;
  }
  std::string_view text(size_t count) { return as_text(take(number(count))); }  // its length takes `count` bytes
  std::string_view line() {
    const auto left = as_text(bytes_.subspan(at_, std::min(kLineLimit, bytes_.size() - at_)));
    const auto end = left.find('\n');
    if (end == left.npos) {
      throw machine_.wrong(left.size() < kLineLimit ? "pickle is cut off" : "pickle holds a line without an end");
    }
    at_ += end + 1;
    return left.substr(0, end);
  }
  double real() {  // big-endian, the only number that is
    uint64_t bits = 0;
    for (const auto byte : take(8)) bits = (bits << 8) | static_cast<uint64_t>(byte);
    return std::bit_cast<double>(bits);
  }

  bool scalar(char code) {
    switch (code) {
      case 'N':
        return machine_.push(PickleKind::none), true;
      case '\x88':
      case '\x89':
        return machine_.push(PickleKind::boolean, code == '\x88'), true;
      case 'I':  // Python 2's for what does not fit 32 bits
        return machine_.push_integer_line(line()), true;
      case 'J':
        return machine_.push_integer(take(4)), true;
      case 'K':
        return machine_.push(PickleKind::integer, static_cast<int64_t>(number(1))), true;
      case 'M':
        return machine_.push(PickleKind::integer, static_cast<int64_t>(number(2))), true;
      case '\x8a':
        return machine_.push_integer(take(number(1))), true;
      case '\x8b':
        return machine_.push_integer(take(number(4))), true;
      case 'G':
        return machine_.push(PickleKind::real, real()), true;
      case 'X':
        return machine_.push_text(text(4), PickleKind::text), true;
      case '\x8c':
        return machine_.push_text(text(1), PickleKind::text), true;
      case '\x8d':
        return machine_.push_text(text(8), PickleKind::text), true;
      case 'T':  // Python 2's strings: bytes, or text if they are one
        return machine_.push_text(text(4), PickleKind::bytes), true;
      case 'U':
        return machine_.push_text(text(1), PickleKind::bytes), true;
      case 'B':
        return machine_.push(PickleKind::bytes, text(4)), true;
      case 'C':
        return machine_.push(PickleKind::bytes, text(1)), true;
      case '\x8e':
      case '\x96':
        return machine_.push(PickleKind::bytes, text(8)), true;
      default:
        return false;
    }
  }

  bool container(char code) {
    switch (code) {
      case ']':
      case '\x8f':
        return machine_.push(PickleKind::list, Ids{}), true;
      case ')':
        return machine_.push(PickleKind::tuple, Ids{}), true;
      case '}':
        return machine_.push(PickleKind::dict, Ids{}), true;
      case '\x85':
      case '\x86':
      case '\x87':
        return machine_.push(PickleKind::tuple, machine_.pop_last(static_cast<size_t>(code - '\x84'))), true;
      case 't':
        return machine_.push(PickleKind::tuple, machine_.pop_to_mark()), true;
      case '\x91':
        return machine_.push(PickleKind::list, machine_.pop_to_mark()), true;
      case 'a':
        return machine_.extend_top(PickleKind::list, machine_.pop_last(1)), true;
      case 'e':
      case '\x90':
        return machine_.extend_top(PickleKind::list, machine_.pop_to_mark()), true;
      case 's':
        return machine_.extend_top(PickleKind::dict, machine_.pop_last(2)), true;
      case 'u':
        return machine_.extend_top(PickleKind::dict, machine_.pop_to_mark()), true;
      default:
        return false;
    }
  }

  bool stack(char code) {
    switch (code) {
      case '\x80':
        return check_protocol(number(1)), true;
      case '\x95':  // a frame: its length helps only who reads piece by piece
        return number(8), true;
      case '(':
        return machine_.mark(), true;
      case '0':
        return machine_.drop(), true;
      case '1':
        return machine_.pop_to_mark(), true;
      case '2':
        return machine_.duplicate(), true;
      case 'q':
        return machine_.put(number(1)), true;
      case 'r':
        return machine_.put(number(4)), true;
      case '\x94':
        return machine_.put_next(), true;
      case 'h':
        return machine_.get(number(1)), true;
      case 'j':
        return machine_.get(number(4)), true;
      case 'c':
      case 'i': {
        const auto module = line(), name = line();
        machine_.push_global(module, name);
        return code == 'c';  // INST, whose name deserves to be said, is of protocol 0
      }
      case '\x93':
        return machine_.name_from_stack(), true;
      case 'R':
      case '\x81':
        return machine_.reduce(), true;
      case 'b':
        return machine_.build(), true;
      case 'Q':
        return machine_.push(PickleKind::persistent, Ids{machine_.pop()}), true;
      default:
        return false;
    }
  }

  void check_protocol(uint64_t protocol) {
    if (protocol >= 2 && protocol <= 5) return;
    throw machine_.wrong("pickle protocol cannot be read", "2 to 5", fmt::format("{}", protocol));
  }

  std::span<const std::byte> bytes_;
  PickleMachine machine_;
  size_t at_ = 0;
};

}  // namespace

PickleTree parse_pickle(std::span<const std::byte> bytes, const std::string& where, bool (*allowed)(std::string_view)) {
  return Decoder(bytes.first(std::min(bytes.size(), kPickleBytesLimit)), where, allowed).run();
}

}  // namespace nextscale

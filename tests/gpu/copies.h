#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include <ATen/core/Tensor.h>
#include <ATen/record_function.h>

namespace nextscale::testing {

/// Counts what crosses between CPU and device while one lives, by looking at every operator that is called (also in
/// backward passes, which run on threads of their own). One at a time.
class CopyCounter {
 public:
  struct Counts {
    int64_t to_cpu = 0;        ///< copies and waits: the CPU stands still until the device has come this far
    int64_t to_device = 0;     ///< copies
    int64_t device_bytes = 0;  ///< of these
    std::map<std::string, int64_t> operators;
    std::string text() const {
      std::string out = std::to_string(to_cpu) + " to the CPU, " + std::to_string(to_device) + " to the device (" +
                        std::to_string(device_bytes) + " bytes)";
      for (const auto& [name, count] : operators) out += "; " + name + " " + std::to_string(count);
      return out;
    }
  };

  CopyCounter() {
    current() = this;
    handle_ = at::addGlobalCallback(
        at::RecordFunctionCallback(&CopyCounter::on_operator).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
  }
  ~CopyCounter() {
    at::removeCallback(handle_);
    current() = nullptr;
  }
  CopyCounter(const CopyCounter&) = delete;
  CopyCounter& operator=(const CopyCounter&) = delete;

  Counts counts() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return counts_;
  }

 private:
  static CopyCounter*& current() {
    static CopyCounter* counter = nullptr;
    return counter;
  }
  static std::unique_ptr<at::ObserverContext> on_operator(const at::RecordFunction& function) {
    if (current() != nullptr) current()->see(function);
    return nullptr;
  }
  void see(const at::RecordFunction& function) {
    const std::string name = function.name();
    const auto inputs = function.inputs();
    const auto tensor = [&](size_t i) {
      return i < inputs.size() && inputs[i].isTensor() ? inputs[i].toTensor() : at::Tensor();
    };
    const auto first = tensor(0), second = tensor(1);
    if (!first.defined()) return;
    const bool waits = name == "aten::_local_scalar_dense" || name == "aten::nonzero" || name == "aten::equal" ||
                       name == "aten::masked_select" || name == "aten::_unique2";
    const std::lock_guard<std::mutex> lock(mutex_);
    if (name == "aten::copy_" && second.defined() && first.is_cpu() != second.is_cpu()) {
      ++(first.is_cpu() ? counts_.to_cpu : counts_.to_device);
      if (second.is_cpu()) counts_.device_bytes += static_cast<int64_t>(second.nbytes());
      ++counts_.operators[first.is_cpu() ? "copy to the CPU" : "copy to the device"];
    } else if (waits && !first.is_cpu()) {
      ++counts_.to_cpu;
      ++counts_.operators[name];
    }
  }

  at::CallbackHandle handle_ = 0;
  mutable std::mutex mutex_;
  Counts counts_;
};

}  // namespace nextscale::testing

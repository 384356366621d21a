#pragma once

#include <functional>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

namespace nextscale {

/// Work of fixed shapes on fixed memory that returns one tensor.
using Work = std::function<at::Tensor()>;
/// Records work; what it gives does the work again, on the memory that was there when it was recorded, without running
/// its code: the result may be the same tensor each time.
using Recorder = std::function<Work(const Work&)>;

/// Whether this build records CUDA graphs (NEXTSCALE_WITH_CUDA_GRAPHS) and the device is one that can.
bool can_record_graphs(const c10::Device& device);

/// Records what work launches as one CUDA graph, so that doing it again costs one launch. The work is done once first,
/// because libraries set themselves up when they are first called. Graphs of one recorder share their memory and are to
/// be replayed in the order in which they were recorded. Work must neither wait for the device nor draw random numbers.
/// @throws Error failure where can_record_graphs is false
Recorder cuda_graph_recorder(const c10::Device& device);

}  // namespace nextscale

#include "nextscale/base/graph_recorder.h"

#include <memory>

#include "nextscale/base/error.h"

#ifdef NEXTSCALE_WITH_CUDA_GRAPHS
#include <ATen/autocast_mode.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace nextscale {

#ifdef NEXTSCALE_WITH_CUDA_GRAPHS
namespace {

/// Casts that autocast keeps live in memory of its own, which a graph would go on reading after they are gone.
class WithoutKeptCasts {
 public:
  WithoutKeptCasts() : were_kept_(at::autocast::is_autocast_cache_enabled()) {
    at::autocast::set_autocast_cache_enabled(false);
  }
  ~WithoutKeptCasts() { at::autocast::set_autocast_cache_enabled(were_kept_); }
  WithoutKeptCasts(const WithoutKeptCasts&) = delete;
  WithoutKeptCasts& operator=(const WithoutKeptCasts&) = delete;

 private:
  bool were_kept_;
};

}  // namespace

bool can_record_graphs(const c10::Device& device) { return device.is_cuda(); }

Recorder cuda_graph_recorder(const c10::Device& device) {
  return [device, pool = at::cuda::graph_pool_handle()](const Work& work) -> Work {
    const c10::cuda::CUDAGuard on_device(device);
    const WithoutKeptCasts no_kept_casts;
    // What came before may still be writing what the work reads; a capture wants a stream of its own.
    c10::cuda::getCurrentCUDAStream().synchronize();
    auto graph = std::make_shared<at::cuda::CUDAGraph>();
    at::Tensor result;
    {
      const auto stream = c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index());
      const c10::cuda::CUDAStreamGuard on_stream(stream);
      work();
      stream.synchronize();
      // Of this thread alone: others may go on with the device meanwhile.
      graph->capture_begin(pool, cudaStreamCaptureModeThreadLocal);
      result = work();
      graph->capture_end();
    }
    return [graph, result] {
      graph->replay();
      return result;
    };
  };
}

#else

bool can_record_graphs(const c10::Device&) { return false; }

Recorder cuda_graph_recorder(const c10::Device& device) {
  throw failure({device.str(), "cannot record graphs", "a GPU, and a build with CUDA graphs", {}});
}

#endif

}  // namespace nextscale

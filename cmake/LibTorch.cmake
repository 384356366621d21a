# nextscale::torch from any LibTorch: -DLIBTORCH_ROOT=…, the project's own .venv, or the active Python's torch.
# Own imported targets: the package file of the CUDA wheel wants a whole toolkit, and links libraries we do not use.
set(LIBTORCH_ROOT "" CACHE PATH "LibTorch folder (has lib/libtorch_cpu.so and include/)")

function(nextscale_find_libtorch out)
  set(candidates ${LIBTORCH_ROOT} $ENV{LIBTORCH_ROOT})
  if(NOT candidates)
    file(GLOB candidates ${CMAKE_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
    find_program(NEXTSCALE_PYTHON python3)
    if(NOT candidates AND NEXTSCALE_PYTHON)
      execute_process(COMMAND ${NEXTSCALE_PYTHON} -c "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
                      OUTPUT_VARIABLE candidates OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    endif()
  endif()
  foreach(candidate ${candidates})
    if(EXISTS ${candidate}/lib/libtorch_cpu.so AND EXISTS ${candidate}/include/torch/csrc/api/include/torch/torch.h)
      set(${out} ${candidate} PARENT_SCOPE)
      return()
    endif()
  endforeach()
  message(FATAL_ERROR "LibTorch was not found. Run scripts/setup.sh, or give -DLIBTORCH_ROOT=/path/to/libtorch "
                      "(a folder with lib/libtorch_cpu.so and include/).")
endfunction()

nextscale_find_libtorch(NEXTSCALE_TORCH_ROOT)
message(STATUS "LibTorch: ${NEXTSCALE_TORCH_ROOT}")

add_library(nextscale_torch INTERFACE)
add_library(nextscale::torch ALIAS nextscale_torch)
# LibTorch's include folder holds fmt 12, which would shadow the system's: a folder with one link is searched first.
# Both link folders lie in the source tree, so that the compiler's command lines (and ccache) are equal in every build folder.
find_path(NEXTSCALE_FMT_INCLUDE fmt/format.h REQUIRED)
set(links ${CMAKE_SOURCE_DIR}/.cache/include)
set(fmt_link ${links}/system)
if(NOT NEXTSCALE_FMT_INCLUDE STREQUAL "/usr/include")  # one folder for each fmt: build folders may differ in it
  string(MD5 hash ${NEXTSCALE_FMT_INCLUDE})
  string(SUBSTRING ${hash} 0 8 hash)
  set(fmt_link ${links}/fmt-${hash})
endif()
file(MAKE_DIRECTORY ${links}/ours ${fmt_link})
file(CREATE_LINK ${CMAKE_SOURCE_DIR} ${links}/ours/nextscale SYMBOLIC)
file(CREATE_LINK ${NEXTSCALE_FMT_INCLUDE}/fmt ${fmt_link}/fmt SYMBOLIC)
target_include_directories(nextscale_torch INTERFACE ${links}/ours)
target_include_directories(nextscale_torch SYSTEM BEFORE INTERFACE ${fmt_link})
target_include_directories(nextscale_torch SYSTEM INTERFACE ${NEXTSCALE_TORCH_ROOT}/include
                           ${NEXTSCALE_TORCH_ROOT}/include/torch/csrc/api/include)

set(libraries)
set(paths)
foreach(name c10 torch_cpu torch c10_cuda torch_cuda)
  if(EXISTS ${NEXTSCALE_TORCH_ROOT}/lib/lib${name}.so)
    add_library(nextscale_libtorch_${name} SHARED IMPORTED)
    set_target_properties(nextscale_libtorch_${name} PROPERTIES IMPORTED_LOCATION ${NEXTSCALE_TORCH_ROOT}/lib/lib${name}.so)
    list(APPEND libraries nextscale_libtorch_${name})
    string(APPEND paths ",${NEXTSCALE_TORCH_ROOT}/lib/lib${name}.so")
  endif()
endforeach()
# CUDA libraries register themselves when loaded, so they must be linked although nothing names them; what they need in
# turn lies beside them and is found by their own RPATH at run time. One word for the linker: CMake drops words that it met before,
# such as a second --no-as-needed, and with it the libraries.
target_link_libraries(nextscale_torch INTERFACE -Wl,--allow-shlib-undefined
                      "-Wl,--push-state,--no-as-needed${paths},--pop-state" ${libraries})
# NDEBUG in every build, as LibTorch itself was built: without it some of its classes have more members (at::RecordFunction).
target_compile_definitions(nextscale_torch INTERFACE NDEBUG USE_DISTRIBUTED USE_C10D_GLOO)
if(EXISTS ${NEXTSCALE_TORCH_ROOT}/lib/libtorch_cuda.so)
  target_compile_definitions(nextscale_torch INTERFACE NEXTSCALE_WITH_CUDA)

  # CUDA graphs: LibTorch's class for them includes headers of CUDA's runtime, which lie in a toolkit or beside a torch that
  # pip installed, there with the package nvidia-cuda-crt, which torch does not bring. Compiling needs no GPU; where they
  # are missing the program is built without graphs.
  find_path(NEXTSCALE_CUDA_INCLUDE crt/host_config.h NO_DEFAULT_PATH
            PATHS ${NEXTSCALE_TORCH_ROOT}/../nvidia/cu13/include $ENV{CUDA_HOME}/include /usr/local/cuda/include)
  find_library(NEXTSCALE_CUDART NAMES libcudart.so.13 libcudart.so NO_DEFAULT_PATH
               PATHS ${NEXTSCALE_TORCH_ROOT}/../nvidia/cu13/lib $ENV{CUDA_HOME}/lib64 /usr/local/cuda/lib64)
  if(NEXTSCALE_CUDA_INCLUDE AND NEXTSCALE_CUDART)
    include(CheckCXXSourceCompiles)
    set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
    set(CMAKE_REQUIRED_INCLUDES ${NEXTSCALE_TORCH_ROOT}/include ${NEXTSCALE_CUDA_INCLUDE})
    check_cxx_source_compiles("
      #include <ATen/cuda/CUDAGraph.h>
      #include <c10/cuda/CUDAGuard.h>
      void record(at::cuda::CUDAGraph& graph) {
        const c10::cuda::CUDAStreamGuard guard(c10::cuda::getStreamFromPool());
        graph.capture_begin(at::cuda::graph_pool_handle(), cudaStreamCaptureModeThreadLocal);
        graph.capture_end();
        graph.replay();
      }" NEXTSCALE_CUDA_GRAPHS)
    unset(CMAKE_TRY_COMPILE_TARGET_TYPE)
    unset(CMAKE_REQUIRED_INCLUDES)
  endif()
  if(NOT NEXTSCALE_CUDA_GRAPHS)
    message(STATUS "built without CUDA graphs: CUDA's runtime headers were not found (a toolkit, or pip's nvidia-cuda-crt beside torch)")
  endif()
endif()

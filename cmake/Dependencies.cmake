# Everything that comes from the system (docs/dependencies.md names licences). OpenCV, libarchive and xxhash get targets of
# our own, so that rooms link one name.
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(cxxopts REQUIRED)
find_package(ZLIB REQUIRED)
find_package(LibArchive REQUIRED)
find_package(JPEG REQUIRED)  # libjpeg-dev and libpng-dev: OpenCV hides their errors and lets their messages out
find_package(PNG REQUIRED)

add_library(nextscale_opencv INTERFACE)
add_library(nextscale::opencv ALIAS nextscale_opencv)
# Debian's module packages carry no package file (it is in libopencv-dev, which pulls in a desktop), a prefix of one's own does.
find_package(OpenCV QUIET CONFIG COMPONENTS core imgproc imgcodecs)
if(OpenCV_FOUND)
  target_include_directories(nextscale_opencv SYSTEM INTERFACE ${OpenCV_INCLUDE_DIRS})
  target_link_libraries(nextscale_opencv INTERFACE opencv_core opencv_imgproc opencv_imgcodecs)
else()
  find_path(NEXTSCALE_OPENCV_INCLUDE opencv2/imgcodecs.hpp PATH_SUFFIXES opencv4 REQUIRED)
  target_include_directories(nextscale_opencv SYSTEM INTERFACE ${NEXTSCALE_OPENCV_INCLUDE})
  foreach(module core imgproc imgcodecs)
    find_library(NEXTSCALE_OPENCV_${module} opencv_${module} REQUIRED)
    target_link_libraries(nextscale_opencv INTERFACE ${NEXTSCALE_OPENCV_${module}})
  endforeach()
endif()

add_library(nextscale_archive INTERFACE)
add_library(nextscale::archive ALIAS nextscale_archive)
target_link_libraries(nextscale_archive INTERFACE LibArchive::LibArchive)

find_path(NEXTSCALE_XXHASH_INCLUDE xxhash.h REQUIRED)
add_library(nextscale_xxhash INTERFACE)
add_library(nextscale::xxhash ALIAS nextscale_xxhash)
target_include_directories(nextscale_xxhash SYSTEM INTERFACE ${NEXTSCALE_XXHASH_INCLUDE})
target_compile_definitions(nextscale_xxhash INTERFACE XXH_INLINE_ALL)

# Optional, for programs: large blocks come and go with every step, and glibc either asks the system for fresh pages each time
# or leaves gaps. tcmalloc does neither (docs/benchmarks.md). Sanitizers bring an allocator of their own.
add_library(nextscale_malloc INTERFACE)
add_library(nextscale::malloc ALIAS nextscale_malloc)
find_library(NEXTSCALE_TCMALLOC tcmalloc_minimal)
if(NEXTSCALE_TCMALLOC AND NOT NEXTSCALE_SANITIZE)
  target_link_libraries(nextscale_malloc INTERFACE "-Wl,--push-state,--no-as-needed,${NEXTSCALE_TCMALLOC},--pop-state")
endif()

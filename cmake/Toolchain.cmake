# What makes the edit-build-test cycle short where it is installed: ccache and the mold linker; and our warnings.
find_program(NEXTSCALE_CCACHE ccache)
if(NEXTSCALE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${NEXTSCALE_CCACHE})
endif()
find_program(NEXTSCALE_MOLD mold)
if(NEXTSCALE_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

add_library(nextscale_warnings INTERFACE)
add_library(nextscale::warnings ALIAS nextscale_warnings)
target_compile_options(nextscale_warnings INTERFACE -Wall -Wextra -Wpedantic $<$<BOOL:${NEXTSCALE_WERROR}>:-Werror>)
# GCC 12 warns of overlapping copies in its own std::string (its bug 105329).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(nextscale_warnings INTERFACE -Wno-restrict)
endif()
# The work is done inside LibTorch; -O3 here only costs compile time.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

if(NEXTSCALE_SANITIZE)
  add_compile_options(-fsanitize=${NEXTSCALE_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${NEXTSCALE_SANITIZE})
endif()
add_compile_definitions(NEXTSCALE_VERSION="${PROJECT_VERSION}")

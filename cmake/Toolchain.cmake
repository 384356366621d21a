# ccache, where it is installed, and our warnings. The linker is the compiler's own: mold 1.10 (Debian 12) makes programs that
# do not start (its bug 1151) or never ends, and saves half a second.
find_program(NEXTSCALE_CCACHE ccache)
if(NEXTSCALE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${NEXTSCALE_CCACHE})
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

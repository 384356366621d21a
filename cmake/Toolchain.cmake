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

if(NEXTSCALE_SANITIZE)
  add_compile_options(-fsanitize=${NEXTSCALE_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${NEXTSCALE_SANITIZE})
endif()

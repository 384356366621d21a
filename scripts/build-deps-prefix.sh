#!/usr/bin/env bash
# For machines without root or internet: makes a folder that can be moved, with everything but LibTorch that nextscale needs.
#   scripts/build-deps-prefix.sh [FOLDER]      FOLDER (.cache/deps-prefix), and beside it FOLDER.tar.xz to carry away
# The other machine unpacks it anywhere and says -DCMAKE_PREFIX_PATH=FOLDER (docs/install.md).
# Runs on Debian 12, x86-64, with the package index and PyPI in reach; changes nothing outside FOLDER. NEXTSCALE_JOBS=N compiles
# side by side.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${1:-$root/.cache/deps-prefix}
jobs=${NEXTSCALE_JOBS:-$(nproc)}

opencv=4.11.0.86                                           # PyPI's sdist: OpenCV with the codecs it bundles
compiled=(fmtlib spdlog googletest libarchive)             # Debian sources
taken=(libcxxopts-dev nlohmann-json3-dev libxxhash-dev librapidcheck-dev libgoogle-perftools-dev)  # Debian packages, as they are

say() { printf '%s\n' "$*" >&2; }
fail() { say "build-deps-prefix: $*"; exit 1; }
log() {  # log NAME COMMAND… : quiet unless it fails
  local name=$1
  shift
  "$@" >"$work/$name.log" 2>&1 || { tail -n 30 "$work/$name.log" >&2; fail "$name: the command failed: $*"; }
}

for tool in cmake ninja g++ apt-get dpkg-source dpkg-deb pip xz strip; do
  command -v "$tool" >/dev/null || fail "$tool is missing (packages build-essential cmake ninja-build python3-pip xz-utils)"
done
[ "$(uname -m)" = x86_64 ] || fail "only for x86-64"
[ ! -e "$target" ] || fail "$target exists; remove it or name another folder"
mkdir -p "$(dirname "$target")"
target=$(cd "$(dirname "$target")" && pwd)/$(basename "$target")

# A neutral place: libraries keep the path they were built at as text.
work=$(mktemp -d /tmp/nextscale-deps.XXXXXX)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
mkdir -p "$prefix/lib" "$prefix/include" "$prefix/share/licenses" "$work/sources" "$work/packages" "$work/tools"

say "1/4 fetching sources"
# The system's own list of archives, for sources as well, with indexes of our own: needs no root.
apt=(apt-get -qq -o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$work/apt/parts" -o "Dir::State::Lists=$work/apt/lists"
  -o APT::Sandbox::User= -o "Dir::Cache=$work/apt/cache")
mkdir -p "$work/apt/parts" "$work/apt/lists/partial" "$work/apt/cache/archives/partial"
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
  [ -s "$list" ] || continue
  sed -E 's/^Types:.*/Types: deb deb-src/; /^deb-src /d; s/^deb (.*)/deb \1\ndeb-src \1/' "$list" >"$work/apt/parts/$(basename "$list" .list | sed 's/\.sources$//').${list##*.}"
done
log update "${apt[@]}" update
(cd "$work/sources" && log sources "${apt[@]}" source --download-only "${compiled[@]}")
(cd "$work/packages" && log packages "${apt[@]}" download "${taken[@]}")
(cd "$work/tools" && log tools "${apt[@]}" download nasm && dpkg-deb -x nasm_*.deb .)  # for libjpeg-turbo's SIMD code
export PATH=$work/tools/usr/bin:$PATH
(cd "$work/sources" && log opencv-download pip download --no-deps --no-binary opencv-python-headless "opencv-python-headless==$opencv")

say "2/4 compiling OpenCV (core, imgproc, imgcodecs)"
tar -xzf "$work"/sources/opencv*.tar.gz -C "$work/sources"
cv=$(echo "$work"/sources/opencv*/opencv)
[ -f "$cv/CMakeLists.txt" ] || fail "the sdist of OpenCV $opencv does not hold its source"
flags="-ffile-prefix-map=$work=."
build() {  # build NAME SOURCE OPTION…
  local name=$1 source=$2
  shift 2
  log "$name-configure" cmake -S "$source" -B "$work/build/$name" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF \
    -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DCMAKE_INSTALL_PREFIX="$prefix" -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_PREFIX_PATH="$prefix" \
    -DCMAKE_C_FLAGS="$flags" -DCMAKE_CXX_FLAGS="$flags" "$@"
  log "$name-build" cmake --build "$work/build/$name" -j "$jobs"
  log "$name-install" cmake --install "$work/build/$name"
}
off() { printf -- "-D%s=OFF\n" "$@"; }
mapfile -t without < <(off BUILD_TESTS BUILD_PERF_TESTS BUILD_EXAMPLES BUILD_opencv_apps BUILD_JAVA BUILD_opencv_python3 CV_TRACE \
  WITH_OPENJPEG WITH_JASPER WITH_OPENEXR WITH_IPP WITH_ITT WITH_OPENCL WITH_TBB WITH_OPENMP WITH_LAPACK WITH_EIGEN WITH_PROTOBUF \
  WITH_FFMPEG WITH_GSTREAMER WITH_V4L WITH_GTK WITH_QT WITH_ADE WITH_QUIRC WITH_VA WITH_VA_INTEL WITH_IMGCODEC_HDR \
  WITH_IMGCODEC_SUNRASTER WITH_IMGCODEC_PFM)
build opencv "$cv" -DBUILD_LIST=core,imgproc,imgcodecs -DOPENCV_FORCE_3RDPARTY_BUILD=ON \
  -DBUILD_ZLIB=ON -DBUILD_JPEG=ON -DBUILD_PNG=ON -DBUILD_WEBP=ON -DBUILD_TIFF=ON -DWITH_JPEG=ON -DWITH_PNG=ON -DWITH_WEBP=ON \
  -DWITH_TIFF=ON -DWITH_PTHREADS_PF=ON -DCPU_BASELINE=SSE4_2 -DCPU_DISPATCH=AVX2 -DOPENCV_LIB_INSTALL_PATH=lib "${without[@]}"
rm -rf "$prefix/bin" "$prefix/share/opencv4"/{haarcascades,lbpcascades,*.supp}
# nextscale uses the same zlib, libpng and libjpeg-turbo as OpenCV: their headers, and names that CMake's Find modules know.
cp "$cv"/3rdparty/zlib/zlib.h "$cv"/3rdparty/libpng/png{,conf,libconf}.h "$prefix/include/"
cp "$cv"/3rdparty/libjpeg-turbo/src/{jpeglib,jmorecfg,jerror}.h "$prefix/include/"
find "$cv/3rdparty/zlib" "$work/build/opencv/3rdparty/zlib" -name zconf.h -exec cp {} "$prefix/include/" \;
find "$work/build/opencv/3rdparty/libjpeg-turbo" "$cv/3rdparty/libjpeg-turbo" -name jconfig.h -print -quit | xargs -I{} cp {} "$prefix/include/"
third=lib/opencv4/3rdparty
for pair in libjpeg:liblibjpeg-turbo libpng:liblibpng libz:libzlib; do
  [ -f "$prefix/$third/${pair#*:}.a" ] || fail "OpenCV was built without ${pair#*:}"
  ln -s "opencv4/3rdparty/${pair#*:}.a" "$prefix/lib/${pair%:*}.a"
done

say "3/4 compiling fmt, spdlog, GoogleTest, libarchive"
for package in "${compiled[@]}"; do
  (cd "$work/sources" && log "$package-unpack" dpkg-source -x "$package"_*.dsc "$package")
  cp "$work/sources/$package/debian/copyright" "$prefix/share/licenses/$package.txt"
done
build fmt "$work/sources/fmtlib" -DFMT_TEST=OFF -DFMT_DOC=OFF
build spdlog "$work/sources/spdlog" -DSPDLOG_FMT_EXTERNAL=ON -DSPDLOG_BUILD_EXAMPLE=OFF
build gtest "$work/sources/googletest" -DBUILD_GMOCK=ON
# Tar files only; gzip is read by nextscale itself.
mapfile -t without < <(off ENABLE_TEST ENABLE_TAR ENABLE_CPIO ENABLE_CAT ENABLE_OPENSSL ENABLE_NETTLE ENABLE_MBEDTLS ENABLE_LIBB2 ENABLE_LZ4 \
  ENABLE_LZO ENABLE_LZMA ENABLE_ZSTD ENABLE_ZLIB ENABLE_BZip2 ENABLE_LIBXML2 ENABLE_EXPAT ENABLE_PCREPOSIX ENABLE_LIBGCC ENABLE_CNG ENABLE_ICONV \
  ENABLE_ACL ENABLE_XATTR)
# glibc has had arc4random_buf only since 2.36: libarchive's own is used, under a name that newer headers do not declare.
sed -i s/arc4random_buf/archive_random_buf/g "$work/sources/libarchive/libarchive/archive_random.c"
build libarchive "$work/sources/libarchive" -DENABLE_WERROR=OFF -DHAVE_ARC4RANDOM_BUF=0 "${without[@]}"

say "4/4 packing"
for deb in "$work"/packages/*.deb; do
  package=$(basename "$deb"); package=${package%%_*}
  mkdir -p "$work/unpacked/$package"
  dpkg-deb -x "$deb" "$work/unpacked/$package"
  cp -a "$work/unpacked/$package/usr/include/." "$prefix/include/"
  for folder in lib/cmake share/cmake; do
    [ ! -d "$work/unpacked/$package/usr/$folder" ] || { mkdir -p "$prefix/$folder"; cp -a "$work/unpacked/$package/usr/$folder/." "$prefix/$folder/"; }
  done
  cp "$work/unpacked/$package/usr/share/doc/$package/copyright" "$prefix/share/licenses/$package.txt"
done
cp "$work"/unpacked/librapidcheck-dev/usr/lib/*/librapidcheck.a "$work"/unpacked/libgoogle-perftools-dev/usr/lib/*/libtcmalloc_minimal.a "$prefix/lib/"
[ ! -d "$prefix/share/licenses/opencv4" ] || mv "$prefix/share/licenses/opencv4" "$prefix/share/licenses/opencv-bundled"
cp "$cv/LICENSE" "$prefix/share/licenses/opencv.txt"
cp "$cv/3rdparty/libwebp/COPYING" "$prefix/share/licenses/libwebp.txt"
rm -rf "$prefix"/lib/libarchive.so* "$prefix"/{bin,share/man,share/doc,share/pkgconfig,lib/pkgconfig,lib/*/pkgconfig}
find "$prefix" -name '*.a' -type f -exec strip --strip-debug {} +

# What would break on another machine: paths of this one, and functions that glibc 2.34 or GCC 11's libstdc++ do not have.
if grep -rIl "$work" "$prefix" >&2; then fail "the files above name the folder they were built in"; fi
newer='arc4random|_dl_find_object|__isoc23_|__memcmpeq|pidfd_|strlcpy|strlcat|epoll_pwait2|posix_spawn_file_actions_addtcsetpgrp|_ZSt21__glibcxx_assert_fail'
find "$prefix" -name '*.a' -type f -exec nm -u {} + 2>/dev/null | awk '{print $2}' | grep -E "^($newer)" | sort -u >"$work/newer" || true
[ ! -s "$work/newer" ] || fail "glibc 2.34 or GCC 11 lacks: $(tr '\n' ' ' <"$work/newer")"

mv "$prefix" "$target"
tar -C "$(dirname "$target")" --sort=name --owner=0 --group=0 --numeric-owner -c "$(basename "$target")" | xz -9 -T 1 >"$target.tar.xz.part"
mv "$target.tar.xz.part" "$target.tar.xz"
say "$target: $(du -sm --apparent-size "$target" | cut -f1) MB, packed $(du -sm --apparent-size "$target.tar.xz" | cut -f1) MB"

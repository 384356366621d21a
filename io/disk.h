#pragma once

#include <cstdint>
#include <filesystem>

namespace nextscale {

/// Bytes that this user may still write where `folder` is (or will be: the nearest existing parent counts).
uint64_t free_space(const std::filesystem::path& folder);
/// @throws Error failure "FOLDER: too little disk: expected 1.2 GB free, got 300.0 MB"
void require_free_space(const std::filesystem::path& folder, uint64_t bytes);

}  // namespace nextscale

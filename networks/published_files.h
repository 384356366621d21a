#pragma once

#include <filesystem>
#include <string>

namespace nextscale {

/// @param command what fetches the file: "scripts/download-weights.sh FOLDER vgg16-397923af.pth"
/// @throws Error failure naming the file and the command if there is no such file
void expect_published(const std::filesystem::path& path, const std::string& command);

}  // namespace nextscale

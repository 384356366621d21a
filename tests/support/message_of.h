#pragma once

#include <functional>
#include <string>

#include <gtest/gtest.h>

#include "nextscale/base/error.h"

namespace nextscale::testing {

/// The one line of the Error failure that a call throws; "no error" if it throws none.
inline std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::failure);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  return "no error";
}

}  // namespace nextscale::testing

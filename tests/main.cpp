// SPDX-License-Identifier: Apache-2.0
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include "tests/fixture.h"

namespace moxie::testing {

std::filesystem::path fixtures_folder() { return MOXIE_TEST_FIXTURES; }

}  // namespace moxie::testing

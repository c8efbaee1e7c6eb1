// SPDX-License-Identifier: Apache-2.0
#include "tests/fixture.h"

namespace moxie::testing {

std::filesystem::path fixtures_folder() { return MOXIE_TEST_FIXTURES; }

}  // namespace moxie::testing

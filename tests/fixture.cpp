// SPDX-License-Identifier: Apache-2.0
#include "tests/fixture.h"

#include <cstdlib>

namespace moxie::testing {

// MOXIE_TEST_FIXTURES in the environment names the folder in a copied tree.
std::filesystem::path fixtures_folder() {
  const char* moved = std::getenv("MOXIE_TEST_FIXTURES");
  return moved != nullptr ? moved : MOXIE_TEST_FIXTURES;
}

}  // namespace moxie::testing

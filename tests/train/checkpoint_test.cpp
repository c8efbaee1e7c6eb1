// SPDX-License-Identifier: Apache-2.0
// nn/train/checkpoint.h: what was saved comes back, and what was damaged doesn't.
#include "nn/train/checkpoint.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "core/version.h"
#include "nn/train/hash.h"
#include "tests/system_limits.h"
#include "tests/temporary_folder.h"

using namespace moxie;
using namespace moxie::train;
using namespace moxie::test;

namespace {

Checkpoint example(int64_t numbers = 40) {
  std::vector<float> values;
  for (int64_t i = 0; i < numbers; ++i) values.push_back(std::sin(static_cast<float>(i)));
  values[0] = std::numeric_limits<float>::quiet_NaN();
  return {.arrays = {{"model.blocks.0.weight", Array::from(values, {numbers})},
                     {"optimizer.empty", Array::empty({0, 3})},
                     {"optimizer.step", Array::from(std::vector<int32_t>{12}, {})},
                     {"model.half", Array::from(std::vector<double>{0.1, 0.2}, {2})}},
          .metadata = {{"step", "12"}, {"configuration", R"({"width": 128, "router": "cosine"})"}}};
}

bool equal(const Checkpoint& a, const Checkpoint& b) {
  if (a.metadata != b.metadata || a.arrays.size() != b.arrays.size()) return false;
  for (size_t i = 0; i < a.arrays.size(); ++i) {
    const Array &x = a.arrays[i].array, &y = b.arrays[i].array;
    if (a.arrays[i].name != b.arrays[i].name || x.shape() != y.shape() || x.dtype() != y.dtype()) return false;
    if (x.bytes() > 0 && std::memcmp(x.raw(), y.raw(), static_cast<size_t>(x.bytes())) != 0) return false;
  }
  return true;
}

std::string load_error(const std::string& path) {
  return message_of<std::invalid_argument>([&] { load_checkpoint(path); });
}

// The checkpoint's file with one metadata value replaced by another of any length.
void save_with(const std::string& path, const std::string& key, const std::string& value) {
  const nn::Safetensors file = nn::read_safetensors(path);
  std::map<std::string, std::string> metadata = file.metadata;
  metadata[key] = value;
  nn::write_safetensors(path, file.arrays, metadata);
}

}  // namespace

TEST_CASE("checkpoint: arrays, their order and metadata come back bit by bit") {
  const TemporaryFolder folder;
  const std::string path = folder / "checkpoint.safetensors";
  save_checkpoint(path, example());
  CHECK(equal(load_checkpoint(path), example()));
  // Saving what was loaded gives the same file.
  const std::string bytes = contents_of(path);
  save_checkpoint(path, load_checkpoint(path));
  CHECK(contents_of(path) == bytes);
  save_checkpoint(path, {});
  CHECK(equal(load_checkpoint(path), {}));
  CHECK(folder.files() == 1);
}

TEST_CASE("checkpoint: any safetensors reader opens it") {
  const TemporaryFolder folder;
  save_checkpoint(folder / "a", example());
  const nn::Safetensors file = nn::read_safetensors(folder / "a");
  CHECK(file.metadata.at("step") == "12");
  CHECK(file.metadata.at("moxie.version") == library_version);
  CHECK(file.arrays.size() == 4);
}

TEST_CASE("checkpoint: prefixes and metadata") {
  const std::vector<nn::NamedArray> model = without_prefix(example().arrays, "model");
  REQUIRE(model.size() == 2);
  CHECK(model[0].name == "blocks.0.weight");
  CHECK(model[1].name == "half");
  CHECK(with_prefix(model, "model")[1].name == "model.half");
  CHECK(without_prefix(example().arrays, "mod").empty());
  const Checkpoint checkpoint = example();
  CHECK(metadata_value(checkpoint, "step") == "12");
  CHECK(message_of<std::invalid_argument>([&] { metadata_value(checkpoint, "seed"); }) ==
        "checkpoint: the metadata has no 'seed'");
}

TEST_CASE("checkpoint: every flipped bit is found") {
  const TemporaryFolder folder;
  const Checkpoint good = example();
  save_checkpoint(folder / "a", good);
  const std::string bytes = contents_of(folder / "a");
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    const std::string error = load_error(folder.write("flipped", flipped));
    CAPTURE(bit);
    CHECK(error != "");
    if (bit >= 8 * (8 + header)) CHECK(contains(error, "is damaged: the checksum of tensor '"));
  }
}

TEST_CASE("checkpoint: cut at any byte, longer, empty, or of another kind") {
  const TemporaryFolder folder;
  save_checkpoint(folder / "a", example());
  const std::string bytes = contents_of(folder / "a");
  for (size_t size = 0; size < bytes.size(); ++size) {
    CAPTURE(size);
    CHECK(load_error(folder.write("cut", bytes.substr(0, size))) != "");
  }
  CHECK(contains(load_error(folder.write("cut", bytes.substr(0, bytes.size() - 1))), "truncated"));
  CHECK(contains(load_error(folder.write("longer", bytes + "x")), "1 bytes at the end belong to no tensor"));
  CHECK(contains(load_error(folder.write("empty", "")), "the file is empty"));
  CHECK(contains(load_error(folder.write("text", "In the beginning God created")), "not a safetensors file"));
  nn::write_safetensors(folder / "foreign", example().arrays, {{"format", "pt"}});
  CHECK(load_error(folder / "foreign") ==
        "load_checkpoint: '" + folder / "foreign" + "' is a safetensors file, but no checkpoint of moxie");
  CHECK(contains(message_of<std::runtime_error>([&] { load_checkpoint(folder / "none"); }), "No such file"));
}

TEST_CASE("checkpoint: a newer format is named, whatever else is in it") {
  const TemporaryFolder folder;
  const std::string path = folder / "a";
  save_checkpoint(path, example());
  save_with(path, "moxie.checkpoint_format", "2");
  CHECK(contains(load_error(path), "has format 2, this moxie reads up to 1"));
  for (const char* version : {"", "0", "-1", "1.5", "one", "99999999999999999999"}) {
    save_with(path, "moxie.checkpoint_format", version);
    CHECK(contains(load_error(path), "is damaged: its format is '"));
  }
}

TEST_CASE("checkpoint: checksums that are missing or changed") {
  const TemporaryFolder folder;
  const std::string path = folder / "a";
  const auto error_with = [&](const char* key, const std::string& value) {
    save_checkpoint(path, example());
    save_with(path, key, value);
    return load_error(path);
  };
  CHECK(contains(error_with("moxie.contents_checksum", ""), "the checksum of its header is wrong"));
  CHECK(contains(error_with("moxie.tensor_checksums", ""), "the checksum of its header is wrong"));
  CHECK(contains(error_with("step", "13"), "the checksum of its header is wrong"));
  CHECK(contains(error_with("seed", "1"), "the checksum of its header is wrong"));
  // a writer that leaves a tensor out of the list, and whose header is right otherwise
  save_checkpoint(path, example());
  const nn::Safetensors file = nn::read_safetensors(path);
  std::map<std::string, std::string> metadata = file.metadata;
  metadata["moxie.tensor_checksums"].resize(16 * 3);
  metadata.erase("moxie.contents_checksum");
  uint64_t header = 0;
  for (const nn::NamedArray& named : file.arrays)
    header = hash_text(fmt::format("{} {}", name_of(named.array.dtype()), named.array.shape()),
                       hash_text(named.name, header));
  for (const auto& [key, value] : metadata) header = hash_text(value, hash_text(key, header));
  metadata["moxie.contents_checksum"] = hex(header);
  nn::write_safetensors(path, file.arrays, metadata);
  CHECK(contains(load_error(path), "is damaged: it has 4 tensors and 3 checksums"));
}

TEST_CASE("checkpoint: what save refuses leaves the last one as it was") {
  const TemporaryFolder folder;
  const std::string path = folder / "a";
  save_checkpoint(path, example());
  Checkpoint bad = example();
  bad.metadata["moxie.step"] = "1";
  CHECK(
      contains(message_of<std::invalid_argument>([&] { save_checkpoint(path, bad); }), "must not begin with 'moxie.'"));
  bad = example();
  bad.arrays.push_back(bad.arrays[0]);
  CHECK(contains(message_of<std::invalid_argument>([&] { save_checkpoint(path, bad); }), "appears twice"));
  bad = example();
  bad.arrays.push_back({"none", Array()});
  CHECK(contains(message_of<std::invalid_argument>([&] { save_checkpoint(path, bad); }),
                 "save_checkpoint: the array 'none' is undefined"));
  CHECK(equal(load_checkpoint(path), example()));
  CHECK(folder.files() == 1);
}

TEST_CASE("checkpoint: a full disk fails clearly, the last one stays whole") {
  const TemporaryFolder folder;
  const SmallDisk disk(folder.path(), 256);
  if (!disk.mounted()) {
    MESSAGE("skipped: mounting a small file system needs root");
    return;
  }
  const std::string path = folder / "checkpoint.safetensors";
  save_checkpoint(path, example(30'000));
  const std::string message = message_of<std::runtime_error>([&] { save_checkpoint(path, example(60'000)); });
  CHECK(contains(message, "No space left on device; a file that was there before is untouched"));
  CHECK(contains(message, path));
  CHECK(equal(load_checkpoint(path), example(30'000)));
  CHECK(folder.files() == 1);
  save_checkpoint(path, example(20'000));  // what fits goes on working
  CHECK(equal(load_checkpoint(path), example(20'000)));
}

TEST_CASE("checkpoint: a read-only folder and a missing one fail clearly") {
  const TemporaryFolder folder;
  const std::string path = folder / "a";
  save_checkpoint(path, example());
  ::chmod(folder.path().c_str(), 0555);
  CHECK(contains(
      as_ordinary_user([&] { return message_of<std::runtime_error>([&] { save_checkpoint(path, example()); }); }),
      "Permission denied"));
  ::chmod(folder.path().c_str(), 0755);
  CHECK(equal(load_checkpoint(path), example()));
  CHECK(contains(message_of<std::runtime_error>([&] { save_checkpoint(folder / "none/a", example()); }),
                 "create the folder first"));
}

TEST_CASE("checkpoint: killed at any moment of saving, the file is a whole one") {
  const TemporaryFolder folder;
  const std::string path = folder / "a";
  save_checkpoint(path, example(1000));
  const Checkpoint large = example(200'000);
  for (int i = 0; i < 20; ++i) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      for (int64_t step = 0;; ++step) save_checkpoint(path, step % 2 == 0 ? large : example(1000));
    }
    ::usleep(static_cast<useconds_t>(1000 + 1700 * i));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const Checkpoint found = load_checkpoint(path);
    CHECK((equal(found, large) || equal(found, example(1000))));
  }
  save_checkpoint(path, example());
  CHECK(folder.files() == 1);
}

// SPDX-License-Identifier: Apache-2.0
// nn/train/data.h: which bytes a step sees.
#include "nn/train/data.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <set>

#include "tests/system_limits.h"
#include "tests/temporary_folder.h"

using namespace moxie;
using namespace moxie::train;
using namespace moxie::test;

namespace {

// A text in which four bytes tell their place.
std::string numbered(int64_t bytes) {
  std::string text;
  for (int64_t i = 0; static_cast<int64_t>(text.size()) < bytes; ++i) {
    text += static_cast<char>(i & 0xFF);
    text += static_cast<char>((i >> 8) & 0xFF);
    text += static_cast<char>(0xAA);
    text += static_cast<char>(0xBB);
  }
  text.resize(static_cast<size_t>(bytes));
  return text;
}

TextData numbered_data(int64_t bytes, double share) { return TextData::from_text(numbered(bytes), {share}); }

std::string row_of(const Array& tokens, int64_t row) {
  std::string text;
  for (const int32_t token : tokens.rows(row, 1).to_vector<int32_t>()) text += static_cast<char>(token);
  return text;
}

bool equal(const Batch& a, const Batch& b) {
  return a.tokens.shape() == b.tokens.shape() && a.tokens.to_vector<int32_t>() == b.tokens.to_vector<int32_t>() &&
         a.targets.to_vector<int32_t>() == b.targets.to_vector<int32_t>();
}

// Where each row of a batch begins in `text`; fails unless it and its targets are found there.
std::vector<int64_t> starts_of(const Batch& batch, std::string_view text) {
  std::vector<int64_t> starts;
  for (int64_t row = 0; row < batch.tokens.dim(0); ++row) {
    const std::string tokens = row_of(batch.tokens, row), targets = row_of(batch.targets, row);
    const size_t at = text.find(tokens + targets.back());
    REQUIRE(at != std::string_view::npos);
    CHECK(targets == text.substr(at + 1, tokens.size()));
    starts.push_back(static_cast<int64_t>(at));
  }
  return starts;
}

}  // namespace

TEST_CASE("TextData: the last share of the text is kept for validation") {
  const TextData data = numbered_data(1000, 0.05);
  CHECK(data.bytes() == 1000);
  CHECK(data.train_bytes() == 950);
  CHECK(data.validation_bytes() == 50);
  CHECK(std::string(data.train_text()) + std::string(data.validation_text()) == numbered(1000));
  CHECK(numbered_data(1000, 0).validation_bytes() == 0);
  CHECK(numbered_data(19, 0.05).validation_bytes() == 0);
  CHECK(data.identity() == "1000 bytes, 950 to train, hash c39e69a559579f42");
  CHECK(numbered_data(1000, 0.06).identity() != data.identity());
  CHECK(TextData::from_text(numbered(999).append("x")).identity() != data.identity());
}

TEST_CASE("TextData: batches are windows of the training text with the next byte as target") {
  const TextData data = numbered_data(1000, 0.05);
  const Batch batch = data.batch(1, 0, 5, 16);
  CHECK(batch.tokens.shape() == Shape{5, 16});
  CHECK(batch.targets.shape() == Shape{5, 16});
  CHECK(batch.tokens.dtype() == Dtype::i32);
  CHECK(batch.targets.dtype() == Dtype::i32);
  for (int64_t step = 0; step < 40; ++step) starts_of(data.batch(1, step, 5, 16), data.train_text());
}

TEST_CASE("TextData: a batch is a function of seed and step alone") {
  const TextData data = numbered_data(5000, 0.05), again = numbered_data(5000, 0.05);
  const Batch late = data.batch(3, 57, 4, 16);
  for (int64_t step = 0; step < 57; ++step) (void)again.batch(3, step, 4, 16);
  CHECK(equal(again.batch(3, 57, 4, 16), late));
  CHECK_FALSE(equal(data.batch(4, 57, 4, 16), late));
  CHECK_FALSE(equal(data.batch(3, 58, 4, 16), late));
}

TEST_CASE("TextData: half the batch twice reads what the whole batch reads") {
  const TextData data = numbered_data(5000, 0.05);
  const Batch whole = data.batch(3, 20, 8, 16);
  for (int64_t half = 0; half < 2; ++half) {
    const Batch part = data.batch(3, 40 + half, 4, 16);
    CHECK(part.tokens.to_vector<int32_t>() == whole.tokens.rows(4 * half, 4).to_vector<int32_t>());
  }
}

TEST_CASE("TextData: an epoch sees every window once, the next in another order from another offset") {
  const int64_t context = 16;
  const TextData data = numbered_data(4003, 0);
  const int64_t windows = data.windows_per_epoch(context);
  CHECK(windows == 249);
  std::set<std::vector<int64_t>> orders;
  std::set<int64_t> offsets;
  for (int64_t epoch = 0; epoch < 6; ++epoch) {
    std::vector<int64_t> starts;
    for (int64_t i = 0; i < windows; ++i) {
      CHECK(data.epoch_of(epoch * windows + i, 1, context) == epoch);
      starts.push_back(starts_of(data.batch(9, epoch * windows + i, 1, context), data.train_text())[0]);
    }
    const int64_t offset = *std::min_element(starts.begin(), starts.end());
    CHECK(offset < 2 * context);
    std::vector<int64_t> order;
    for (int64_t& start : starts) {
      CHECK((start - offset) % context == 0);
      order.push_back((start - offset) / context);
    }
    std::vector<int64_t> sorted = order;
    std::sort(sorted.begin(), sorted.end());
    for (int64_t i = 0; i < windows; ++i) CHECK(sorted[static_cast<size_t>(i)] == i);
    orders.insert(order);
    offsets.insert(offset);
  }
  CHECK(orders.size() == 6);
  CHECK(offsets.size() >= 3);
}

TEST_CASE("TextData: every byte is trained on sooner or later, the last only as a target") {
  const TextData data = numbered_data(200, 0);
  std::vector<bool> seen(200);
  for (int64_t step = 0; step < 400; ++step) {
    const int64_t start = starts_of(data.batch(2, step, 1, 16), data.train_text())[0];
    for (int64_t i = start; i <= start + 16; ++i) seen[static_cast<size_t>(i)] = true;
  }
  CHECK(std::count(seen.begin(), seen.end(), false) == 0);
}

TEST_CASE("TextData: epochs count by samples, a batch may span several") {
  const TextData data = numbered_data(100, 0);
  CHECK(data.windows_per_epoch(16) == 5);
  CHECK(data.epoch_of(0, 2, 16) == 0);
  CHECK(data.epoch_of(2, 2, 16) == 0);
  CHECK(data.epoch_of(3, 2, 16) == 1);
  CHECK(data.steps_per_epoch(2, 16) == doctest::Approx(2.5));
  const Batch batch = data.batch(1, 0, 12, 16);
  const std::vector<int64_t> starts = starts_of(batch, data.train_text());
  CHECK(std::set<int64_t>(starts.begin(), starts.begin() + 5).size() == 5);
  CHECK(std::set<int64_t>(starts.begin() + 5, starts.begin() + 10).size() == 5);
}

TEST_CASE("TextData: the smallest text that fits") {
  const TextData data = numbered_data(17, 0);
  CHECK(data.windows_per_epoch(16) == 1);
  CHECK(starts_of(data.batch(1, 0, 2, 16), data.train_text()) == std::vector<int64_t>{0, 0});
  CHECK(contains(message_of<std::invalid_argument>([&] { (void)data.batch(1, 0, 2, 17); }),
                 "data: the text has 17 bytes to train on, too few for a context of 17 and one target more; give more "
                 "text or a shorter context"));
  CHECK_THROWS_AS(data.check_context(INT64_MAX), std::invalid_argument);
}

TEST_CASE("TextData: validation windows lie side by side and are always the same") {
  const TextData data = numbered_data(4000, 0.1);
  CHECK(data.validation_windows(16) == 24);
  const std::vector<Batch> all = data.validation_batches(10, 16);
  REQUIRE(all.size() == 3);
  CHECK(all[2].tokens.dim(0) == 4);
  std::vector<int64_t> starts;
  for (const Batch& batch : all)
    for (const int64_t start : starts_of(batch, data.validation_text())) starts.push_back(start);
  for (size_t i = 0; i < starts.size(); ++i) CHECK(starts[i] == static_cast<int64_t>(16 * i));
  const std::vector<Batch> again = data.validation_batches(10, 16, 100);
  REQUIRE(again.size() == 3);
  for (size_t i = 0; i < 3; ++i) CHECK(equal(all[i], again[i]));
}

TEST_CASE("TextData: fewer validation batches are spread evenly") {
  const TextData data = numbered_data(4000, 0.1);
  const std::vector<Batch> some = data.validation_batches(3, 16, 2);
  REQUIRE(some.size() == 2);
  CHECK(starts_of(some[0], data.validation_text()) == std::vector<int64_t>{0, 64, 128});
  CHECK(starts_of(some[1], data.validation_text()) == std::vector<int64_t>{192, 256, 320});
  CHECK(numbered_data(4000, 0).validation_batches(3, 16, 2).empty());
  CHECK(contains(message_of<std::invalid_argument>([&] { (void)data.validation_batches(3, 400); }),
                 "data: the text has 400 bytes for validation, too few for a context of 400 and one target more"));
}

TEST_CASE("TextData: a folder is read in the order of names, without hidden files, joined by line ends") {
  const TemporaryFolder folder;
  folder.write("b.txt", "second");
  folder.write("a/z.txt", "first\n");
  folder.write("a/.hidden", "no");
  folder.write(".git/config", "no");
  folder.write("c.txt", "");
  folder.write("d/deep/e.txt", "third");
  std::filesystem::create_symlink(folder / "b.txt", folder / "link");
  std::filesystem::create_symlink(folder / "nowhere", folder / "broken");
  const TextData data(folder.path(), {0});
  CHECK(data.train_text() == "first\nsecond\nthird\nsecond");
  REQUIRE(data.files().size() == 5);
  CHECK(data.files()[0] == folder / "a/z.txt");
  const TextData file(folder / "b.txt", {0.5});
  CHECK(file.train_text() == "sec");
  CHECK(file.validation_text() == "ond");
}

TEST_CASE("TextData: what can't be trained on") {
  const TemporaryFolder folder;
  const auto message = [&](const std::string& name) { return message_of([&] { TextData data(folder / name); }); };
  CHECK(message("none") == "data: there is no file or folder '" + folder / "none" + "'");
  folder.write("empty", "");
  CHECK(message("empty") == "data: the file '" + folder / "empty" + "' is empty");
  folder.write("folder/.only hidden", "x");
  CHECK(contains(message("folder"), "holds no files (hidden ones are left out)"));
  folder.write("blank/a", "");
  folder.write("blank/b", "");
  CHECK(contains(message("blank"), "all 2 files in the folder"));
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK(contains(message("pipe"), "neither a file nor a folder"));
  CHECK(contains(message_of([] { TextData::from_text(""); }), "the text is empty"));
  const std::string path = folder.write("text", "some text");
  ::chmod(folder.path().c_str(), 0755);
  ::chmod(path.c_str(), 0);
  CHECK(as_ordinary_user([&] { return message("text"); }) == "data: can't read '" + path + "': Permission denied");
  std::filesystem::create_directory(folder / "locked");
  ::chmod((folder / "locked").c_str(), 0);
  CHECK(contains(as_ordinary_user([&] { return message("locked"); }), "Permission denied"));
  CHECK(contains(as_ordinary_user([&] { return message("locked/a"); }), "Permission denied"));
}

TEST_CASE("TextData: messages for numbers out of range") {
  const TextData data = numbered_data(1000, 0.05);
  const auto message = [](auto&& f) { return message_of<std::invalid_argument>(f); };
  for (const double share : {-0.1, 1.0, 0.0 / 0.0}) {
    CHECK(contains(message([&] { numbered_data(10, share); }), "validation_share must be in [0, 1), got"));
  }
  CHECK(contains(message([&] { (void)data.batch(1, -1, 2, 16); }), "steps count from 0, got -1"));
  CHECK(contains(message([&] { (void)data.batch(1, 0, 0, 16); }), "batch size must be at least 1, got 0"));
  CHECK(contains(message([&] { (void)data.batch(1, 0, 2, 0); }), "data: the context must be at least 1, got 0"));
  CHECK(contains(message([&] { (void)data.batch(1, INT64_MAX / 2, 4, 16); }), "is too far"));
  CHECK(contains(message([&] { (void)data.validation_batches(2, 16, -1); }), "max_batches must not be negative"));
}

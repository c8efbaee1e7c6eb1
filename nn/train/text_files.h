// SPDX-License-Identifier: Apache-2.0
// Finding and reading the files of a text.
#pragma once
#include <string>
#include <vector>

namespace moxie::train {

// `path` itself where it is a file; else all regular files below the folder `path`, sorted by their names as bytes,
// without hidden files and folders (a leading dot). Links to files are followed, links to folders are not. Throws
// std::invalid_argument where nothing is there, std::runtime_error where a folder can't be read.
std::vector<std::string> list_text_files(const std::string& path);

// The contents of a file. Throws std::runtime_error with the system's words where it can't be read.
std::string read_text_file(const std::string& path);

}  // namespace moxie::train

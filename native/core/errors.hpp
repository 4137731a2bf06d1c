// What the core throws. The Python bindings turn each into the exception that Annoy's users expect.
#pragma once

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

namespace dask_annoy {

// The operating system refused something; carries errno.
class FileError : public std::runtime_error {
 public:
  FileError(const std::string& what, const std::string& path_, int code_ = errno)
      : std::runtime_error(what + " '" + path_ + "': " + std::strerror(code_)), path(path_), code(code_) {}
  std::string path;
  int code;
};

// The bytes of a file are not a forest of the metric and width asked for, or not what belongs to one.
class CorruptFile : public std::runtime_error {
 public:
  CorruptFile(const std::string& path, const std::string& reason_, const std::string& what = "a sound forest")
      : std::runtime_error("'" + path + "' is not " + what + ": " + reason_), reason(reason_) {}
  std::string reason;
};

// A call that does not fit what was done before: an item for a loaded index, a second build …
class StateError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The caller asked to stop (Ctrl-C).
class Interrupted : public std::runtime_error {
 public:
  Interrupted() : std::runtime_error("interrupted") {}
};

}  // namespace dask_annoy

// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Target/Output.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <tuple>
#include <unistd.h>

using namespace kvcache;
using namespace kvcache::target;
using namespace llvm;

static std::error_code lastError() {
  return std::error_code(errno, std::generic_category());
}

static Error cannotWrite(StringRef path, std::error_code error) {
  return createStringError(error,
                           "cannot write '" + path + "': " + error.message());
}

//===----------------------------------------------------------------------===//
// The folder
//===----------------------------------------------------------------------===//

/// An open folder that this process alone has; -1 if another one has it, or if
/// it is gone.
static int lockFolder(const std::string &path) {
  int lock =
      open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (lock < 0)
    return -1;
  struct stat opened, named;
  if (!flock(lock, LOCK_EX | LOCK_NB) && !fstat(lock, &opened) &&
      !lstat(path.c_str(), &named) && opened.st_dev == named.st_dev &&
      opened.st_ino == named.st_ino)
    return lock;
  close(lock);
  return -1;
}

/// The lock of a process ends with it, however it ends.
static void removeAbandoned(StringRef parent, StringRef prefix) {
  std::error_code error;
  for (sys::fs::directory_iterator it(parent, error), end; it != end && !error;
       it.increment(error)) {
    if (!sys::path::filename(it->path()).starts_with(prefix))
      continue;
    int lock = lockFolder(it->path());
    if (lock < 0)
      continue;
    std::ignore = sys::fs::remove_directories(it->path());
    close(lock);
  }
}

Expected<OutputFiles> OutputFiles::beside(StringRef path) {
  StringRef parent = sys::path::parent_path(path);
  if (parent.empty())
    parent = ".";
  // A name as long as a file system takes leaves no room for ours.
  StringRef name = sys::path::filename(path).take_front(200);
  std::string prefix = ("." + name + ".kv-").str();
  removeAbandoned(parent, prefix);
  // Before it is locked, another process may take it for abandoned.
  for (int attempt = 0; attempt < 16; ++attempt) {
    std::string folder = (parent + "/" + prefix + "XXXXXX").str();
    if (!mkdtemp(folder.data()))
      return cannotWrite(path, lastError());
    int lock = lockFolder(folder);
    if (lock >= 0)
      return OutputFiles(folder, lock);
  }
  return cannotWrite(path,
                     std::make_error_code(std::errc::device_or_resource_busy));
}

OutputFiles::OutputFiles(OutputFiles &&other) noexcept
    : folder(std::move(other.folder)), lock(other.lock),
      places(std::move(other.places)) {
  other.lock = -1;
}

OutputFiles::~OutputFiles() {
  if (lock < 0)
    return;
  std::ignore = sys::fs::remove_directories(folder);
  close(lock);
}

std::string OutputFiles::scratch(StringRef name) const {
  return (folder + "/" + name).str();
}

static std::string numbered(StringRef name, size_t i) {
  return (name + "." + Twine(i)).str();
}

std::string OutputFiles::add(StringRef path) {
  places.push_back(path.str());
  return scratch(numbered("new", places.size() - 1));
}

//===----------------------------------------------------------------------===//
// Taking their places
//===----------------------------------------------------------------------===//

static bool sync(const std::string &path, int flags) {
  int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | flags);
  if (file < 0)
    return false;
  // Some file systems do not know what to do for a folder.
  bool done = !fsync(file) || errno == EINVAL || errno == EROFS;
  int error = errno;
  close(file);
  errno = error;
  return done;
}

/// Gives what is at a place a second name, if there is something.
static std::error_code keep(const std::string &place, const std::string &name) {
  struct stat status;
  if (lstat(place.c_str(), &status))
    return errno == ENOENT ? std::error_code() : lastError();
  if (S_ISDIR(status.st_mode))
    return std::make_error_code(std::errc::is_a_directory);
  // Where a file cannot have two names, it has to leave its place first.
  if (link(place.c_str(), name.c_str()) &&
      ::rename(place.c_str(), name.c_str()))
    return lastError();
  return std::error_code();
}

/// A rename would put a file in the place of a device, a pipe or a socket.
static Error expectFileOrNothing(const std::string &place) {
  struct stat status;
  if (lstat(place.c_str(), &status) || S_ISREG(status.st_mode) ||
      S_ISLNK(status.st_mode) || S_ISDIR(status.st_mode))
    return Error::success();
  return createStringError("cannot write '%s': expected a file or nothing "
                           "there, got a device, a pipe or a socket",
                           place.c_str());
}

Error OutputFiles::publish() {
  for (const std::string &place : places)
    if (Error error = expectFileOrNothing(place))
      return error;
  for (size_t i = 0; i < places.size(); ++i)
    if (!sync(scratch(numbered("new", i)), 0))
      return cannotWrite(places[i], lastError());
  auto old = [&](size_t i) { return scratch(numbered("old", i)); };
  size_t done = 0;
  std::error_code error;
  for (; done < places.size() && !error; ++done) {
    error = keep(places[done], old(done));
    if (!error &&
        ::rename(scratch(numbered("new", done)).c_str(), places[done].c_str()))
      error = lastError();
  }
  if (!error) {
    StringRef parent = sys::path::parent_path(folder);
    sync(parent.str(), O_DIRECTORY);
    return Error::success();
  }
  for (size_t i = 0; i < done; ++i) {
    bool wasThere = !::rename(old(i).c_str(), places[i].c_str());
    if (!wasThere && i + 1 < done)
      unlink(places[i].c_str());
  }
  return cannotWrite(places[done - 1], error);
}

//===----------------------------------------------------------------------===//
// One file
//===----------------------------------------------------------------------===//

static Error finish(raw_fd_ostream &os, StringRef path) {
  os.flush();
  std::error_code error = os.error();
  os.clear_error();
  return error ? cannotWrite(path, error) : Error::success();
}

Error target::writeFile(StringRef path, StringRef name,
                        function_ref<void(raw_ostream &)> write) {
  std::error_code error;
  raw_fd_ostream os(path, error);
  if (error)
    return cannotWrite(name, error);
  write(os);
  return finish(os, name);
}

Error target::writeOutput(StringRef path,
                          function_ref<void(raw_ostream &)> write) {
  if (path == "-") {
    write(outs());
    return finish(outs(), path);
  }
  sys::fs::file_status status;
  if (!sys::fs::status(path, status) && !sys::fs::is_regular_file(status))
    return writeFile(path, path, write);
  Expected<OutputFiles> files = OutputFiles::beside(path);
  if (!files)
    return files.takeError();
  if (Error error = writeFile(files->add(path), path, write))
    return error;
  return files->publish();
}

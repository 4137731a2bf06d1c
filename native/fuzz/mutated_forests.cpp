// Opens and asks many damaged forest files. Needs no fuzzing engine: file number i of seed s is the same everywhere.
//
//   mutated_forests [--inputs N] [--first I] [--seed S] [--seconds T]   tries N files from number I on
//   mutated_forests --corpus FOLDER                                     writes the sound files, for libFuzzer
//
// A file that takes longer than T seconds (default 10) counts as a hang. On a fault the number of the file is printed:
// try it again with --first I --inputs 1.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include "fuzz/exercise.hpp"
#include "fuzz/mutation.hpp"
#include "fuzz/seeds.hpp"

// The sanitizers' faults shall come by our handler, and an allocation out of proportion to the file is a fault.
extern "C" const char* __asan_default_options() { return "abort_on_error=1:max_allocation_size_mb=64"; }
extern "C" const char* __ubsan_default_options() { return "abort_on_error=1:print_stacktrace=1"; }

namespace {

using namespace dask_annoy;
using namespace dask_annoy::fuzz;

char current[64];

void say_current(int signal_number) {
  const char* const what = signal_number == SIGALRM ? "hang" : "fault";
  for (const char* text : {what, " in file number ", static_cast<const char*>(current), "\n"}) {
    if (write(STDERR_FILENO, text, std::strlen(text)) < 0) break;
  }
  signal(SIGABRT, SIG_DFL);
  abort();
}

Input damaged(const std::vector<Input>& sound, std::uint64_t seed, std::uint64_t number) {
  Random random(combine(seed, number));
  Input input = sound[random.below(sound.size())];
  mutate(input, sound[random.below(sound.size())], random);
  return input;
}

void write_corpus(const std::string& folder) {
  std::filesystem::create_directories(folder);
  std::size_t number = 0;
  for (const Input& input : seeds()) {
    const std::vector<std::uint8_t> bytes = encoded(input);
    std::ofstream file(folder + "/seed-" + std::to_string(number++), std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (!file.flush()) throw std::runtime_error("cannot write into " + folder);
  }
  std::printf("%zu files in %s\n", number, folder.c_str());
}

int try_files(std::uint64_t first, std::uint64_t count, std::uint64_t seed, unsigned seconds) {
  const std::vector<Input> sound = seeds();
  for (const Input& input : sound) {
    if (!open_and_ask(input)) throw std::runtime_error("a sound file was refused");
  }
  signal(SIGABRT, say_current);
  signal(SIGALRM, say_current);
  const auto start = std::chrono::steady_clock::now();
  std::uint64_t accepted = 0;
  std::uint64_t bytes = 0;
  for (std::uint64_t number = first; number < first + count; ++number) {
    std::snprintf(current, sizeof current, "%llu", static_cast<unsigned long long>(number));
    alarm(seconds);
    const Input input = damaged(sound, seed, number);
    bytes += input.file.size();
    try {
      if (open_and_ask(input)) ++accepted;
    } catch (const std::exception& error) {  // nothing of a file that opened may throw
      std::fprintf(stderr, "file number %s: %s\n", current, error.what());
      return 1;
    }
    if ((number - first + 1) % 100000 == 0) {
      std::printf("%llu files\n", static_cast<unsigned long long>(number - first + 1));
      std::fflush(stdout);
    }
  }
  alarm(0);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf(
      "%llu damaged files (%.1f MB) from %zu sound ones, seed %llu, first %llu: %llu accepted (%.1f %%), %.0f s\n",
      static_cast<unsigned long long>(count), static_cast<double>(bytes) / 1e6, sound.size(),
      static_cast<unsigned long long>(seed), static_cast<unsigned long long>(first),
      static_cast<unsigned long long>(accepted), 100.0 * static_cast<double>(accepted) / static_cast<double>(count),
      took.count());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t count = 20000;
  std::uint64_t first = 0;
  std::uint64_t seed = 1;
  unsigned seconds = 10;
  try {
    for (int i = 1; i < argc; i += 2) {
      const std::string name = argv[i];
      if (i + 1 == argc) throw std::invalid_argument(name + " needs a value");
      const std::string value = argv[i + 1];
      if (name == "--corpus") {
        write_corpus(value);
        return 0;
      }
      if (name == "--inputs") {
        count = std::stoull(value);
      } else if (name == "--first") {
        first = std::stoull(value);
      } else if (name == "--seed") {
        seed = std::stoull(value);
      } else if (name == "--seconds") {
        seconds = static_cast<unsigned>(std::stoul(value));
      } else {
        throw std::invalid_argument("no such option: " + name);
      }
    }
    return try_files(first, count, seed, seconds);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}

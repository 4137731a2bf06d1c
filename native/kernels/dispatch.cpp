// Choice of the kernel table: what the CPU can run, what the environment asks for.
#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "kernels/kernels.hpp"

namespace dask_annoy {

extern const Kernels kernels_baseline;
#if defined(DASK_ANNOY_HAVE_X86)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
extern const Kernels kernels_avx512vnni;
#elif defined(DASK_ANNOY_HAVE_NEON)
extern const Kernels kernels_neon;
#endif

namespace {

constexpr const char* kVariable = "DASK_ANNOY_KERNELS";

struct Candidate {
  const Kernels* table;
  bool runs_here;
};

// Best first.
std::vector<Candidate> candidates() {
#if defined(DASK_ANNOY_HAVE_X86)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vpopcntdq");
  return {{&kernels_avx512vnni, vnni}, {&kernels_avx512, avx512}, {&kernels_avx2, avx2}, {&kernels_baseline, true}};
#elif defined(DASK_ANNOY_HAVE_NEON)
  return {{&kernels_neon, true}, {&kernels_baseline, true}};
#else
  return {{&kernels_baseline, true}};
#endif
}

std::string names(bool only_runnable) {
  std::string text;
  for (const Candidate& c : candidates()) {
    if (only_runnable && !c.runs_here) continue;
    text += (text.empty() ? "" : ", ") + std::string(c.table->name);
  }
  return text;
}

const Kernels& find(const std::string& name, const std::string& asked_by) {
  for (const Candidate& c : candidates()) {
    if (name != c.table->name) continue;
    if (c.runs_here) return *c.table;
    throw std::invalid_argument(asked_by + " asks for the kernels '" + name +
                                "', which this CPU cannot run; it can run: " + names(true));
  }
  throw std::invalid_argument(asked_by + " asks for the kernels '" + name +
                              "', which are unknown; known: " + names(false));
}

const Kernels& default_kernels() {
  const char* forced = std::getenv(kVariable);
  if (forced != nullptr && *forced != '\0') {
    return find(forced, std::string("the environment variable ") + kVariable);
  }
  for (const Candidate& c : candidates()) {
    if (c.runs_here) return *c.table;
  }
  return kernels_baseline;
}

std::atomic<const Kernels*> active{nullptr};

}  // namespace

const Kernels& kernels() {
  const Kernels* table = active.load(std::memory_order_acquire);
  if (table == nullptr) {
    table = &default_kernels();
    active.store(table, std::memory_order_release);
  }
  return *table;
}

std::vector<std::string> available_kernels() {
  std::vector<std::string> found;
  for (const Candidate& c : candidates()) {
    if (c.runs_here) found.emplace_back(c.table->name);
  }
  return found;
}

const Kernels& kernels_named(const std::string& name) { return find(name, "the caller"); }

void use_kernels(const std::string& name) {
  active.store(name.empty() ? &default_kernels() : &find(name, "the caller"), std::memory_order_release);
}

}  // namespace dask_annoy

#include <doctest/doctest.h>

#include <set>
#include <vector>

#include "core/digest.hpp"
#include "core/random.hpp"

using namespace dask_annoy;

namespace {

using Digest = std::pair<std::uint64_t, std::uint64_t>;

Digest sum(const Digest& a, const Digest& b) {
  const std::uint64_t low = a.second + b.second;
  return {a.first + b.first + (low < a.second ? 1 : 0), low};
}

std::vector<char> random_bytes(std::size_t n, std::uint64_t seed) {
  Random random(seed);
  std::vector<char> bytes(n);
  for (char& byte : bytes) byte = static_cast<char>(random.next());
  return bytes;
}

}  // namespace

TEST_SUITE_BEGIN("digest");

TEST_CASE("the digest does not depend on how rows are cut into blocks, nor on their order of arrival") {
  constexpr std::size_t kRows = 40;
  for (const std::size_t width : {1, 7, 8, 9, 64, 100}) {
    const std::vector<char> rows = random_bytes(kRows * width, width);
    const Digest whole = digest_rows(rows.data(), width, width, kRows, 5);
    for (std::size_t cut = 0; cut <= kRows; ++cut) {
      const Digest front = digest_rows(rows.data(), width, width, cut, 5);
      const Digest back = digest_rows(rows.data() + cut * width, width, width, kRows - cut, 5 + cut);
      CHECK(sum(front, back) == whole);
      CHECK(sum(back, front) == whole);
    }
  }
}

TEST_CASE("bytes between rows do not count") {
  std::vector<char> rows = random_bytes(10 * 16, 1);
  const Digest before = digest_rows(rows.data(), 16, 13, 10, 0);
  for (std::size_t r = 0; r < 10; ++r) rows[r * 16 + 14] = static_cast<char>(~rows[r * 16 + 14]);
  CHECK(digest_rows(rows.data(), 16, 13, 10, 0) == before);
}

TEST_CASE("any changed bit, moved row or other width changes the digest") {
  std::set<Digest> seen;
  std::vector<char> rows = random_bytes(6 * 10, 2);
  const auto digest = [&] { return digest_rows(rows.data(), 10, 10, 6, 0); };
  seen.insert(digest());
  for (std::size_t bit = 0; bit < 8 * rows.size(); ++bit) {
    rows[bit / 8] = static_cast<char>(rows[bit / 8] ^ (1 << bit % 8));
    CHECK(seen.insert(digest()).second);
    rows[bit / 8] = static_cast<char>(rows[bit / 8] ^ (1 << bit % 8));
  }
  CHECK(seen.insert(digest_rows(rows.data(), 10, 10, 6, 1)).second);
  CHECK(seen.insert(digest_rows(rows.data(), 20, 20, 3, 0)).second);
  for (std::size_t i = 0; i < 10; ++i) std::swap(rows[i], rows[10 + i]);
  CHECK(seen.insert(digest()).second);
}

TEST_CASE("no rows have the digest zero") { CHECK(digest_rows(nullptr, 8, 8, 0, 0) == Digest{0, 0}); }

TEST_SUITE_END();

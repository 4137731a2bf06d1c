// The kernels against plain loops in the order of lanes that kernels.hpp promises.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/random.hpp"
#include "kernels/kernels.hpp"

using namespace dask_annoy;

namespace {

constexpr std::size_t kLanes = 32;
constexpr std::size_t kWidest = 300;

template <class Term>
float in_lanes(std::size_t width, Term&& term) {
  float lanes[kLanes] = {};
  for (std::size_t i = 0; i < width; ++i) lanes[i % kLanes] += term(i);
  for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

// Values of very different sizes, so that another order of additions shows in the last bits.
std::vector<float> uneven(std::size_t n, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> values(n);
  for (float& value : values) {
    const float mantissa = static_cast<float>(random.below(1u << 24)) / 16777216.0f - 0.5f;
    value = std::ldexp(mantissa, static_cast<int>(random.below(12)));
  }
  return values;
}

bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

// Rows of `stride` bytes among others, not aligned to a register.
struct Rows {
  std::vector<float> values;
  std::vector<std::int32_t> ids = {9, 0, 3, 3, 7, 1, 8, 2, 6, 4};
  std::size_t stride;

  Rows(std::size_t width, std::uint64_t seed) : values(uneven(10 * (width + 3) + 1, seed)), stride(4 * (width + 3)) {}

  const float* row(std::size_t r) const { return values.data() + 1 + r * stride / 4; }
  RowSet chosen() const { return {reinterpret_cast<const char*>(row(0)), stride, ids.data(), ids.size()}; }
  RowSet in_sequence() const { return {reinterpret_cast<const char*>(row(0)), stride, nullptr, ids.size()}; }
};

}  // namespace

TEST_SUITE_BEGIN("kernels");

TEST_CASE("every table adds in the fixed order of lanes, bit for bit, whatever the width and the alignment") {
  const std::vector<float> a = uneven(kWidest + 4, 1);
  const std::vector<float> b = uneven(kWidest + 4, 2);
  for (const std::string& name : available_kernels()) {
    CAPTURE(name);
    const Kernels& k = kernels_named(name);
    for (std::size_t width = 1; width <= kWidest; ++width) {
      const float* x = a.data() + width % 4;
      const float* y = b.data() + (width / 4) % 4;
      const bool same =
          same_bits(k.dot(x, y, width), in_lanes(width, [&](std::size_t i) { return x[i] * y[i]; })) &&
          same_bits(k.squared_l2(x, y, width),
                    in_lanes(width, [&](std::size_t i) { return (x[i] - y[i]) * (x[i] - y[i]); })) &&
          same_bits(k.l1(x, y, width), in_lanes(width, [&](std::size_t i) { return std::fabs(x[i] - y[i]); }));
      CHECK_MESSAGE(same, "width ", width);
    }
  }
}

TEST_CASE("every table scores rows as it scores pairs, in any order of rows") {
  for (const std::string& name : available_kernels()) {
    CAPTURE(name);
    const Kernels& k = kernels_named(name);
    for (std::size_t width = 1; width <= kWidest; ++width) {
      const std::vector<float> query = uneven(width, 3);
      const Rows rows(width, 4);
      float out[10];
      const auto agrees = [&](auto score_rows, auto score_pair) {
        bool same = true;
        score_rows(query.data(), rows.chosen(), width, out);
        for (std::size_t r = 0; r < 10; ++r) {
          same &= same_bits(out[r], score_pair(query.data(), rows.row(static_cast<std::size_t>(rows.ids[r])), width));
        }
        score_rows(query.data(), rows.in_sequence(), width, out);
        for (std::size_t r = 0; r < 10; ++r) same &= same_bits(out[r], score_pair(query.data(), rows.row(r), width));
        return same;
      };
      CHECK_MESSAGE(agrees(k.dot_rows, k.dot), "width ", width);
      CHECK_MESSAGE(agrees(k.squared_l2_rows, k.squared_l2), "width ", width);
      CHECK_MESSAGE(agrees(k.l1_rows, k.l1), "width ", width);
    }
  }
}

TEST_CASE("every table scores tiles as it scores pairs, for any number of queries and rows") {
  for (const std::size_t width : {32, 64, 96, 256}) {
    for (const std::size_t n_rows : {kRowsOfTile, 3 * kRowsOfTile}) {
      const std::vector<float> rows = uneven(n_rows * width, 4);
      for (std::size_t n_queries = 1; n_queries <= 11; ++n_queries) {
        const std::vector<float> values = uneven(n_queries * width, 3);
        std::vector<const float*> queries;
        for (std::size_t q = 0; q < n_queries; ++q) queries.push_back(values.data() + q * width);
        const std::size_t stride = n_rows + 5;
        for (const std::string& name : available_kernels()) {
          CAPTURE(name);
          const Kernels& k = kernels_named(name);
          const auto agrees = [&](ScoreTile score, auto score_pair) {
            std::vector<float> out(n_queries * stride, -1.0f);
            score(queries.data(), n_queries, rows.data(), n_rows, width, out.data(), stride);
            bool same = true;
            for (std::size_t q = 0; q < n_queries; ++q) {
              for (std::size_t r = 0; r < n_rows; ++r) {
                same &= same_bits(out[q * stride + r], score_pair(queries[q], rows.data() + r * width, width));
              }
              for (std::size_t r = n_rows; r < stride; ++r) same &= out[q * stride + r] == -1.0f;
            }
            return same;
          };
          CHECK(agrees(k.dot_tile, k.dot));
          CHECK(agrees(k.squared_l2_tile, k.squared_l2));
          CHECK(agrees(k.l1_tile, k.l1));
        }
      }
    }
  }
}

TEST_CASE("padding with zeros changes no bit, not even the sign of zero") {
  for (const std::string& name : available_kernels()) {
    CAPTURE(name);
    const Kernels& k = kernels_named(name);
    for (std::size_t width = 1; width <= 70; ++width) {
      const std::size_t padded = (width + 31) / 32 * 32;
      std::vector<float> query = uneven(width, 3), row(kRowsOfTile * padded);
      if (width % 3 == 0) std::fill(query.begin(), query.end(), -0.0f);
      const std::vector<float> values = uneven(width, 4);
      std::copy(values.begin(), values.end(), row.begin());
      const float plain[] = {k.dot(query.data(), values.data(), width),
                             k.squared_l2(query.data(), values.data(), width),
                             k.l1(query.data(), values.data(), width)};
      query.resize(padded);
      const float* queries[] = {query.data()};
      const ScoreTile tiles[] = {k.dot_tile, k.squared_l2_tile, k.l1_tile};
      for (std::size_t t = 0; t < 3; ++t) {
        float out[kRowsOfTile];
        tiles[t](queries, 1, row.data(), kRowsOfTile, padded, out, kRowsOfTile);
        CHECK(same_bits(out[0], plain[t]));
      }
    }
  }
}

TEST_CASE("every table finds what is not above a limit, and what is no number") {
  Random random(13);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  const float some[] = {0.0f, -0.0f, 1.0f, -1.0f, 3.5f, kInfinity, -kInfinity, kNaN};
  for (const std::size_t n : {16, 48}) {
    for (int round = 0; round < 50; ++round) {
      std::vector<float> values(n), scales(n);
      for (float& value : values) value = some[random.below(8)];
      for (float& scale : scales) scale = some[random.below(8)];
      for (const float limit : some) {
        std::vector<std::uint32_t> expected;
        for (std::uint32_t i = 0; i < n; ++i) {
          if (!(values[i] * scales[i] > limit)) expected.push_back(i);
        }
        for (const std::string& name : available_kernels()) {
          CAPTURE(name);
          std::vector<std::uint32_t> found(n + 1);
          found.resize(kernels_named(name).find_not_above(values.data(), scales.data(), n, limit, found.data()));
          CHECK(found == expected);
        }
      }
    }
  }
}

TEST_CASE("every table counts differing bits") {
  Random random(5);
  for (const std::string& name : available_kernels()) {
    CAPTURE(name);
    const Kernels& k = kernels_named(name);
    for (std::size_t words = 1; words <= 20; ++words) {
      std::vector<std::uint64_t> a(words);
      std::vector<std::uint64_t> rows(3 * words);
      for (auto& word : a) word = random.next();
      for (auto& word : rows) word = random.next();
      float out[3];
      k.hamming_rows(a.data(), RowSet{reinterpret_cast<const char*>(rows.data()), 8 * words, nullptr, 3}, words, out);
      for (std::size_t r = 0; r < 3; ++r) {
        std::uint32_t expected = 0;
        for (std::size_t bit = 0; bit < 64 * words; ++bit) {
          expected += (a[bit / 64] ^ rows[r * words + bit / 64]) >> (bit % 64) & 1;
        }
        CHECK(k.hamming(a.data(), rows.data() + r * words, words) == expected);
        CHECK(out[r] == static_cast<float>(expected));
      }
    }
  }
}

TEST_CASE("every table counts how often each bit is one") {
  Random random(6);
  for (const std::size_t words : {1, 4, 5}) {
    std::vector<std::uint64_t> bits(3 * words);
    for (auto& word : bits) word = random.next();
    std::vector<std::int32_t> expected(64 * words, 5);
    for (std::size_t i = 0; i < 64 * bits.size(); ++i) {
      expected[i % (64 * words)] += static_cast<std::int32_t>(bits[i / 64] >> (i % 64) & 1);
    }
    for (const std::string& name : available_kernels()) {
      CAPTURE(name);
      std::vector<std::int32_t> counts(64 * words, 5);
      for (std::size_t r = 0; r < 3; ++r) {
        kernels_named(name).count_ones(bits.data() + r * words, words, counts.data());
      }
      CHECK(counts == expected);
    }
  }
}

TEST_CASE("every table moves a centroid to the same bits") {
  for (const std::string& name : available_kernels()) {
    CAPTURE(name);
    for (std::size_t width = 1; width <= kWidest; ++width) {
      std::vector<float> centroid = uneven(width, 6);
      std::vector<float> expected = centroid;
      const std::vector<float> x = uneven(width, 7);
      for (std::size_t i = 0; i < width; ++i) expected[i] = expected[i] * 0.75f + x[i] * 0.7f;
      kernels_named(name).move_centroid(centroid.data(), 0.75f, x.data(), 0.7f, width);
      CHECK_MESSAGE(std::memcmp(centroid.data(), expected.data(), 4 * width) == 0, "width ", width);
    }
  }
}

TEST_CASE("a table that is unknown is refused by name and the one in use stays") {
  const std::string before = kernels().name;
  CHECK_THROWS_AS(use_kernels("abacus"), std::invalid_argument);
  CHECK(kernels().name == before);
  CHECK(available_kernels().back() == "baseline");
}

TEST_CASE("every table sums codes as plain loops do, and finds what is below a limit") {
  Random random(11);
  const auto byte = [&] { return static_cast<std::uint8_t>(random.below(256)); };
  for (const std::size_t groups : {1, 2, 7, 31, 64}) {
    for (const std::size_t n_blocks : {1, 2, 5}) {
      const std::size_t n_items = n_blocks * kItemsOfBlock;
      std::vector<std::uint8_t> blocks(n_items * groups * 4);
      for (std::uint8_t& code : blocks) code = random.below(8) == 0 ? 255 : byte();
      const auto code_of = [&](std::size_t item, std::size_t i) {
        const std::size_t block = item / kItemsOfBlock * groups * 4 * kItemsOfBlock;
        return blocks[block + i / 4 * 4 * kItemsOfBlock + item % kItemsOfBlock * 4 + i % 4];
      };
      const auto nibble_of = [&](std::size_t item, std::size_t i) {
        const int both = code_of(item, i / 8 * 4 + i % 4);
        return i % 8 < 4 ? both & 15 : both >> 4;
      };
      for (const std::size_t n_queries : {1, 3, 8, 13}) {
        std::vector<std::vector<std::uint8_t>> codes(n_queries, std::vector<std::uint8_t>(groups * 4));
        std::vector<std::vector<std::uint8_t>> weights = codes;
        std::vector<std::vector<std::uint8_t>> nibbles(n_queries, std::vector<std::uint8_t>(groups * 8));
        std::vector<std::vector<std::uint8_t>> nibble_weights = nibbles;
        std::vector<const std::uint8_t*> code_rows, weight_rows, nibble_rows, nibble_weight_rows;
        for (std::size_t q = 0; q < n_queries; ++q) {
          for (std::uint8_t& code : codes[q]) code = byte();
          for (std::uint8_t& weight : weights[q]) {
            const auto any = static_cast<int>(random.below(127)) - 63;
            weight = static_cast<std::uint8_t>(static_cast<std::int8_t>(random.below(4) == 0 ? -63 : any));
          }
          code_rows.push_back(codes[q].data());
          weight_rows.push_back(weights[q].data());
          for (std::uint8_t& nibble : nibbles[q]) nibble = static_cast<std::uint8_t>(random.below(16));
          for (std::uint8_t& weight : nibble_weights[q]) {
            const auto any = static_cast<int>(random.below(255)) - 127;
            weight = static_cast<std::uint8_t>(static_cast<std::int8_t>(random.below(4) == 0 ? -127 : any));
          }
          nibble_rows.push_back(nibbles[q].data());
          nibble_weight_rows.push_back(nibble_weights[q].data());
        }
        for (const std::string& name : available_kernels()) {
          CAPTURE(name);
          const Kernels& k = kernels_named(name);
          std::vector<std::int32_t> sums(n_queries * n_items);
          const auto agree = [&](SumCodes sum, const std::vector<const std::uint8_t*>& rows, std::size_t n_dimensions,
                                 auto value_of, auto term) {
            sum(rows.data(), n_queries, blocks.data(), n_blocks, groups, sums.data());
            for (std::size_t q = 0; q < n_queries; ++q) {
              for (std::size_t item = 0; item < n_items; ++item) {
                std::int32_t expected = 0;
                for (std::size_t i = 0; i < n_dimensions; ++i) expected += term(value_of(item, i), rows[q][i]);
                if (sums[q * n_items + item] != expected) return false;
              }
            }
            return true;
          };
          const auto agrees = [&](SumCodes sum, const std::vector<const std::uint8_t*>& rows, auto term) {
            return agree(sum, rows, groups * 4, code_of, term);
          };
          const auto nibbles_agree = [&](SumCodes sum, const std::vector<const std::uint8_t*>& rows, auto term) {
            return agree(sum, rows, groups * 8, nibble_of, term);
          };
          CHECK(nibbles_agree(k.nibble_products, nibble_weight_rows,
                              [](int code, std::uint8_t weight) { return code * static_cast<std::int8_t>(weight); }));
          CHECK(nibbles_agree(k.nibble_differences, nibble_rows,
                              [](int code, int other) { return std::abs(code - other); }));
          CHECK(agrees(k.code_products, weight_rows,
                       [](int code, std::uint8_t weight) { return code * static_cast<std::int8_t>(weight); }));
          CHECK(agrees(k.code_differences, code_rows, [](int code, int other) { return std::abs(code - other); }));
          CHECK(agrees(k.differing_bits, code_rows,
                       [](int code, int other) { return __builtin_popcount(static_cast<unsigned>(code ^ other)); }));
          std::vector<float> biases(n_items);
          for (float& bias : biases) bias = static_cast<float>(random.below(1000)) - 500.0f;
          biases.back() = std::numeric_limits<float>::infinity();
          std::vector<std::uint32_t> found(n_items + 1), expected;
          for (const float limit : {-1e30f, -1000.0f, 0.0f, 1000.0f, std::numeric_limits<float>::infinity()}) {
            expected.clear();
            for (std::uint32_t i = 0; i < n_items; ++i) {
              if (biases[i] + 0.25f * static_cast<float>(sums[i]) < limit) expected.push_back(i);
            }
            const std::size_t n = k.find_below(sums.data(), biases.data(), n_items, 0.25f, limit, found.data());
            CHECK(std::vector<std::uint32_t>(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(n)) ==
                  expected);
            CHECK(k.count_below(sums.data(), biases.data(), n_items, 0.25f, limit) == expected.size());
          }
          const auto score = [&](std::size_t i) { return biases[i] + 0.25f * static_cast<float>(sums[i]); };
          std::size_t least = 0;
          for (std::size_t i = 1; i < n_items; ++i) least = score(i) < score(least) ? i : least;
          CHECK(k.find_least(sums.data(), biases.data(), n_items, 0.25f) == least);
        }
      }
    }
  }
}

TEST_CASE("of equal scores the first is the least, even if all are infinite") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const std::string& name : available_kernels()) {
    CAPTURE(name);
    const Kernels& k = kernels_named(name);
    for (const float value : {0.0f, -3.0f, infinity}) {
      std::vector<float> biases(48, infinity);
      const std::vector<std::int32_t> sums(48, 1);
      for (const std::size_t first : {0, 5, 17, 40}) {
        std::fill(biases.begin(), biases.end(), infinity);
        for (std::size_t i = first; i < biases.size(); i += 7) biases[i] = value;
        CHECK(k.find_least(sums.data(), biases.data(), 48, 2.0f) == (value == infinity ? 0 : first));
      }
    }
    CHECK(k.find_least(nullptr, nullptr, 0, 1.0f) == 0);
    CHECK(k.count_below(nullptr, nullptr, 0, 1.0f, infinity) == 0);
  }
}

TEST_CASE("every table sorts a few numbers") {
  Random random(17);
  for (std::size_t n = 0; n <= kSortedAtMost; ++n) {
    std::vector<std::uint64_t> numbers(n);
    for (std::uint64_t& number : numbers) number = random.next() >> random.below(3) << 8 | (&number - numbers.data());
    if (n > 2) numbers[n / 2] = 0, numbers[n / 3] = std::numeric_limits<std::uint64_t>::max();
    std::vector<std::uint64_t> expected = numbers;
    std::sort(expected.begin(), expected.end());
    for (const std::string& name : available_kernels()) {
      CAPTURE(name);
      std::vector<std::uint64_t> sorted(n);
      kernels_named(name).sort_few(numbers.data(), n, sorted.data());
      CHECK(sorted == expected);
    }
  }
}

TEST_CASE("every table makes codes of vectors as plain loops do, whatever the width and the size of values") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (std::size_t width = 1; width <= kWidest; width += width < 70 ? 1 : 23) {
    std::vector<float> vector = uneven(width, 8), low = uneven(width, 9), steps = uneven(width, 10);
    for (float& step : steps) step = std::fabs(step) / 16.0f;
    if (width > 3) {
      vector[width - 1] = 1e38f;
      vector[1] = -1e38f;
      steps[2] = kInfinity;
    }
    const float scale = 0.37f;
    for (const float highest : {15.0f, 255.0f}) {
      std::vector<std::uint8_t> expected(width);
      for (std::size_t d = 0; d < width; ++d) {
        const float code = (vector[d] * scale - low[d]) / steps[d];
        expected[d] = static_cast<std::uint8_t>(code < highest ? code > 0.0f ? code + 0.5f : 0.0f : highest);
      }
      const float squares = in_lanes(width, [&](std::size_t d) {
        const float x = (static_cast<float>(expected[d]) - highest / 2.0f) * low[d];
        return x * x;
      });
      for (const std::string& name : available_kernels()) {
        CAPTURE(name);
        const Kernels& k = kernels_named(name);
        std::vector<std::uint8_t> codes(width);
        k.nearest_codes(vector.data(), scale, low.data(), steps.data(), highest, width, codes.data());
        CHECK_MESSAGE(codes == expected, "width ", width);
        CHECK(same_bits(k.coded_squares(codes.data(), low.data(), highest / 2.0f, width), squares));
      }
    }
    vector = uneven(width, 8);
    steps = uneven(width, 11);
    for (const float most : {63.0f, 127.0f}) {
      const auto weight = [&](std::size_t d) { return (vector[d] * scale - low[d]) * steps[d]; };
      float largest = 0.0f;
      for (std::size_t d = 0; d < width; ++d) largest = std::max(largest, std::fabs(weight(d)));
      for (const float factor : {largest / most, largest / most / 3.0f, 0.5f}) {
        std::vector<std::int8_t> expected(width);
        for (std::size_t d = 0; d < width; ++d) {
          expected[d] = static_cast<std::int8_t>(std::clamp(std::nearbyint(weight(d) / factor), -most, most));
        }
        for (const std::string& name : available_kernels()) {
          CAPTURE(name);
          const Kernels& k = kernels_named(name);
          CHECK(same_bits(k.largest_weight(vector.data(), scale, low.data(), steps.data(), width), largest));
          std::vector<std::int8_t> rounded(width);
          k.round_weights(vector.data(), scale, low.data(), steps.data(), factor, most, width, rounded.data());
          CHECK_MESSAGE(rounded == expected, "width ", width);
        }
      }
    }
  }
}

TEST_CASE("halves are rounded to even, and every table adds up in double precision") {
  const std::vector<float> halves = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 62.5f, 126.5f, -126.5f};
  const std::vector<std::int8_t> expected = {0, 2, 2, 0, -2, -2, 62, 126, -126};
  const std::vector<float> zeros(halves.size()), ones(halves.size(), 1.0f);
  for (const std::string& name : available_kernels()) {
    CAPTURE(name);
    const Kernels& k = kernels_named(name);
    std::vector<std::int8_t> rounded(halves.size());
    k.round_weights(halves.data(), 1.0f, zeros.data(), ones.data(), 1.0f, 127.0f, halves.size(), rounded.data());
    CHECK(rounded == expected);
    for (std::size_t width = 1; width <= kWidest; width += 7) {
      const std::vector<float> x = uneven(width, 12);
      std::vector<double> sums(width, 1e-9), added = sums;
      for (std::size_t i = 0; i < width; ++i) added[i] += static_cast<double>(x[i] * 0.3f);
      k.add_scaled(x.data(), 0.3f, width, sums.data());
      CHECK(sums == added);
    }
  }
}

TEST_SUITE_END();

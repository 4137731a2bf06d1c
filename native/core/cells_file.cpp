#include "core/cells_file.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <limits>
#include <utility>

#include "core/digest.hpp"
#include "core/errors.hpp"
#include "core/mapping.hpp"

namespace dask_annoy {

namespace {

constexpr std::array<char, 8> kMagic = {'a', 'n', 'n', 'c', 'e', 'l', 'l', 's'};
constexpr std::uint32_t kVersion = 2;
constexpr std::size_t kAligned = 64;
constexpr std::size_t kDigestBytes = 16;
constexpr std::size_t kDigestRow = 4096;
constexpr std::size_t kItemsInDigest = 1024;

using Digest = std::pair<std::uint64_t, std::uint64_t>;

struct Head {
  std::array<char, 8> magic = kMagic;
  std::uint32_t version = kVersion;
  std::uint32_t metric = 0;
  std::uint64_t width = 0;
  std::uint64_t n_nodes = 0;    // of the forest
  std::uint64_t n_numbers = 0;  // its n_items, holes included
  std::uint64_t forest_digest[2] = {0, 0};
  std::uint64_t n_items = 0;
  std::uint64_t n_cells = 0;
  std::uint64_t n_groups = 0;
  std::uint64_t n_blocks = 0;   // of codes of items
  std::uint32_t code_bits = 0;  // of an item's code: 8, 4, or 0 without codes
  std::uint32_t in_order = 0;   // 1 where items are numbered by place
  std::uint64_t padding[4] = {0, 0, 0, 0};
};
static_assert(sizeof(Head) == 128, "the file has no gaps");

// Tells forests apart by some of their items; it cannot tell ones that differ in others.
Digest digest_of(const Forest& forest) {
  const auto n = static_cast<std::size_t>(forest.n_items);
  const std::size_t step = std::max<std::size_t>(1, n / kItemsInDigest);
  return digest_rows(forest.nodes.get(), step * forest.layout.node_size, forest.layout.node_size,
                     n == 0 ? 0 : (n - 1) / step + 1, n);
}

Head head_of(const Forest& forest) {
  Head head;
  head.metric = static_cast<std::uint32_t>(forest.layout.metric);
  head.width = forest.layout.width;
  head.n_nodes = forest.n_nodes;
  head.n_numbers = static_cast<std::uint64_t>(forest.n_items);
  const Digest digest = digest_of(forest);
  head.forest_digest[0] = digest.first;
  head.forest_digest[1] = digest.second;
  return head;
}

bool same_forest(const Head& a, const Head& b) {
  return a.metric == b.metric && a.width == b.width && a.n_nodes == b.n_nodes && a.n_numbers == b.n_numbers &&
         a.forest_digest[0] == b.forest_digest[0] && a.forest_digest[1] == b.forest_digest[1];
}

std::size_t aligned(std::size_t bytes) { return (bytes + kAligned - 1) / kAligned * kAligned; }

std::size_t blocks_for(std::size_t n) { return (n + kItemsOfBlock - 1) / kItemsOfBlock; }

// Without codes the coder is that of the means.
int bits_of_items(const Head& head) { return head.code_bits == 4 ? 4 : 8; }

// The sections in the order of the file, each from a multiple of kAligned.
struct Sections {
  std::size_t low, step, item_low, item_step, starts, items, group_starts, means, mean_biases, groups, group_biases,
      codes, biases;

  Sections(const Head& head, const Layout& layout) {
    const std::size_t block = kItemsOfBlock * Coder::bytes_of(layout);
    const std::size_t item_block = kItemsOfBlock * Coder::bytes_of(layout, bits_of_items(head));
    low = step = is_binary(layout.metric) ? 0 : head.width * sizeof(float);
    item_low = item_step = bits_of_items(head) == 8 ? 0 : low;
    starts = (head.n_cells + 1) * sizeof(std::uint32_t);
    items = head.in_order != 0 ? 0 : head.n_items * sizeof(std::int32_t);
    group_starts = (head.n_groups + 1) * sizeof(std::uint32_t);
    means = blocks_for(head.n_cells) * block;
    mean_biases = head.n_cells * sizeof(float);
    groups = blocks_for(head.n_groups) * block;
    group_biases = head.n_groups * sizeof(float);
    codes = head.n_blocks * item_block;
    biases = head.n_blocks * kItemsOfBlock * sizeof(float);
  }

  std::size_t file_bytes() const {
    std::size_t bytes = sizeof(Head);
    for (const std::size_t section : {low, step, item_low, item_step, starts, items, group_starts, means, mean_biases,
                                      groups, group_biases, codes, biases}) {
      bytes += aligned(section);
    }
    return bytes + kDigestBytes;
  }
};

Head head_of(const Forest& forest, const Cells& cells) {
  Head head = head_of(forest);
  head.n_items = cells.n_items();
  head.n_cells = cells.n_cells();
  head.n_groups = cells.n_groups();
  head.n_blocks = cells.has_codes ? cells.codes.n_blocks() : 0;
  head.in_order = cells.items.empty() ? 1 : 0;
  head.code_bits = cells.has_codes ? static_cast<std::uint32_t>(cells.item_coder.bits()) : 0;
  return head;
}

// Adds the bytes up to a digest in rows, however they are cut.
class RunningDigest {
 public:
  void add(const char* bytes, std::size_t n) {
    while (n > 0) {
      const std::size_t taken = std::min(n, kDigestRow - held_);
      std::memcpy(row_.data() + held_, bytes, taken);
      held_ += taken;
      bytes += taken;
      n -= taken;
      if (held_ == kDigestRow) flush();
    }
  }

  Digest value() {
    if (held_ > 0) flush();
    return sum_;
  }

 private:
  void flush() {
    const Digest row = digest_rows(row_.data(), held_, held_, 1, n_rows_++);
    sum_.second += row.second;
    sum_.first += row.first + (sum_.second < row.second ? 1 : 0);
    held_ = 0;
  }

  std::array<char, kDigestRow> row_{};
  std::size_t held_ = 0;
  std::uint64_t n_rows_ = 0;
  Digest sum_{0, 0};
};

Digest digest_of(const char* bytes, std::size_t n) {
  Digest sum = digest_rows(bytes, kDigestRow, kDigestRow, n / kDigestRow, 0);
  if (const std::size_t rest = n % kDigestRow; rest > 0) {
    const Digest row = digest_rows(bytes + n - rest, rest, rest, 1, n / kDigestRow);
    sum.second += row.second;
    sum.first += row.first + (sum.second < row.second ? 1 : 0);
  }
  return sum;
}

class Parser {
 public:
  Parser(std::shared_ptr<const char> bytes, std::size_t size, const Forest& forest, const std::string& where)
      : bytes_(std::move(bytes)), size_(size), forest_(forest), where_(where) {}

  std::shared_ptr<const Cells> parse() {
    const Head head = read_head();
    const Sections sections(head, forest_.layout);
    if (sections.file_bytes() != size_) {
      refuse("it has " + std::to_string(size_) + " bytes where its head asks for " +
             std::to_string(sections.file_bytes()) + " (cut?)");
    }
    check_digest();
    std::vector<float> low = take<float>(sections.low);
    std::vector<float> step = take<float>(sections.step);
    const Coder coder(forest_.layout, std::move(low), std::move(step));
    std::vector<float> item_low = take<float>(sections.item_low);
    std::vector<float> item_step = take<float>(sections.item_step);
    auto cells = std::make_shared<Cells>(
        coder, bits_of_items(head) == 8
                   ? coder
                   : Coder(forest_.layout, std::move(item_low), std::move(item_step), bits_of_items(head)));
    cells->starts = take<std::uint32_t>(sections.starts);
    cells->items = take<std::int32_t>(sections.items);
    cells->group_starts = take<std::uint32_t>(sections.group_starts);
    view(cells->means, sections.means);
    cells->mean_biases = take_biases(sections.mean_biases, cells->means.n_blocks());
    view(cells->groups, sections.groups);
    cells->group_biases = take_biases(sections.group_biases, cells->groups.n_blocks());
    check_starts(cells->starts, head.n_items, "cells");
    check_starts(cells->group_starts, head.n_cells, "groups");
    check_items(*cells);
    cells->has_codes = head.code_bits != 0;
    if (cells->has_codes) {
      cells->place_blocks();
      if (cells->block_starts.back() != head.n_blocks) refuse("its blocks of codes do not fit its cells");
      view(cells->codes, sections.codes);
      cells->biases = take_biases(sections.biases, head.n_blocks);
      fill_up(*cells);
    }
    return cells;
  }

 private:
  [[noreturn]] void refuse(const std::string& reason) const {
    throw CorruptFile(where_, reason + "; delete it, and the cells are made anew", "a file of this forest's cells");
  }

  Head read_head() const {
    Head head;
    if (size_ < sizeof(Head) + kDigestBytes) refuse("it is too short");
    std::memcpy(&head, bytes_.get(), sizeof head);
    if (head.magic != kMagic) refuse("it does not begin as such a file");
    if (head.version != kVersion) {
      refuse("it has version " + std::to_string(head.version) + " of the format, and this release reads " +
             std::to_string(kVersion));
    }
    if (!same_forest(head, head_of(forest_))) refuse("it belongs to another forest");
    // Before anything is computed from them.
    if (head.n_items > head.n_numbers || head.n_cells > head.n_items || head.n_groups > head.n_cells ||
        head.n_blocks > head.n_items || head.in_order > 1 ||
        (head.code_bits != 0 && head.code_bits != 4 && head.code_bits != 8) ||
        (head.code_bits == 4 && is_binary(forest_.layout.metric))) {
      refuse("the counts in its head do not fit together");
    }
    return head;
  }

  void check_digest() const {
    const Digest digest = digest_of(bytes_.get(), size_ - kDigestBytes);
    std::uint64_t told[2];
    std::memcpy(told, bytes_.get() + size_ - kDigestBytes, sizeof told);
    if (told[0] != digest.first || told[1] != digest.second) refuse("its checksum is wrong (damaged)");
  }

  template <class T>
  std::vector<T> take(std::size_t bytes) {
    std::vector<T> values(bytes / sizeof(T));
    if (bytes > 0) std::memcpy(values.data(), bytes_.get() + at_, bytes);
    at_ += aligned(bytes);
    return values;
  }

  std::vector<float> take_biases(std::size_t bytes, std::size_t n_blocks) {
    std::vector<float> biases = take<float>(bytes);
    biases.resize(n_blocks * kItemsOfBlock, std::numeric_limits<float>::infinity());
    return biases;
  }

  void view(CodeBlocks& blocks, std::size_t bytes) {
    const auto* codes = reinterpret_cast<const std::uint8_t*>(bytes_.get() + at_);
    blocks.view({bytes_, codes}, bytes / blocks.bytes_of_block());
    at_ += aligned(bytes);
  }

  void check_starts(const std::vector<std::uint32_t>& starts, std::uint64_t total, const char* what) const {
    bool sound = starts.front() == 0 && starts.back() == total;
    for (std::size_t i = 1; i < starts.size() && sound; ++i) sound = starts[i - 1] < starts[i];
    if (!sound) refuse(std::string("where its ") + what + " start is not in order");
  }

  // Each item that is there, once.
  void check_items(const Cells& cells) const {
    std::vector<bool> seen(static_cast<std::size_t>(forest_.n_items));
    for (std::size_t place = 0; place < cells.n_items(); ++place) {
      const std::int32_t item = cells.item_at(place);
      if (item < 0 || item >= forest_.n_items) refuse("item " + std::to_string(item) + " is out of range");
      if (forest_.node(item).n_descendants() != 1) refuse("item " + std::to_string(item) + " is a hole");
      if (seen[static_cast<std::size_t>(item)]) refuse("item " + std::to_string(item) + " is in it twice");
      seen[static_cast<std::size_t>(item)] = true;
    }
    for (std::int32_t item = 0; item < forest_.n_items; ++item) {
      if (!seen[static_cast<std::size_t>(item)] && forest_.node(item).n_descendants() == 1) {
        refuse("item " + std::to_string(item) + " is in none of its cells");
      }
    }
  }

  // What fills up a cell's last block is never found, whatever the file says.
  static void fill_up(Cells& cells) {
    for (std::size_t cell = 0; cell < cells.n_cells(); ++cell) {
      const std::size_t begin = std::size_t{cells.block_starts[cell]} * kItemsOfBlock + cells.size_of(cell);
      const std::size_t end = std::size_t{cells.block_starts[cell + 1]} * kItemsOfBlock;
      for (std::size_t i = begin; i < end; ++i) cells.biases[i] = std::numeric_limits<float>::infinity();
    }
  }

  std::shared_ptr<const char> bytes_;
  std::size_t size_;
  const Forest& forest_;
  const std::string& where_;
  std::size_t at_ = sizeof(Head);
};

}  // namespace

std::size_t cells_file_bytes(const Forest& forest, const Cells& cells) {
  return Sections(head_of(forest, cells), forest.layout).file_bytes();
}

void write_cells(const Forest& forest, const Cells& cells, const std::function<void(const char*, std::size_t)>& put) {
  RunningDigest digest;
  const auto write = [&](const void* bytes, std::size_t n) {
    digest.add(static_cast<const char*>(bytes), n);
    put(static_cast<const char*>(bytes), n);
  };
  const auto section = [&](const void* bytes, std::size_t n) {
    static constexpr std::array<char, kAligned> kZeros{};
    if (n > 0) write(bytes, n);
    if (aligned(n) > n) write(kZeros.data(), aligned(n) - n);
  };
  const Head head = head_of(forest, cells);
  const Sections sections(head, forest.layout);
  write(&head, sizeof head);
  section(cells.coder.low().data(), sections.low);
  section(cells.coder.step().data(), sections.step);
  section(cells.item_coder.low().data(), sections.item_low);
  section(cells.item_coder.step().data(), sections.item_step);
  section(cells.starts.data(), sections.starts);
  section(cells.items.data(), sections.items);
  section(cells.group_starts.data(), sections.group_starts);
  section(cells.means.at(0), sections.means);
  section(cells.mean_biases.data(), sections.mean_biases);
  section(cells.groups.at(0), sections.groups);
  section(cells.group_biases.data(), sections.group_biases);
  section(cells.has_codes ? cells.codes.at(0) : nullptr, sections.codes);
  section(cells.biases.data(), sections.biases);
  const Digest sum = digest.value();
  const std::uint64_t told[2] = {sum.first, sum.second};
  put(reinterpret_cast<const char*>(told), sizeof told);
}

std::shared_ptr<const Cells> parse_cells(std::shared_ptr<const char> bytes, std::size_t size, const Forest& forest,
                                         const std::string& where) {
  return Parser(std::move(bytes), size, forest, where).parse();
}

std::shared_ptr<const Cells> open_cells(const std::string& path, const Forest& forest, bool prefault) {
  const auto mapping = Mapping::of_file(path, prefault);
  auto cells = std::const_pointer_cast<Cells>(  // nobody else has them yet
      parse_cells({mapping, mapping->data()}, mapping->size(), forest, path));
  cells->mapping = mapping;
  return cells;
}

bool has_cells_of(const std::string& path, const Forest& forest) {
  std::ifstream file(path, std::ios::binary);
  Head head;
  if (!file.read(reinterpret_cast<char*>(&head), sizeof head)) return false;
  return head.magic == kMagic && head.version == kVersion && same_forest(head, head_of(forest));
}

}  // namespace dask_annoy

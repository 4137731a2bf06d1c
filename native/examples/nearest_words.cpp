// The core without Python: build an index, save it, load it, ask it.
//
//   nearest_words FILE      writes FILE, which any Annoy 1.17.3 reads as angular with 26 dimensions
#include <cstddef>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "core/index.hpp"

namespace {

const std::vector<std::string> kWords = {"stone", "tones", "onset", "notes", "river",  "drive",
                                         "ocean", "canoe", "night", "thing", "forest", "softer"};
constexpr std::size_t kLetters = 26;

// A word as the numbers of its letters.
std::vector<float> letters_of(const std::string& word) {
  std::vector<float> counts(kLetters, 0.0f);
  for (const char letter : word) counts[static_cast<std::size_t>(letter - 'a')] += 1.0f;
  return counts;
}

void build_and_save(const std::string& path) {
  std::vector<float> vectors;
  for (const std::string& word : kWords) {
    const std::vector<float> letters = letters_of(word);
    vectors.insert(vectors.end(), letters.begin(), letters.end());
  }
  dask_annoy::Index index(dask_annoy::Metric::angular, kLetters);
  index.add_after_last(reinterpret_cast<const char*>(vectors.data()), kLetters * sizeof(float), kWords.size());
  dask_annoy::Cancellation never;
  index.build(10, /*n_jobs=*/-1, never);
  index.save(path, /*prefault=*/false);
}

std::string nearest_to(const dask_annoy::Index& index, const std::string& word) {
  const std::vector<float> query = letters_of(word);
  return kWords[static_cast<std::size_t>(index.nearest(query.data(), 1, -1).at(0).id)];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: " << argv[0] << " FILE\n";
    return 2;
  }
  try {
    build_and_save(argv[1]);
    dask_annoy::Index index(dask_annoy::Metric::angular, kLetters);
    index.load(argv[1], /*prefault=*/false);
    const std::string found = nearest_to(index, "driver");
    std::cout << index.n_items() << " words in " << index.n_trees() << " trees; 'driver' is nearest to '" << found
              << "'\n";
    return found == "drive" || found == "river" ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}

// The C++ interface at work: build an index, save it, open it, ask it.
//
//   nearest_words FILE      writes FILE, which any Annoy 1.17.3 reads as angular with 26 dimensions
#include <dask_annoy/dask_annoy.hpp>

#include <cstddef>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

namespace {

constexpr std::size_t kLetters = 26;
using WordIndex = dask_annoy::ForestIndex<dask_annoy::Metric::angular>;

const std::vector<std::string> kWords = {"stone", "tones", "onset", "notes", "river",  "drive",
                                         "ocean", "canoe", "night", "thing", "forest", "softer"};

// A word as the numbers of its letters.
std::vector<float> letters_of(const std::string& word) {
  std::vector<float> counts(kLetters, 0.0f);
  for (const char letter : word) counts[static_cast<std::size_t>(letter - 'a')] += 1.0f;
  return counts;
}

void build_and_save(const std::string& path) {
  WordIndex index(kLetters);
  for (const std::string& word : kWords) index.append(letters_of(word));
  dask_annoy::BuildArguments settings;
  settings.n_trees = 10;
  index.build(settings);
  index.save(path);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: " << argv[0] << " FILE\n";
    return 2;
  }
  try {
    build_and_save(argv[1]);
    const WordIndex index = WordIndex::open(argv[1], kLetters);
    std::cout << index.n_items() << " words in " << index.n_trees() << " trees; nearest to 'driver':\n";
    const std::vector<dask_annoy::Hit> hits = index.nearest(letters_of("driver"), 3);
    for (const dask_annoy::Hit& hit : hits) {
      std::cout << "  " << kWords.at(static_cast<std::size_t>(hit.item)) << " at " << hit.distance << '\n';
    }
    return hits.size() == 3 && kWords.at(static_cast<std::size_t>(hits.front().item)) == "drive" ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}

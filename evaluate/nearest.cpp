#include "nextscale/evaluate/nearest.h"

#include <algorithm>
#include <limits>
#include <tuple>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

namespace nextscale {
namespace {

constexpr int64_t kRowsAThread = 16;

/// Sorted lists of the k nearest so far.
class Lists {
 public:
  Lists(const PairRows& from, const PairRows& to, int64_t k)
      : from_(from),
        to_(to),
        k_(k),
        keep_(1 - pair_rounding(from.width())),
        found_{at::full({from.count(), k}, std::numeric_limits<double>::infinity(), at::kDouble),
               at::full({from.count(), k}, std::numeric_limits<int64_t>::max(), at::kLong)} {}

  /// Offers rows first … last - 1 of `to` to row i; product(j) is that of i and j about the centre.
  template <typename Product>
  void offer(int64_t i, int64_t first, int64_t last, const Product& product) {
    double* squared = found_.squared.data_ptr<double>() + i * k_;
    int64_t* indices = found_.indices.data_ptr<int64_t>() + i * k_;
    const double own = from_.squares()[i];
    const double* others = to_.squares();
    for (int64_t j = first; j < last; ++j) {
      // The smallest that the distance can be, after all rounding.
      if ((own + others[j]) * keep_ - 2 * product(j) > squared[k_ - 1]) continue;
      insert(squared, indices, squared_difference(from_, i, to_, j), j);
    }
  }

  SquaredNeighbours found() const { return found_; }

 private:
  void insert(double* squared, int64_t* indices, double distance, int64_t index) const {
    int64_t place = k_;
    while (place > 0 && std::tie(distance, index) < std::tie(squared[place - 1], indices[place - 1])) --place;
    if (place == k_) return;
    std::copy_backward(squared + place, squared + k_ - 1, squared + k_);
    std::copy_backward(indices + place, indices + k_ - 1, indices + k_);
    squared[place] = distance;
    indices[place] = index;
  }

  const PairRows& from_;
  const PairRows& to_;
  int64_t k_;
  double keep_;
  SquaredNeighbours found_;
};

}  // namespace

SquaredNeighbours nearest_between(const PairRows& from, const PairRows& to, int64_t k, int64_t block,
                                  const std::function<void(int64_t pairs)>& on_pairs) {
  Lists lists(from, to, k);
  for_each_block(from, to, block, [&](const PairBlock& pairs) {
    at::parallel_for(pairs.i_begin, pairs.i_end, kRowsAThread, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        lists.offer(i, pairs.j_begin, pairs.j_end, [&](int64_t j) { return pairs.product(i, j); });
      }
    });
    if (on_pairs) on_pairs((pairs.i_end - pairs.i_begin) * pairs.columns());
  });
  return lists.found();
}

SquaredNeighbours nearest_within(const PairRows& rows, int64_t k, int64_t block,
                                 const std::function<void(int64_t pairs)>& on_pairs) {
  Lists lists(rows, rows, k);
  for_each_block_within(rows, block, [&](const PairBlock& pairs) {
    const bool diagonal = pairs.i_begin == pairs.j_begin;
    at::parallel_for(pairs.i_begin, pairs.i_end, kRowsAThread, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto product = [&](int64_t j) { return pairs.product(i, j); };
        const int64_t middle = diagonal ? i : pairs.j_begin;
        lists.offer(i, pairs.j_begin, middle, product);
        lists.offer(i, diagonal ? i + 1 : middle, pairs.j_end, product);
      }
    });
    if (!diagonal) {  // the same products for the rows on the other side
      at::parallel_for(pairs.j_begin, pairs.j_end, kRowsAThread, [&](int64_t begin, int64_t end) {
        for (int64_t i = pairs.i_begin; i < pairs.i_end; ++i) {  // in the order of the products in memory
          for (int64_t j = begin; j < end; ++j) {
            lists.offer(j, i, i + 1, [&](int64_t) { return pairs.product(i, j); });
          }
        }
      });
    }
    if (on_pairs) on_pairs((pairs.i_end - pairs.i_begin) * pairs.columns() * (diagonal ? 1 : 2));
  });
  return lists.found();
}

}  // namespace nextscale

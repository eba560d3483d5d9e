#include "ssm/layers/pack_sequences.hpp"

#include <limits>
#include <vector>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/finite_difference.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;

namespace {

View<const Index, 1> view_of(const std::vector<Index>& numbers) {
  return {numbers.data(), {static_cast<Index>(numbers.size())}};
}

}  // namespace

TEST_CASE("offsets are the sums of the lengths before") {
  const auto offsets = offsets_of(view_of({3, 0, 1, 4}));
  CHECK(std::vector<Index>(offsets.begin(), offsets.end()) == std::vector<Index>{0, 3, 3, 4, 8});
  const auto none = offsets_of(view_of({}));
  CHECK(std::vector<Index>(none.begin(), none.end()) == std::vector<Index>{0});
  CHECK_THROWS_WITH(offsets_of(view_of({1, -2})),
                    "offsets_of: lengths(1) is -2, expected at least 0");
  CHECK_THROWS_WITH(offsets_of({}), "offsets_of: lengths is absent, expected (sequences)");
  constexpr Index most = (std::numeric_limits<Index>::max)();
  CHECK_THROWS_WITH(offsets_of(view_of({most - 1, 2})),
                    "offsets_of: lengths(1) is 2, expected at most 1");
  CHECK(offsets_of(view_of({most - 1, 1}))(2) == most);
}

TEMPLATE_TEST_CASE("a padded batch is packed without its padding, and unpacked again", "", float,
                   double, Index) {
  using T = TestType;
  constexpr Index rows = 6;
  Random random(1);
  for (const Padding padding : {Padding::after, Padding::before})
    for (const std::vector<Index>& lengths :
         {std::vector<Index>{3, 0, 1, 6}, {6, 6}, {0, 0}, {}, {1}}) {
      const auto offsets = offsets_of(view_of(lengths));
      const Index batch = offsets.extent(0) - 1, total = offsets(batch);
      Tensor<T, 3> x({batch, rows, 5}), packed({1, total, 3}), back({batch, rows, 5});
      for (T& value : x) value = static_cast<T>(random.integer(1, 1000));
      back.fill(T(-1));
      const View<T, 3> columns = x.view().slice(2, 1, 3);
      PackSequencesScratch<T> scratch;
      UnpackSequencesScratch<T> room;
      pack_sequences(cpu(2), {columns, offsets}, {padding}, {packed}, scratch);
      unpack_sequences(cpu(2), {packed, offsets}, {padding, 7}, {back.view().slice(2, 2, 3)}, room);
      for (Index s = 0; s < batch; ++s) {
        const Index steps = offsets(s + 1) - offsets(s);
        const Index first = padding == Padding::after ? 0 : rows - steps;
        for (Index t = 0; t < rows; ++t)
          for (Index c = 0; c < 3; ++c) {
            const bool inside = t >= first && t < first + steps;
            if (inside) CHECK(packed(0, offsets(s) + t - first, c) == columns(s, t, c));
            CHECK(back(s, t, c + 2) == (inside ? columns(s, t, c) : T(7)));
            CHECK(back(s, t, 0) == T(-1));
          }
      }
    }
}

TEST_CASE("what stands in the padding is not read") {
  const auto offsets = offsets_of(view_of({2, 0, 3}));
  auto x = Random(2).normal<double, 3>({3, 4, 2}), spoiled = x;
  for (Index s = 0; s < 3; ++s)
    for (Index t = offsets(s + 1) - offsets(s); t < 4; ++t)
      for (Index c = 0; c < 2; ++c) spoiled(s, t, c) = std::numeric_limits<double>::quiet_NaN();
  Tensor<double, 3> y({1, 5, 2}), same(y.extents());
  PackSequencesScratch<double> scratch;
  pack_sequences(cpu, {x, offsets}, {}, {y}, scratch);
  pack_sequences(cpu, {spoiled, offsets}, {}, {same}, scratch);
  CHECK(test::same_bits(y, same));
}

TEST_CASE("the gradient of packing is unpacking with zeros, and the other way round") {
  const auto offsets = offsets_of(view_of({2, 0, 1, 4}));
  Random random(3);
  for (const Padding padding : {Padding::after, Padding::before}) {
    auto x = random.normal<double, 3>({4, 4, 2}), packed = random.normal<double, 3>({1, 7, 2});
    const auto dy = random.normal<double, 3>(packed.extents()),
               dback = random.normal<double, 3>(x.extents());
    Tensor<double, 3> y(packed.extents()), back(x.extents()), dx(x.extents()),
        dpacked(packed.extents());
    PackSequencesScratch<double> scratch;
    UnpackSequencesScratch<double> room;
    unpack_sequences(cpu, {dy, offsets}, {padding}, {dx}, room);
    CHECK(test::gradient_error(
              [&] {
                pack_sequences(cpu, {x, offsets}, {padding}, {y}, scratch);
                return test::dot(y, dy);
              },
              x, dx) < 1e-9);
    pack_sequences(cpu, {dback, offsets}, {padding}, {dpacked}, scratch);
    CHECK(test::gradient_error(
              [&] {
                unpack_sequences(cpu, {packed, offsets}, {padding, 3}, {back}, room);
                return test::dot(back, dback);
              },
              packed, dpacked) < 1e-9);
  }
}

TEST_CASE("packing names the argument that it refuses") {
  const auto offsets = offsets_of(view_of({2, 0, 3}));
  Tensor<float, 3> x({3, 4, 2}), y({1, 5, 2}), short_rows({3, 2, 2});
  PackSequencesScratch<float> scratch;
  UnpackSequencesScratch<float> room;
  CHECK_THROWS_WITH(pack_sequences(cpu, {{}, offsets}, {}, {y}, scratch),
                    "pack_sequences: x is absent, expected (batch, length, width)");
  CHECK_THROWS_WITH(pack_sequences(cpu, {x, {}}, {}, {y}, scratch),
                    "pack_sequences: offsets is absent, expected (batch + 1)");
  CHECK_THROWS_WITH(pack_sequences(cpu, {x.view().slice(0, 0, 2), offsets}, {}, {y}, scratch),
                    "pack_sequences: offsets is (4), expected (3)");
  CHECK_THROWS_WITH(pack_sequences(cpu, {x, offsets}, {}, {y.view().slice(1, 0, 4)}, scratch),
                    "pack_sequences: the last offset is 5, expected the length, 4");
  CHECK_THROWS_WITH(pack_sequences(cpu, {short_rows, offsets}, {}, {y}, scratch),
                    "pack_sequences: sequence 2 is 3 long, expected at most the 2 steps of a row "
                    "of x");
  CHECK_THROWS_WITH(
      pack_sequences(cpu, {x, offsets}, {}, {View<float, 3>(x.data(), {1, 5, 2})}, scratch),
      "pack_sequences: y is in the memory of x, expected memory of its own");
  CHECK_THROWS_WITH(unpack_sequences(cpu, {y, offsets}, {}, {short_rows}, room),
                    "unpack_sequences: sequence 2 is 3 long, expected at most the 2 steps of a "
                    "row of y");
  CHECK_THROWS_WITH(unpack_sequences(cpu, {y, offsets}, {}, {Tensor<float, 3>({3, 4, 1})}, room),
                    "unpack_sequences: x is (1, 5, 2), expected (1, 5, 1)");
}

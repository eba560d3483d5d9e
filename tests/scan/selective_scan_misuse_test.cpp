#include <complex>
#include <exception>
#include <string>
#include <vector>

#include "ssm/scan/selective_scan.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/selective_case.hpp"

namespace selective_scan_misuse_test {

using ssm::cpu;
using ssm::Hold;
using ssm::Index;
using ssm::Tensor;
using ssm::View;
using ssm::test::contains;
using ssm::test::same_bits;

namespace {

using Sizes = ssm::test::SelectiveCaseSizes;
template <class T, class K = T>
using Case = ssm::test::SelectiveCase<T, K>;

}  // namespace

TEST_CASE("wrong shapes are refused in one sentence") {
  Sizes s;
  s.batch = 2;
  s.length = 3;
  s.channels = 4;
  s.state = 2;
  Case<float> c(s, 1);
  const auto message = [&](auto change) {
    auto in = c.inputs();
    ssm::SelectiveScanOutputs<float> out{c.y, c.final};
    change(in, out);
    try {
      ssm::selective_scan(cpu(1), in, s.options, out, c.scratch);
    } catch (const std::exception& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  CHECK(message([](auto& in, auto&) { in.delta = in.delta.slice(1, 0, 2); }) ==
        "selective_scan: delta is (2, 2, 4), expected (2, 3, 4)");
  CHECK(message([](auto& in, auto&) { in.A = in.A.slice(0, 0, 3); }) ==
        "selective_scan: A is (3, 2), expected (4, 2)");
  CHECK(message([](auto& in, auto&) { in.B = {}; }) ==
        "selective_scan: B is absent, expected either (channels, state) or (batch, length, groups, "
        "state)");
  CHECK(message([](auto& in, auto&) { in.u = {}; }) ==
        "selective_scan: u is absent, expected (batch, length, channels)");
  CHECK(message([](auto&, auto& out) { out.y = out.y.slice(2, 0, 1); }) ==
        "selective_scan: y is (2, 3, 1), expected (2, 3, 4)");
  Tensor<Index, 1> offsets({2});
  offsets(1) = 3;
  CHECK(message([&](auto& in, auto&) { in.sequences.offsets = offsets; }) ==
        "selective_scan: offsets is given with batch 2, expected packed sequences in a batch of 1");
  Tensor<float, 4> three({2, 3, 3, 2});
  CHECK(message([&](auto& in, auto&) { in.B = three.view(); }) ==
        "selective_scan: B is 3 groups, expected a number that divides 4 channels");
  CHECK(message([](auto& in, auto&) {
          in.u = {in.u.data(), {2, -3, 4}};
        }) == "selective_scan: u is (2, -3, 4), expected no negative extent");
  CHECK(message([](auto& in, auto&) {
          in.u = {nullptr, {2, 3, 4}};
        }) == "selective_scan: u is a null pointer to (2, 3, 4), expected elements");
  CHECK(message([](auto& in, auto&) {
          in.z = {nullptr, {2, 3, 4}};
        }) == "selective_scan: z is a null pointer to (2, 3, 4), expected elements");
  CHECK(message([](auto&, auto& out) {
          out.y = {nullptr, {2, 3, 4}};
        }) == "selective_scan: y is a null pointer to (2, 3, 4), expected elements");
  CHECK(message([](auto&, auto& out) {
          out.y = {out.y.data(), {2, 3, 4}, {12, 0, 1}};
        }) ==
        "selective_scan: y is strided as (12, 0, 1), expected no stride of 0 in what is written");
}

TEST_CASE("offsets that run backward or past the end are refused") {
  Sizes s;
  s.length = 9;
  s.channels = 2;
  s.offsets = {0, 4, 9};
  Case<double> c(s, 1);
  for (std::vector<Index> bad : {std::vector<Index>{1, 4, 9}, {0, 10, 9}, {0, 4, 8}, {0, -1, 9}}) {
    std::copy(bad.begin(), bad.end(), c.offsets.begin());
    CHECK_THROWS_AS(c.run(), ssm::DomainError);
  }
}

TEST_CASE("a hold that S6 does not know is refused") {
  Sizes s;
  s.options.hold = Hold::first_order;
  Case<double> c(s, 1);
  CHECK_THROWS_WITH(c.run(), "selective_scan: hold is another, expected simplified or zero_order");
}

TEST_CASE("outputs in the memory of inputs or of each other are refused, and of nothing else") {
  Sizes s;
  s.batch = 2;
  s.length = 5;
  s.channels = 6;
  s.state = 2;
  Case<float> c(s, 1);
  const auto scan = [&](const View<float, 3>& y, const View<float, 3>& final) {
    ssm::selective_scan(cpu(1), c.inputs(), s.options, {y, final}, c.scratch);
  };
  CHECK_THROWS_WITH(scan(c.u, {}),
                    "selective_scan: y is in the memory of u, expected memory of "
                    "its own");
  CHECK_THROWS_WITH(scan(c.delta, {}), contains("y is in the memory of delta"));
  CHECK_THROWS_WITH(scan(c.z, {}), contains("y is in the memory of z"));
  CHECK_THROWS_WITH(scan(c.u.view().reversed(1), {}), contains("y is in the memory of u"));
  // The last state of the last sequence would lie on the first y.
  Tensor<float, 1> memory({84});
  const View<float, 3> final(memory.data(), {2, 6, 2}), y(memory.data() + 23, {2, 5, 6});
  CHECK_THROWS_WITH(scan(y, final), contains("final_state is in the memory of y"));
  CHECK_NOTHROW(scan({memory.data() + 24, {2, 5, 6}}, final));

  // Halves of one array alternate in memory: neither is in the other.
  Tensor<float, 3> both({2, 5, 12});
  auto in = c.inputs();
  in.u = both.view().slice(2, 0, 6);
  CHECK_NOTHROW(
      ssm::selective_scan(cpu(1), in, s.options, {both.view().slice(2, 6, 6), {}}, c.scratch));
  CHECK_THROWS_AS(
      ssm::selective_scan(cpu(1), in, s.options, {both.view().slice(2, 5, 6), {}}, c.scratch),
      ssm::ShapeError);

  const auto backward = [&](const auto& change) {
    auto gradients = c.gradients();
    change(gradients);
    scan(c.y, c.final);
    ssm::selective_scan_backward(cpu(1), c.inputs(), s.options, {c.dy, c.dfinal}, gradients,
                                 c.scratch);
  };
  CHECK_NOTHROW(backward([](auto&) {}));
  CHECK_THROWS_WITH(backward([&](auto& g) { g.u = c.u; }),
                    contains("the gradient of u is in the memory of u"));
  CHECK_THROWS_WITH(backward([&](auto& g) { g.delta = g.u; }),
                    contains("the gradient of delta is in the memory of the gradient of u"));
  CHECK_THROWS_WITH(backward([&](auto& g) { g.z = c.dy; }),
                    contains("the gradient of z is in the memory of the gradient of y"));
  CHECK_THROWS_WITH(backward([&](auto& g) {
                      g.D = {g.D.data(), {6}, {0}};
                    }),
                    contains("the gradient of D is strided as (0), expected no stride of 0"));
}

TEMPLATE_TEST_CASE("states may be moved in place, forward and backward", "", float,
                   std::complex<double>) {
  using K = TestType;
  using T = ssm::Real<K>;
  for (const auto& offsets : {std::vector<Index>{}, {0, 3, 3, 37}})
    for (const Hold hold : {Hold::simplified, Hold::zero_order}) {
      Sizes s;
      s.length = 37;
      s.channels = 18;
      s.state = 3;
      s.offsets = offsets;
      s.options.hold = hold;
      Case<T, K> apart(s, 9), in_place(s, 9);
      apart.run(2);
      auto in = in_place.inputs();
      ssm::selective_scan(cpu(2), in, s.options, {in_place.y, in_place.initial}, in_place.scratch);
      CHECK(same_bits(in_place.initial, apart.final));
      auto gradients = in_place.gradients();
      gradients.initial_state = in_place.dfinal;
      ssm::selective_scan_backward(cpu(2), in, s.options, {in_place.dy, in_place.dfinal}, gradients,
                                   in_place.scratch);
      in_place.final = in_place.initial;
      in_place.dinitial = in_place.dfinal;
      CHECK(ssm::test::all_same_bits(in_place, apart));
    }
}

TEST_CASE("backward refuses a scratch of another call, by its shape, time and options") {
  Sizes s;
  s.batch = 1;
  s.length = 40;
  s.channels = 20;
  s.state = 4;
  Case<float> c(s, 1);
  const auto forward = [&](const ssm::SelectiveScanInputs<float>& in,
                           const ssm::SelectiveScanOptions& options) {
    ssm::selective_scan(cpu(1), in, options, {c.y, {}}, c.scratch);
  };
  const auto backward = [&] {
    ssm::selective_scan_backward(cpu(1), c.inputs(), s.options, {c.dy, {}}, c.gradients(),
                                 c.scratch);
  };
  CHECK_THROWS_WITH(backward(),
                    "selective_scan_backward: scratch is of no call that kept anything, expected "
                    "one that selective_scan with options.keep filled with these inputs, "
                    "(1, 40, 20, 4, 1, 1)");
  forward(c.inputs(), s.options);
  CHECK_NOTHROW(backward());
  CHECK_NOTHROW(backward());  // as often as wanted

  Sizes shorter = s;
  shorter.length = 39;
  Case<float> other(shorter, 2);
  ssm::selective_scan(cpu(1), other.inputs(), s.options, {other.y, {}}, c.scratch);
  CHECK_THROWS_WITH(backward(), contains("scratch is of another call, (1, 39, 20, 4, 1, 1), "
                                         "expected one that selective_scan with options.keep "
                                         "filled"));
  auto in = c.inputs();
  in.sequences.reversed = true;
  forward(in, s.options);
  CHECK_THROWS_WITH(backward(), contains("(1, 40, 20, 4, 1, 1) with other options"));
  Tensor<Index, 1> offsets({2});
  offsets(1) = 40;
  in.sequences = {offsets, false};
  forward(in, s.options);
  CHECK_THROWS_AS(backward(), ssm::ShapeError);
  forward(c.inputs(), {.softplus = false});
  CHECK_THROWS_AS(backward(), ssm::ShapeError);
  forward(c.inputs(), {.softplus = true, .hold = Hold::simplified, .keep = false});
  CHECK_THROWS_AS(backward(), ssm::ShapeError);
  forward(c.inputs(), s.options);
  CHECK_THROWS_AS(forward(c.inputs(), {.softplus = true, .hold = Hold::first_order}),
                  ssm::DomainError);
  CHECK_NOTHROW(backward());  // a call that was refused has changed nothing
}

TEST_CASE("backward refuses offsets other than those of forward") {
  Sizes s;
  s.length = 40;
  s.channels = 20;
  s.offsets = {0, 17, 40};
  Case<double> c(s, 1);
  c.run();
  c.offsets(1) = 16;
  CHECK_THROWS_AS(ssm::selective_scan_backward(cpu(1), c.inputs(), s.options, {c.dy, c.dfinal},
                                               c.gradients(), c.scratch),
                  ssm::ShapeError);
}

}  // namespace selective_scan_misuse_test

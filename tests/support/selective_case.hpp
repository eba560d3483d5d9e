#pragma once

#include <algorithm>
#include <array>
#include <complex>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "ssm/scan/selective_scan.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"

namespace ssm::test {

/// The sizes and options of a selective scan.
struct SelectiveCaseSizes {
  Index batch = 1, length = 1, channels = 1, state = 1, groups = 1;
  std::vector<Index> offsets = {};  // empty: no packing
  bool constant_B = false, constant_C = false, gated = true, reversed = false;
  SelectiveScanOptions options{.softplus = true};

  [[nodiscard]] Index sequences() const {
    return offsets.empty() ? batch : static_cast<Index>(offsets.size()) - 1;
  }
};

/// Inputs, outputs and all gradients of one selective scan, with the memory behind them.
template <class T, class K = T>
struct SelectiveCase {
  SelectiveCaseSizes sizes;
  Tensor<T, 3> u, delta, z, dy, y;
  Tensor<K, 2> A, B_constant, C_constant;
  Tensor<K, 4> B, C;
  Tensor<T, 1> D, bias;
  Tensor<K, 3> initial, dfinal, final;
  Tensor<Index, 1> offsets;
  Tensor<T, 3> du, ddelta, dz;
  Tensor<K, 2> dA, dB_constant, dC_constant;
  Tensor<K, 4> dB, dC;
  Tensor<T, 1> dD, dbias;
  Tensor<K, 3> dinitial;
  SelectiveScanScratch<T, K> scratch;

  /// The same numbers for every T, rounded to it.
  SelectiveCase(const SelectiveCaseSizes& s, std::uint64_t seed) : sizes(s) {
    Random random(seed);
    const std::array<Index, 3> rows{s.batch, s.length, s.channels};
    const std::array<Index, 3> states{s.sequences(), s.channels, s.state};
    u = random.normal<T, 3>(rows);
    delta = random.normal<T, 3>(rows, 0.5, -1);
    z = random.normal<T, 3>(rows);
    dy = random.normal<T, 3>(rows);
    A = random.normal<K, 2>({s.channels, s.state}, 0.1, -1);
    B_constant = random.normal<K, 2>({s.channels, s.state});
    C_constant = random.normal<K, 2>({s.channels, s.state});
    B = random.normal<K, 4>({s.batch, s.length, s.groups, s.state});
    C = random.normal<K, 4>({s.batch, s.length, s.groups, s.state});
    D = random.normal<T, 1>({s.channels});
    bias = random.normal<T, 1>({s.channels});
    if (!s.options.softplus) {  // nothing else keeps step sizes positive
      for (T& step : delta) step = std::abs(step);
      for (T& step : bias) step = std::abs(step);
    }
    initial = random.normal<K, 3>(states);
    dfinal = random.normal<K, 3>(states);
    offsets.resize({static_cast<Index>(s.offsets.size())});
    std::copy(s.offsets.begin(), s.offsets.end(), offsets.begin());
    // Poisoned, so that what is not written shows.
    y = poisoned<T, 3>(rows);
    du = ddelta = dz = y;
    final = poisoned<K, 3>(states);
    dinitial = final;
    dA = dB_constant = dC_constant = poisoned<K, 2>({s.channels, s.state});
    dB = dC = poisoned<K, 4>({s.batch, s.length, s.groups, s.state});
    dD = dbias = poisoned<T, 1>({s.channels});
  }

  /// Takes the inputs as another case holds them.
  template <class Other>
  void take_inputs(const Other& other) {
    const auto take = [](auto& to, const auto& from) {
      std::copy(from.begin(), from.end(), to.begin());
    };
    take(u, other.u), take(delta, other.delta), take(z, other.z), take(dy, other.dy);
    take(A, other.A), take(B, other.B), take(C, other.C), take(D, other.D);
    take(B_constant, other.B_constant), take(C_constant, other.C_constant);
    take(bias, other.bias), take(initial, other.initial), take(dfinal, other.dfinal);
  }

  template <class U, std::size_t Rank>
  static Tensor<U, Rank> poisoned(const std::array<Index, Rank>& extents) {
    Tensor<U, Rank> tensor(extents);
    tensor.fill(U(std::numeric_limits<Real<U>>::quiet_NaN()));
    return tensor;
  }

  [[nodiscard]] SelectiveScanInputs<T, K> inputs() const {
    SelectiveScanInputs<T, K> in;
    in.u = u;
    in.delta = delta;
    in.A = A;
    in.B = sizes.constant_B ? Selective<const K>(B_constant) : Selective<const K>(B);
    in.C = sizes.constant_C ? Selective<const K>(C_constant) : Selective<const K>(C);
    in.D = D;
    in.delta_bias = bias;
    if (sizes.gated) in.z = z;
    in.initial_state = initial;
    if (!sizes.offsets.empty()) in.sequences.offsets = offsets;
    in.sequences.reversed = sizes.reversed;
    return in;
  }
  SelectiveScanInputGradients<T, K> gradients() {
    SelectiveScanInputGradients<T, K> out;
    out.u = du;
    out.delta = ddelta;
    out.A = dA;
    out.B = sizes.constant_B ? Selective<K>(dB_constant) : Selective<K>(dB);
    out.C = sizes.constant_C ? Selective<K>(dC_constant) : Selective<K>(dC);
    out.D = dD;
    out.delta_bias = dbias;
    if (sizes.gated) out.z = dz;
    out.initial_state = dinitial;
    return out;
  }

  void run(int threads = 1) {
    selective_scan(cpu(threads), inputs(), sizes.options, {y, final}, scratch);
    selective_scan_backward(cpu(threads), inputs(), sizes.options, {dy, dfinal}, gradients(),
                            scratch);
  }
  void run_reference() {
    selective_scan_reference(cpu(1), inputs(), sizes.options, {y, final}, scratch);
    selective_scan_reference_backward(cpu(1), inputs(), sizes.options, {dy, dfinal}, gradients(),
                                      scratch);
  }
  [[nodiscard]] double loss() {
    SelectiveScanOptions options = sizes.options;
    options.keep = false;
    selective_scan(cpu(1), inputs(), options, {y, final}, scratch);
    double sum = 0;
    for (Index i = 0; i < y.size(); ++i) sum += double(y.data()[i]) * double(dy.data()[i]);
    for (Index i = 0; i < final.size(); ++i)
      sum += std::real(std::conj(std::complex<double>(dfinal.data()[i])) *
                       std::complex<double>(final.data()[i]));
    return sum;
  }
};

/// The largest relative error over all that two cases computed.
template <class Got, class Want>
double worst_error(const Got& got, const Want& want) {
  const bool constant_B = want.sizes.constant_B, constant_C = want.sizes.constant_C;
  double worst = 0;
  for (double error :
       {relative_error(got.y, want.y), relative_error(got.final, want.final),
        relative_error(got.du, want.du), relative_error(got.ddelta, want.ddelta),
        want.sizes.gated ? relative_error(got.dz, want.dz) : 0, relative_error(got.dA, want.dA),
        constant_B ? relative_error(got.dB_constant, want.dB_constant)
                   : relative_error(got.dB, want.dB),
        constant_C ? relative_error(got.dC_constant, want.dC_constant)
                   : relative_error(got.dC, want.dC),
        relative_error(got.dD, want.dD), relative_error(got.dbias, want.dbias),
        relative_error(got.dinitial, want.dinitial)})
    worst = std::max(worst, error);
  return worst;
}

template <class C>
bool all_same_bits(const C& a, const C& b) {
  return same_bits(a.y, b.y) && same_bits(a.final, b.final) && same_bits(a.du, b.du) &&
         same_bits(a.ddelta, b.ddelta) && same_bits(a.dz, b.dz) && same_bits(a.dA, b.dA) &&
         same_bits(a.dB, b.dB) && same_bits(a.dC, b.dC) && same_bits(a.dD, b.dD) &&
         same_bits(a.dbias, b.dbias) && same_bits(a.dinitial, b.dinitial);
}

inline std::vector<SelectiveCaseSizes> selective_shapes() {
  std::vector<SelectiveCaseSizes> all;
  Random random(11);
  for (Index length : {0, 1, 2, 15, 16, 17, 33, 70}) {
    for (int k = 0; k < 3; ++k) {
      SelectiveCaseSizes s;
      s.batch = random.integer(1, 3);
      s.length = length;
      s.groups = random.integer(1, 3);
      s.channels = s.groups * random.integer(1, 40);
      s.state = random.integer(1, 35);
      s.gated = k != 1;
      s.options.softplus = k != 2;
      s.reversed = random.integer(0, 1) == 1;
      if (!s.options.softplus) s.gated = random.integer(0, 1) == 1;
      all.push_back(s);
    }
  }
  SelectiveCaseSizes packed;
  packed.channels = 50;
  packed.state = 16;
  packed.groups = 2;
  packed.offsets = {0, 1, 1, 18, 50, 50, 66};
  packed.length = 66;
  all.push_back(packed);
  packed.reversed = true;
  all.push_back(packed);
  SelectiveCaseSizes empty;
  empty.batch = 0;
  empty.length = 5;
  empty.channels = 4;
  all.push_back(empty);
  empty.batch = 2;
  empty.channels = 3;
  empty.state = 0;
  all.push_back(empty);
  return all;
}

/// Rounding of a sum of products over time, states and channels, seen relative to its largest
/// value.
template <class T>
double selective_tolerance(const SelectiveCaseSizes& s) {
  const double terms = static_cast<double>(s.length + s.state + s.channels + 8);
  return 4 * terms * static_cast<double>(std::numeric_limits<T>::epsilon());
}

inline std::string name_of(const SelectiveCaseSizes& s) {
  return "batch " + std::to_string(s.batch) + " length " + std::to_string(s.length) + " channels " +
         std::to_string(s.channels) + " state " + std::to_string(s.state) + " groups " +
         std::to_string(s.groups) + (s.offsets.empty() ? "" : " packed") +
         (s.gated ? " gated" : "") + (s.reversed ? " reversed" : "");
}

}  // namespace ssm::test

#include <gnu/libc-version.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "ssm/core/tensor.hpp"
#include "ssm/layers/rms_norm.hpp"

int bytes_of_vectors();

/// Run with the level that the loader may go up to, 2, 3 or 4: the widest vectors are used, and the
/// numbers are right.
int main(int, char* argv[]) {
  int major = 0, minor = 0;
  std::sscanf(gnu_get_libc_version(), "%d.%d", &major, &minor);
  if (major == 2 && minor < 33) {
    std::puts("glibc before 2.33 does not know levels");
    return 77;
  }
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool v4 = v3 && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq");
  const int level = std::min(std::atoi(argv[1]), v4 ? 4 : v3 ? 3 : 2);
  const int wanted = level == 4 ? 64 : level == 3 ? 32 : 16;
  const bool chosen = bytes_of_vectors() == wanted;

  constexpr ssm::Index rows = 300, width = 37;
  ssm::Tensor<float, 2> x({rows, width}), y({rows, width});
  for (ssm::Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(i % 13) - 5;
  ssm::RmsNormScratch<float> scratch;
  rms_norm(ssm::cpu(2), {x, {}}, {}, {y}, scratch);
  double worst = 0;
  for (ssm::Index r = 0; r < rows; ++r) {
    double squares = 0;
    for (ssm::Index c = 0; c < width; ++c) squares += std::pow(x(r, c), 2);
    for (ssm::Index c = 0; c < width; ++c)
      worst = std::max(worst, std::abs(y(r, c) - x(r, c) / std::sqrt(squares / width)));
  }
  std::printf("vectors of %d bytes (%d were wanted), largest difference: %g\n", bytes_of_vectors(),
              wanted, worst);
  return chosen && worst < 1e-5 ? 0 : 1;
}

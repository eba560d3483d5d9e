#pragma once

#define EIGEN_RUNTIME_NO_MALLOC  // Eigen can be forbidden to allocate

#include <Eigen/Dense>
#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "ssm/core/eigen.hpp"  // before Eigen: it knows of warnings there
#include "support/catch.hpp"

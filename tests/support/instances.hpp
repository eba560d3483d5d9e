#pragma once

#include "ssm/core/eigen.hpp"
#include <Eigen/Dense>

// The templates that most programs of this repository would compile again, each for seconds: they
// are compiled once, in instances.cpp. A user's program is not concerned.

#ifndef SSM_INSTANCE
#define SSM_INSTANCE extern template
#endif

namespace Eigen {
SSM_INSTANCE class ComplexSchur<MatrixXd>;
SSM_INSTANCE class EigenSolver<MatrixXd>;
SSM_INSTANCE EigenSolver<MatrixXd>& EigenSolver<MatrixXd>::compute(const EigenBase<MatrixXd>&,
                                                                   bool);
SSM_INSTANCE class GeneralizedEigenSolver<MatrixXd>;
SSM_INSTANCE class HessenbergDecomposition<MatrixXd>;
SSM_INSTANCE class HouseholderQR<MatrixXd>;
SSM_INSTANCE class HouseholderSequence<MatrixXd, VectorXd, 1>;
SSM_INSTANCE void HouseholderSequence<MatrixXd, VectorXd, 1>::evalTo(MatrixXd&, VectorXd&) const;
SSM_INSTANCE class LLT<MatrixXd>;
SSM_INSTANCE class PartialPivLU<MatrixXd>;
SSM_INSTANCE class RealQZ<MatrixXd>;
SSM_INSTANCE class RealSchur<MatrixXd>;
SSM_INSTANCE RealSchur<MatrixXd>& RealSchur<MatrixXd>::compute(const EigenBase<MatrixXd>&, bool);
}  // namespace Eigen

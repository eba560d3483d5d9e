// A pendulum on its head: a regulator holds it upright, a Kalman filter tells its state from a
// noisy angle that is read at irregular times.
#include "ssm/control.hpp"

#include "noise.hpp"
#include "plot.hpp"

int main() {
  using Number = Eigen::Matrix<double, 1, 1>;
  const Eigen::Matrix2d A{{0, 1}, {9.81, -.1}};  // of angle (rad) and rate (rad/s)
  const ssm::StateSpace pendulum(A, Eigen::Vector2d(0, 1), Eigen::RowVector2d(1, 0));
  const auto regulator = ssm::lqr(pendulum, Eigen::Matrix2d::Identity(), Number(.1));
  const ssm::NoisyStateSpace noisy(pendulum, Eigen::Matrix2d{{0, 0}, {0, .02}}, Number(.0025));
  ssm::Belief<double, 2> belief{{0, 0}, Eigen::Matrix2d::Identity()};
  plot::Series angle{"angle", plot::Style::line, {}, {}};
  plot::Series meter{"meter", plot::Style::dots, {}, {}};
  Eigen::Vector2d x(.3, 0);
  Noise noise(1);
  for (double t = 0; t < 4;) {
    const double reading = x(0) + .05 * noise.normal(), dt = noise.uniform(.01, .08);
    ssm::kalman_update(noisy, 0, reading, belief);
    const double push = -regulator.K.row(0).dot(belief.mean);
    for (auto [series, y] : {std::pair(&angle, x(0)), std::pair(&meter, reading)})
      series->x.push_back(t), series->y.push_back(y);
    x = ssm::simulate(pendulum, std::array{t, t + dt}, push, x).x.row(1);
    ssm::kalman_predict(noisy, dt, push, belief);
    t += dt;
  }
  plot::show({"A pendulum held upright", "time t (s)", "angle (rad)", {meter, angle}}, "");
  return std::abs(x(0)) < .1 ? 0 : 1;
}

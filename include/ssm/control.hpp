#pragma once

/// The control half of the library: systems and their design, discretization, simulation and
/// estimation. What MATLAB and python-control call
///
/// | there | is here |
/// |---|---|
/// | ss, ss(…, dt) | StateSpace, DiscreteStateSpace |
/// | tf, zpk | TransferFunction, ZerosPolesGain, TransferMatrix |
/// | tf2ss, ss2tf, ss2zp | state_space, transfer_function, zeros_poles_gain |
/// | dss | DescriptorSystem |
/// | c2d | zero_order_hold, first_order_hold, tustin, matched, discretize |
/// | d2c | inverse_zero_order_hold, inverse_tustin, inverse_matched, inverse_discretize |
/// | series, parallel, append, feedback | the same, or G * H, G + H; feedback(G) is of unity |
/// | pole, zero, damp, dcgain | poles, zeros, damping, dc_gain |
/// | freqresp, bode, nyquist | FrequencyResponse, bode, nyquist |
/// | margin, rlocus | margins, root_locus |
/// | lsim, step, initial, stepinfo | simulate, step_info |
/// | rank of ctrb, of obsv | controllable_states, observable_states |
/// | gram | controllability_gramian, observability_gramian |
/// | lyap, dlyap | lyapunov, discrete_lyapunov, sylvester |
/// | care, dare | riccati, discrete_riccati |
/// | lqr, dlqr, lqi, place | lqr, discrete_lqr, sampled_lqr, finite_horizon_lqr, lqi, place_poles |
/// | lqe, dlqe, kalman | steady_kalman; kalman_predict and kalman_update where time varies |
/// | minreal | minimal_realization of systems, minimal of transfer functions |
/// | balred, hsvd | balanced_truncation, balanced_residualization, hankel_singular_values |
/// | stabsep | stable_split |
/// | norm(sys), norm(sys, inf) | h2_norm, hinf_norm |
/// | pade, InputDelay | pade_delay, pade, DelayedSystem, delayed |
/// | arx, n4sid | arx, moesp |

#include "ssm/discretize.hpp"
#include "ssm/estimate.hpp"
#include "ssm/scan/recurrence.hpp"
#include "ssm/scan/simulate.hpp"
#include "ssm/scan/simulate_delayed.hpp"
#include "ssm/scan/simulate_varying.hpp"
#include "ssm/scan/simulation.hpp"
#include "ssm/scan/step_info.hpp"
#include "ssm/system.hpp"

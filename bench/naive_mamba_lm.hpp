#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "ssm/models/mamba_lm.hpp"

/// A Mamba language model and its gradient as the formulas stand: plain loops, one thread, one
/// sequence at a time, std::exp. What the library's own is measured beside.
namespace naive {

using ssm::Index;
using Model = ssm::MambaLM<float>;
using ssm::Tensor;
using ssm::Token;

inline float silu(float x) { return x / (1 + std::exp(-x)); }
inline float silu_slope(float x) {
  const float s = 1 / (1 + std::exp(-x));
  return s * (1 + x * (1 - s));
}

/// y = W x.
inline void linear(const Tensor<float, 2>& weight, const float* x, float* y) {
  for (Index i = 0; i < weight.extent(0); ++i) {
    float sum = 0;
    for (Index j = 0; j < weight.extent(1); ++j) sum += weight(i, j) * x[j];
    y[i] = sum;
  }
}
/// dx += Wᵀ dy, dW += dy xᵀ.
inline void linear_backward(const Tensor<float, 2>& weight, const float* x, const float* dy,
                            float* dx, Tensor<float, 2>& dweight) {
  for (Index i = 0; i < weight.extent(0); ++i)
    for (Index j = 0; j < weight.extent(1); ++j) {
      dx[j] += weight(i, j) * dy[i];
      dweight(i, j) += dy[i] * x[j];
    }
}

inline float inverse_rms(const float* x, Index width) {
  float squares = 0;
  for (Index i = 0; i < width; ++i) squares += x[i] * x[i];
  return 1 / std::sqrt(squares / static_cast<float>(width) + 1e-5f);
}
inline void norm(const float* x, const Tensor<float, 1>& weight, float* y) {
  const Index width = weight.size();
  const float scale = inverse_rms(x, width);
  for (Index i = 0; i < width; ++i) y[i] = x[i] * scale * weight(i);
}
/// dx += the gradient by x.
inline void norm_backward(const float* x, const Tensor<float, 1>& weight, const float* dy,
                          float* dx, Tensor<float, 1>& dweight) {
  const Index width = weight.size();
  const float scale = inverse_rms(x, width);
  float dot = 0;
  for (Index i = 0; i < width; ++i) {
    dot += dy[i] * weight(i) * x[i];
    dweight(i) += dy[i] * x[i] * scale;
  }
  const float along = dot * scale * scale * scale / static_cast<float>(width);
  for (Index i = 0; i < width; ++i) dx[i] += dy[i] * weight(i) * scale - x[i] * along;
}

/// One Mamba block over one sequence from a zero state. Rows of a step hold what backward needs.
struct Block {
  ssm::MambaConfig s;  ///< with inner and dt_rank given
  Index length;
  Tensor<float, 2> input, projected, convolved, u, parameters, delta, y, gated;
  Tensor<float, 3> x;  ///< (length + 1, inner, state)

  Block(const ssm::MambaConfig& shape, Index steps)
      : s(shape),
        length(steps),
        input({steps, s.width}),
        projected({steps, 2 * s.inner}),
        convolved({steps, s.inner}),
        u(convolved),
        parameters({steps, s.dt_rank + 2 * s.state}),
        delta(convolved),
        y(convolved),
        gated(convolved),
        x({steps + 1, s.inner, s.state}) {}

  /// Step t of the rows, whose inputs from t − conv_width + 1 on have been seen.
  void step(const ssm::Mamba<float>& w, Index t, float* output) {
    linear(w.in_proj, &input(t, 0), &projected(t, 0));
    for (Index c = 0; c < s.inner; ++c) {
      float sum = w.conv_bias(c);
      for (Index k = 0; k < s.conv_width; ++k)
        if (const Index at = t - s.conv_width + 1 + k; at >= 0)
          sum += projected(at, c) * w.conv_weight(c, k);
      convolved(t, c) = sum;
      u(t, c) = silu(sum);
    }
    linear(w.x_proj, &u(t, 0), &parameters(t, 0));
    linear(w.dt_proj, &parameters(t, 0), &delta(t, 0));
    const float* B = &parameters(t, s.dt_rank);
    const float* C = B + s.state;
    for (Index c = 0; c < s.inner; ++c) {
      const float step = std::log1p(std::exp(delta(t, c) + w.dt_bias(c)));
      float sum = w.D(c) * u(t, c);
      for (Index n = 0; n < s.state; ++n) {
        x(t + 1, c, n) =
            std::exp(-step * std::exp(w.A_log(c, n))) * x(t, c, n) + step * B[n] * u(t, c);
        sum += C[n] * x(t + 1, c, n);
      }
      y(t, c) = sum;
      gated(t, c) = sum * silu(projected(t, s.inner + c));
    }
    linear(w.out_proj, &gated(t, 0), output);
  }

  /// dinput is overwritten, the gradients of the weights accumulate.
  void backward(const ssm::Mamba<float>& w, const Tensor<float, 2>& doutput, ssm::Mamba<float>& dw,
                Tensor<float, 2>& dinput) {
    Tensor<float, 2> dprojected(projected.extents()), du(u.extents());
    Tensor<float, 2> dx({s.inner, s.state});
    for (Index t = length - 1; t >= 0; --t) {
      std::vector<float> dgated(static_cast<std::size_t>(s.inner)), ddelta(dgated);
      std::vector<float> dparameters(static_cast<std::size_t>(parameters.extent(1)));
      linear_backward(w.out_proj, &gated(t, 0), &doutput(t, 0), dgated.data(), dw.out_proj);
      const float* B = &parameters(t, s.dt_rank);
      const float* C = B + s.state;
      float* dB = dparameters.data() + s.dt_rank;
      float* dC = dB + s.state;
      for (Index c = 0; c < s.inner; ++c) {
        const auto at = static_cast<std::size_t>(c);
        const float gate = projected(t, s.inner + c);
        const float dy = dgated[at] * silu(gate);
        dprojected(t, s.inner + c) = dgated[at] * y(t, c) * silu_slope(gate);
        const float raw = delta(t, c) + w.dt_bias(c), step = std::log1p(std::exp(raw));
        float dstep = 0;
        du(t, c) += dy * w.D(c);
        dw.D(c) += dy * u(t, c);
        for (Index n = 0; n < s.state; ++n) {
          const float A = -std::exp(w.A_log(c, n)), decay = std::exp(step * A);
          const float g = dx(c, n) + dy * C[n];
          dC[n] += dy * x(t + 1, c, n);
          dB[n] += g * step * u(t, c);
          du(t, c) += g * step * B[n];
          dstep += g * (x(t, c, n) * decay * A + B[n] * u(t, c));
          dw.A_log(c, n) += g * x(t, c, n) * decay * step * A;
          dx(c, n) = g * decay;
        }
        ddelta[at] = dstep / (1 + std::exp(-raw));
        dw.dt_bias(c) += ddelta[at];
      }
      linear_backward(w.dt_proj, &parameters(t, 0), ddelta.data(), dparameters.data(), dw.dt_proj);
      linear_backward(w.x_proj, &u(t, 0), dparameters.data(), &du(t, 0), dw.x_proj);
      for (Index c = 0; c < s.inner; ++c) {
        const float d = du(t, c) * silu_slope(convolved(t, c));
        dw.conv_bias(c) += d;
        for (Index k = 0; k < s.conv_width; ++k)
          if (const Index from = t - s.conv_width + 1 + k; from >= 0) {
            dw.conv_weight(c, k) += d * projected(from, c);
            dprojected(from, c) += d * w.conv_weight(c, k);
          }
      }
    }
    dinput.fill(0);
    for (Index t = 0; t < length; ++t)
      linear_backward(w.in_proj, &input(t, 0), &dprojected(t, 0), &dinput(t, 0), dw.in_proj);
  }
};

/// Mean cross-entropy of the targets from a zero state, nats; `gradients` overwritten.
inline double loss(const Model& weights, const Tensor<Token, 2>& tokens,
                   const Tensor<Token, 2>& targets, Model& gradients) {
  const Index batch = tokens.extent(0), length = tokens.extent(1), width = weights.config.width();
  const auto& layers = weights.backbone.layers;
  const Index vocab = weights.config.vocab;
  const auto scale = 1 / static_cast<float>(tokens.size());
  gradients = Model(weights.config);
  std::vector<Block> blocks(layers.size(), Block(layers[0].mixer.config, length));
  std::vector<Tensor<float, 2>> streams(blocks.size() + 1, Tensor<float, 2>({length, width}));
  Tensor<float, 2> dstream({length, width}), dinput({length, width});
  std::vector<float> mixed(static_cast<std::size_t>(width)), normed(mixed), dnormed(mixed);
  std::vector<float> logits(static_cast<std::size_t>(vocab));
  double total = 0;
  for (Index b = 0; b < batch; ++b) {
    for (Index t = 0; t < length; ++t) {
      std::copy_n(&weights.embedding(tokens(b, t), 0), width, &streams[0](t, 0));
      for (std::size_t i = 0; i < blocks.size(); ++i) {
        norm(&streams[i](t, 0), layers[i].norm, &blocks[i].input(t, 0));
        blocks[i].step(layers[i].mixer, t, mixed.data());
        for (Index j = 0; j < width; ++j)
          streams[i + 1](t, j) = streams[i](t, j) + mixed[static_cast<std::size_t>(j)];
      }
    }
    dstream.fill(0);
    for (Index t = 0; t < length; ++t) {
      const float* x = &streams.back()(t, 0);
      norm(x, weights.norm, normed.data());
      linear(weights.embedding, normed.data(), logits.data());
      const float highest = *std::max_element(logits.begin(), logits.end());
      float sum = 0;
      for (float logit : logits) sum += std::exp(logit - highest);
      const auto target = static_cast<std::size_t>(targets(b, t));
      total += std::log(sum) + highest - logits[target];
      for (float& logit : logits) logit = std::exp(logit - highest) / sum * scale;
      logits[target] -= scale;
      std::fill(dnormed.begin(), dnormed.end(), 0.0f);
      linear_backward(weights.embedding, normed.data(), logits.data(), dnormed.data(),
                      gradients.embedding);
      norm_backward(x, weights.norm, dnormed.data(), &dstream(t, 0), gradients.norm);
    }
    for (std::size_t i = blocks.size(); i-- > 0;) {
      blocks[i].backward(layers[i].mixer, dstream, gradients.backbone.layers[i].mixer, dinput);
      for (Index t = 0; t < length; ++t)
        norm_backward(&streams[i](t, 0), layers[i].norm, &dinput(t, 0), &dstream(t, 0),
                      gradients.backbone.layers[i].norm);
    }
    for (Index t = 0; t < length; ++t)
      for (Index j = 0; j < width; ++j) gradients.embedding(tokens(b, t), j) += dstream(t, j);
  }
  return total * static_cast<double>(scale);
}

}  // namespace naive

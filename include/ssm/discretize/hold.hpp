#pragma once

namespace ssm {

/// What an input does between its samples, and with it how B becomes B_bar, when the state itself
/// is stepped exactly, A_bar = e^{ΔA}. A function refuses the holds that it does not know.
enum class Hold {
  simplified,  ///< B_bar = Δ B, Mamba's own choice (Gu & Dao 2023, section 3.6 and its code)
  zero_order,  ///< B_bar = (e^{ΔA} − 1)/A · B, exact for an input that is constant over the step
  first_order,  ///< exact for an input that runs straight from one sample to the next
};

}  // namespace ssm

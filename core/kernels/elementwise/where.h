// SPDX-License-Identifier: Apache-2.0
// Choices by a mask: a u8 array in which everything but 0 counts as true.
#pragma once
#include "core/kernels/elementwise/accumulate.h"
#include "core/kernels/elementwise/broadcast.h"

namespace moxie {

// z = condition ? x : y
template <class T> struct Where {
  const uint8_t* condition;
  const T* x;
  const T* y;
  T* z;
  BroadcastPlan<3> plan;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const auto place = plan.place(row);
    T* out = z + place.result;
    const int64_t n = place.count;
    const T *first_x = x + place.operand[1], *first_y = y + place.operand[2];
    const bool x_repeats = plan.repeats(1), y_repeats = plan.repeats(2);
    with_reader(condition + place.operand[0], plan.repeats(0), [=](auto c) {
      with_reader(first_x, x_repeats, [=](auto a) {
        with_reader(first_y, y_repeats, [=](auto b) {
          team.each(n, [=](int64_t i) {
            const T yes = a(i), no = b(i);
            out[i] = c(i) != 0 ? yes : no;
          });
        });
      });
    });
  }
};

// y (+)= value where the mask is `filled`, elsewhere x; the mask broadcasts to x's shape. With value 0 also the
// gradient of choices.
template <class T> struct MaskedFill {
  const T* x;
  const uint8_t* mask;
  T* y;
  Accumulator<T> value;
  bool filled;
  BroadcastPlan<1> plan;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const auto place = plan.place(row);
    const T* in = x + place.result;
    T* out = y + place.result;
    const int64_t n = place.count;
    const V constant = value;
    const bool fill_where = filled, add_up = accumulate;
    with_reader(mask + place.operand[0], plan.repeats(0), [=](auto m) {
      branch(add_up, [=](auto add) {
        team.each(n, [=](int64_t i) {
          const V number = V(in[i]);
          store(out[i], (m(i) != 0) == fill_where ? constant : number, add);
        });
      });
    });
  }
};

}  // namespace moxie

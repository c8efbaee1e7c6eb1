// SPDX-License-Identifier: Apache-2.0
// Tells three arms of a spiral apart with one hidden layer, written with ops alone: no module, no optimizer.
// docs/walkthroughs/spiral.md
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "autograd/ops.h"
#include "examples/walkthrough/walkthrough.h"
#include "nn/init.h"
#include "nn/train/plot.h"

using namespace moxie;

namespace {

constexpr int64_t arms = 3, per_arm = 120, points = arms * per_arm, hidden = 64;

struct Data {
  Tensor x;     // [points, 2]
  Array label;  // [points], which arm
};

Data spiral(uint64_t seed, Device device) {
  std::vector<float> x;
  std::vector<int32_t> label;
  for (int64_t i = 0; i < points; ++i) {
    const auto arm = static_cast<double>(i / per_arm), t = static_cast<double>(i % per_arm + 1) / per_arm;
    const double wobble = 0.12 * static_cast<double>(normal_at({.seed = seed, .stream = 9}, static_cast<uint64_t>(i)));
    const double angle = 2 * std::numbers::pi * (arm / arms + 0.65 * t) + wobble;
    x.insert(x.end(), {static_cast<float>(t * std::cos(angle)), static_cast<float>(t * std::sin(angle))});
    label.push_back(static_cast<int32_t>(i / per_arm));
  }
  return {Tensor::from(x, {points, 2}, device), Array::from(label, {points}, device)};
}

// Leaves: the tensors that backward() leaves a gradient in.
struct Network {
  Tensor w1, b1, w2, b2;

  Network(uint64_t seed, Device device) {
    nn::Initializer init(seed, device);
    const auto leaf = [](const Array& value, const char* name) {
      return Tensor(value).set_requires_grad().set_name(name);
    };
    w1 = leaf(init.normal({hidden, 2}, 2), "w1"), b1 = leaf(init.normal({hidden}, 1), "b1");
    w2 = leaf(init.normal({arms, hidden}, 1 / std::sqrt(hidden)), "w2"), b2 = leaf(init.constant({arms}, 0), "b2");
  }
  std::vector<Tensor> leaves() const { return {w1, b1, w2, b2}; }

  Tensor hidden_of(const Tensor& x) const { return tanh(linear(x, w1, b1)); }    // [points, hidden]
  Tensor logits(const Tensor& x) const { return linear(hidden_of(x), w2, b2); }  // [points, arms]
};

// The chain rule by hand, from the loss back to each leaf. How far backward() is from it, at most.
double distance_by_hand(const Network& network, const Data& data) {
  const NoGrad guard;
  const Tensor h = network.hidden_of(data.x);
  const Tensor dlogits = (softmax(network.logits(data.x)) - one_hot(data.label, arms)) / points;
  const Tensor dw2 = matmul(dlogits, h, {.transpose_x = true}), db2 = sum(dlogits, 0);
  const Tensor dh = matmul(dlogits, network.w2);
  const Tensor dz = dh * (1.0 - h * h);  // the slope of tanh is 1 - tanh^2
  const Tensor dw1 = matmul(dz, data.x, {.transpose_x = true}), db1 = sum(dz, 0);

  double distance = 0;
  const std::vector<Tensor> by_hand{dw1, db1, dw2, db2}, leaves = network.leaves();
  for (size_t i = 0; i < leaves.size(); ++i)
    distance = std::max(distance, max(abs(by_hand[i] - Tensor(leaves[i].grad()))).item());
  return distance;
}

// Gradient descent with momentum, in place: v = 0.9 v + dw, w = w - rate v.
void descend(const Tensor& w, std::vector<float>& v, float rate) {
  v.resize(static_cast<size_t>(w.numel()));
  std::vector<float> numbers = w.to_vector<float>();
  const std::vector<float> dw = w.grad().to_vector<float>();
  for (size_t i = 0; i < v.size(); ++i) {
    v[i] = 0.9f * v[i] + dw[i];
    numbers[i] -= rate * v[i];
  }
  // A graph that still needs the old numbers says so from here on, instead of giving wrong gradients.
  w.value().copy_from(Array::from(numbers, w.shape(), w.device()));
  w.clear_grad();
}

double accuracy(const Network& network, const Data& data) {
  const NoGrad guard;
  const Array right = equal(Tensor(argmax(network.logits(data.x), 1)), Tensor(data.label));
  return mean(Tensor(right.to(Dtype::f32))).item();
}

// Which arm the network sees at each place of the plane; the paler, the less sure it is.
train::Image plane(const Network& network, const Data& data, const std::string& title) {
  const NoGrad guard;
  train::Image image{.title = title, .width = 262, .height = 280, .rows = 160, .columns = 160};
  image.x_range = image.y_range = train::Range{-1.15, 1.15};
  const Tensor at = Tensor::from(train::pixel_centers(image), {image.rows * image.columns, 2}, data.x.device());
  const std::vector<double> p = softmax(network.logits(at)).to_vector<double>();
  for (size_t i = 0; i < p.size(); i += arms) {
    const auto arm = std::max_element(&p[i], &p[i] + arms) - &p[i];
    const double sure = 1.5 * (p[i + static_cast<size_t>(arm)] - 1.0 / arms);
    image.pixels.push_back(train::mix({255, 255, 255}, train::distinct_color(arm), 0.1 + 0.5 * sure));
  }
  const std::vector<double> x = data.x.to_vector<double>();
  for (int64_t arm = 0; arm < arms; ++arm)
    image.series.push_back({.color = train::distinct_color(arm), .width = 1.2, .line = false});
  for (size_t i = 0; i < points; ++i) {
    train::Series& dots = image.series[i / per_arm];
    dots.x.push_back(x[2 * i]), dots.y.push_back(x[2 * i + 1]);
  }
  return image;
}

void run(const Arguments& arguments) {
  const Data data = spiral(arguments.seed, arguments.device);
  const Network network(arguments.seed, arguments.device);
  std::vector<std::vector<float>> momentum(network.leaves().size());
  train::Figure figure{.columns = 4, .scale = 1.5};
  train::LineChart losses{.title = "loss", .x_label = "step", .width = 300, .height = 280, .log_y = true};
  losses.series = {{.color = train::distinct_color(0)}};
  losses.references = {{.y = std::log(arms), .label = "a guess among three"}};

  for (int64_t step = 0; step < arguments.steps; ++step) {
    if (step == 0 || step == arguments.steps / 8)
      figure.charts.push_back(plane(network, data, fmt::format("before step {}", step)));
    const Tensor loss = cross_entropy(network.logits(data.x), data.label);
    if (step == 0) train::save_png(train::diagram_of(loss), arguments.out / "spiral_graph.png");
    loss.backward();
    if (step == 0) fmt::print("gradients by hand and by backward(): {:.1e} apart\n", distance_by_hand(network, data));
    for (size_t i = 0; i < momentum.size(); ++i) descend(network.leaves()[i], momentum[i], 0.1f);
    losses.series[0].x.push_back(static_cast<double>(step));
    losses.series[0].y.push_back(loss.item());
    if (arguments.reports(step)) fmt::print("step {:4}  loss {:.4f}\n", step, loss.item());
  }
  fmt::print("accuracy {:.3f}\n", accuracy(network, data));
  figure.charts.push_back(plane(network, data, fmt::format("after {} steps", arguments.steps)));
  figure.charts.push_back(losses);
  train::save_png(figure, arguments.out / "spiral.png");
}

}  // namespace

int main(int argc, char** argv) {
  return walkthrough(argc, argv, "spiral", "Learns to tell the arms of a spiral apart, with autograd and by hand.",
                     "steps of gradient descent", {.steps = 1000}, run);
}

// SPDX-License-Identifier: Apache-2.0
// Eight experts read digits that the program draws itself, and show which of them knows which digit.
// docs/walkthroughs/digits.md
#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "examples/walkthrough/walkthrough.h"
#include "moe/layer.h"
#include "nn/optimizer.h"
#include "nn/train/plot.h"

using namespace moxie;

namespace {

constexpr int64_t side = 16, pixels = side * side, digits = 10, experts = 8, batch = 250;

struct Glyphs {
  Tensor image;  // [count, pixels], ink from 0 to 1
  Array digit;   // [count]
};

// Digits of the plots' font, each turned, stretched and moved in its own way, on a noisy ground.
Glyphs draw(int64_t count, nn::Initializer& init) {
  const std::vector<double> u = init.uniform({count, 5}, 1).to_vector<double>();
  Array image = init.normal({count, pixels}, 0.15).to(Device::cpu());
  std::vector<int32_t> digit;
  for (int64_t i = 0; i < count; ++i) {
    digit.push_back(static_cast<int32_t>(i % digits));
    const double* random = &u[static_cast<size_t>(5 * i)];
    const double turn = 0.4 * random[0], wide = 14 + 3 * random[1], high = 14 + 3 * random[2];
    train::Canvas canvas(side, side, 1, {0, 0, 0});
    for (train::Stroke& stroke : train::text_strokes(std::to_string(digit.back()))) {
      for (train::Point& p : stroke.points) {
        const double x = wide * (p.x - 0.28), y = high * (p.y - 0.32);  // from the middle of the glyph, y up
        p = {side / 2 + std::cos(turn) * x - std::sin(turn) * y + 1.5 * random[3],
             side / 2 - std::sin(turn) * x - std::cos(turn) * y + 1.5 * random[4]};
      }
      canvas.line(stroke.points, {.color = {255, 255, 255}, .width = 1.6});
    }
    for (int64_t k = 0; k < pixels; ++k)
      image.data<float>()[i * pixels + k] += static_cast<float>(canvas.pixel(k % side, k / side).red) / 255;
  }
  return {Tensor(image.to(init.device())), Array::from(digit, {count}, init.device())};
}

const moe::RouterOptions router{.kind = moe::RouterKind::linear,
                                .experts = experts,
                                .top_k = 1,
                                .weighting = moe::Weighting::before_top_k,
                                .bias = false};

struct Classifier {
  nn::Linear in, out;
  moe::MoeLayer layer;

  explicit Classifier(nn::Initializer& init)
      : in(pixels, 32, init, true), out(32, digits, init, true), layer(32, {.router = router, .hidden = 16}, init) {}
  // The scores of the digits [count, digits], and who gave them.
  std::pair<Tensor, moe::Routing> operator()(const Tensor& image, const nn::Context& context) const {
    const auto [y, routing, erc] = layer(tanh(in(image, context)), context);
    return {out(y, context), routing};
  }
  // The same when one expert is gone and its glyphs go to the next best.
  Tensor without(int32_t expert, const Tensor& image) const {
    const Tensor x = tanh(in(image, {}));
    const Array gone = one_hot(Array::from(std::vector{expert}, {1}, image.device()), experts, Dtype::u8).value();
    const Tensor scores = masked_fill(layer.router.scores(x, {}), gone, -std::numeric_limits<double>::infinity());
    const moe::Routing routing = moe::route(scores, {}, router.top_k, router.weighting);
    return out(moe::combine(layer.experts(moe::dispatch(x, routing), routing, {}), routing), {});
  }
  static void visit(auto& self, auto&& f) { f("in", self.in), f("out", self.out), f("layer", self.layer); }
};

// The share of each digit that is read rightly, in percent.
std::vector<double> accuracy(const Tensor& logits, const Array& digit) {
  const std::vector<int32_t> said = argmax(logits, 1).to_vector<int32_t>(), is = digit.to_vector<int32_t>();
  std::vector<double> right(digits, 0);
  for (size_t i = 0; i < is.size(); ++i)
    right[static_cast<size_t>(is[i])] += said[i] == is[i] ? 100.0 * digits / static_cast<double>(is.size()) : 0;
  return right;
}

// Ten glyphs that each expert gets, a row for each.
train::Image montage(const Glyphs& glyphs, const std::vector<int32_t>& chosen) {
  constexpr int64_t shown = 10, margin = 12, columns = margin + shown * side;
  train::Image image{.title = "what each expert reads", .width = 400, .height = 330, .rows = experts * side};
  image.columns = columns, image.pixels.resize(static_cast<size_t>(image.rows * columns), {255, 255, 255});
  const std::vector<double> ink = glyphs.image.to_vector<double>();
  for (int64_t e = 0; e < experts; ++e) {
    image.labels.push_back({margin / 2.0, static_cast<double>((experts - e) * side - side / 2), std::to_string(e)});
    for (size_t i = 0, place = 0; i < chosen.size() && place < shown; ++i) {
      if (chosen[i] != e) continue;
      for (size_t k = 0; k < pixels; ++k) {
        const size_t row = static_cast<size_t>(e) * side + k / side, column = margin + place * side + k % side;
        const double grey = 1 - ink[i * pixels + k];
        image.pixels[row * columns + column] = train::rgb(grey, grey, grey);
      }
      ++place;
    }
  }
  return image;
}

train::HeatMap table(const std::string& title, const std::vector<double>& values) {
  train::HeatMap map{.title = title, .x_label = "digit", .y_label = "expert", .width = 380, .height = 330};
  map.rows = experts, map.columns = digits, map.values = values, map.color_bar = false, map.print_values = true;
  return map;
}

void run(const Arguments& arguments) {
  nn::Initializer init(arguments.seed, arguments.device);
  const Glyphs test = draw(2000, init);
  const Classifier model(init);
  nn::AdamW optimizer(nn::parameters(model), {.lr = 3e-3, .weight_decay = 0.01});
  for (int64_t step = 0; step < arguments.steps; ++step) {
    const Glyphs glyphs = draw(batch, init);
    const auto [logits, routing] = model(glyphs.image, {.training = true});
    const Tensor loss = cross_entropy(logits, glyphs.digit);
    (loss + 0.3 * moe::balance_loss(std::span(&routing, 1))).backward();
    optimizer.step();
    if (arguments.reports(step))
      fmt::print("step {:4}  loss {:.4f}  load {}\n", step, loss.item(), fmt::join(routing.load(), " "));
  }

  const auto [logits, routing] = model(test.image, {});
  const std::vector<int32_t> chosen = routing.chosen.to_vector<int32_t>(), digit = test.digit.to_vector<int32_t>();
  const std::vector<double> with_all = accuracy(logits, test.digit);
  fmt::print("accuracy on new glyphs {:.1f} %\n", mean(Tensor::from(with_all, {digits})).item());
  std::vector<double> shares(experts * digits, 0), lost;
  for (size_t i = 0; i < chosen.size(); ++i)
    shares[static_cast<size_t>(chosen[i] * digits + digit[i])] += 100.0 * digits / static_cast<double>(chosen.size());
  for (int32_t e = 0; e < experts; ++e) {
    const std::vector<double> left = accuracy(model.without(e, test.image), test.digit);
    for (size_t d = 0; d < digits; ++d) lost.push_back(with_all[d] - left[d]);
    fmt::print("without expert {}: {:.1f} %\n", e, mean(Tensor::from(left, {digits})).item());
  }
  train::Figure figure{.columns = 3, .scale = 1.5};
  figure.charts = {montage(test, chosen), table("who reads a digit (%)", shares),
                   table("accuracy lost without the expert (points)", lost)};
  train::save_png(figure, arguments.out / "digits.png");
}

}  // namespace

int main(int argc, char** argv) {
  return walkthrough(argc, argv, "digits", "Eight experts learn to read digits; which knows which?",
                     "steps of training", {.steps = 500}, run);
}

//! The structural decay of any network: what `|dw_l| / |w_l|` will be, from the layer
//! table, the present weights and a guess about the inputs, before any data is seen.
//!
//! [`crate::decay`] has the published closed form for dense layers. It multiplies the
//! rms of a layer's input with that of the gradient by its output, as if the terms of
//! `dw = sum of d x^T` over samples and positions were unrelated. They are not: ReLU
//! makes inputs positive, so that they are alike in all samples, the more the deeper;
//! with global average pooling the gradient is the same at all positions. Where both are
//! alike, terms add up instead of cancelling. That was the factor of 1.2 to 4.7 that the
//! published form loses towards the input. Here the likeness is followed too.
//!
//! # Moments
//! For a tensor, take two of its elements in the same channel, and average their product
//! over channels, positions, samples and draws of the weights. There are four kinds of
//! pairs: an element with itself, another position of the same sample, the
//! same position of another sample, and neither the same. `x` are the moments of a
//! layer's input, `d` those of the gradient by its output. A weight of layer l is used at
//! `T` positions of each of N samples, so its gradient is the mean over N samples of a
//! sum of T products, and its mean square, for independent x and d,
//! ```text
//! (T / N) (d0 x0 + T' d1 x1 + (N - 1) d2 x2 + (N - 1) T' d3 x3)      (1)
//! ```
//! with `T' = T - 1` without padding. The ratio wanted is `sqrt(elements (1)) / |w_l|`.
//! A dense layer has T = 1. All that is left is to carry moments through the layers.
//!
//! # Weights: dense, convolution, groups, stride, padding
//! Independent weights of mean square `s^2` add up powers: `x <- s^2 f x` in each kind of
//! pair, f being the inputs of one output element; backward `d <- s^2 g d`, g the outputs
//! that one input element reaches. Let tap k of the kernel see input, not padding, at
//! `n_k` output positions, `S = sum n_k`, `Q = sum n_k^2`, and P positions. Then
//! `f = channels_in / groups S / P_out`, `g = channels_out / groups S / P_in`,
//! `T = S / taps`, `T' = Q / S - 1`. A pair at two positions shares a weight only where the
//! same tap is used at both, so its moment is also multiplied by `(Q / S - 1) / (P - 1)`: 1
//! without padding forward, 1 / stride^2 backward. A dense layer over a map takes pairs
//! of the same position only, and gives positions unrelated gradients.
//!
//! # Activations
//! Sums over weights are close to normal, of power q and correlation `rho = x_k / x_0`.
//! ReLU: `x <- q/4 (rho + 2/pi (sqrt(1 - rho^2) + rho asin rho))`, and
//! `d <- d/4 (1 + 2/pi asin rho)`: the arc-cosine kernels of order 1 and 0 (Cho and Saul,
//! 2009), so that rho grows with depth (Poole et al., 2016; Schoenholz et al., 2017; for
//! convolutions Xiao et al., 2018). `ReLU = z/2 + |z|/2`. SiLU and hard-swish are z/2 plus an
//! even part that is z^2 for small and `|z|/2` for large q: its power relative to `|z|/2` is
//! `a = q / (4/3 + q)`, that of its slope `b = q / (1 + q)` (SiLU), or `q / sqrt(9 + q^2)`,
//! `q / sqrt(81/16 + q^2)` (hard-swish), and its kernels are mixed from those of z^2 and
//! `|z|`, the latter with the part a^2, for slopes b^3 (a and b to 0.15 for q up to 8).
//! ReLU6 counts as ReLU: with He's weights 6 is four deviations.
//!
//! # The other layers
//! Residual addition: powers add, in both directions; a branch is the tensor it takes up. Global average pooling: means over
//! the pairs of positions; backward all positions have the same gradient. Batch norm: what
//! all samples have in common is taken away, the rest scaled to a power of 1; one whose
//! means are all zero has no statistics yet and just scales. Maximum: n equally correlated
//! normals `sqrt(rho) z_0 + sqrt(1 - rho) z_i` with the moments of the largest of n; each
//! window's gradient goes to one place, which is positive nearly always, so that a ReLU
//! beside it does nothing. Dropout: raises an element's own power alone.
//!
//! # Where the gradients start
//! The gradient by the logits is `p - y`. With normal logits of variance v and
//! correlation r between samples, K classes and labels drawn independently,
//! `K E[p p'] = 1 + (1 - 1/K) (e^(r w) - 1)` with `w = v / (1 + v / ln K)` (exact for small v;
//! within 10 % of sampled values for K = 10, 35 % for 2 and 100, v up to 8), from which
//! `d_2 / d_0 = (e^(r w) - 1) / (K + e^w - 1)`, `d_0 = (1 - 1/K) (K + e^w - 1) / K^2`.
//!
//! # Two corrections to independence
//! - *Correlations scatter.* Two windows of n independent values correlate by rho give or
//!   take `(1 - rho^2) / sqrt(n)`; x and, through the activations' slopes, d follow alike.
//!   So (1) is short of `(derivative of d by rho) x0 (1 - rho^2)^2 / n` in each term. The
//!   same as Stein's `E[x f'(wx)] = w E[f'']`: the mean gradient along a weight's own
//!   direction. It rules in a first convolution, where N T is much larger than n.
//! - *The part along the weights.* Scaling one layer of a ReLU net scales the logits z, so
//!   `w_l dw_l = E[(p - y) z] = v (1 - E|p|^2)` in every layer; a residual addition divides it
//!   as it adds powers. Its square over `|w_l|^2` is added.
//!
//! # How far it holds
//! 25 nets of 3 to 8 weighted layers, dense and convolutional (those of
//! `tests/decay_modes.rs`), 12 draws of weights and data each, normal inputs and the
//! positive parts of normal inputs: the largest over the smallest quotient of structural
//! and true `|dw| / |w|` has a median of 1.5 and was above 3 in 6 of 600 draws, at most
//! 3.5, given the inputs' statistics. With [`Inputs::USUAL`]: 1.6, 6 of 576, 3.2. One
//! lambda for all layers: 13. Left out of the 576 is the inverted residual net with batch
//! norms and an average on top, where it was 1.9 to 4.5: all that such a net leaves to its
//! top layer is how much alike the positions of a sample are.
//!
//! Wide layers, weights unrelated to each other and to the data: the start of training
//! from He's initialisation. The inputs matter; see [`Inputs`]. Not covered: what classes
//! do to the correlations, batches with exactly as many samples of each class (their
//! gradients' common part cancels, which shows in nets whose batch norms leave no other),
//! inputs that are zero in most places. Then the measured mode is the better one.

mod moments;

use crate::decay::measured;
use crate::layer::{Layer, Shape};
use crate::network::{MAX_LAYERS, Network};
use crate::tensors::PerTensor;
use fieldtune_kernels::{exp, ln, sqrt};
use moments::{
    EvenPart, Gradient, Moments, NEITHER, OWN, SAME_POSITION, SAME_SAMPLE, Sharing,
    at_other_positions, at_the_logits, below_a_maximum, correlation, dropout, maximum, mean_square,
    pairwise,
};

/// What is assumed of the inputs. Correlations are of the values themselves, not of
/// their distances from a mean: non-negative inputs are correlated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Inputs {
    /// Mean square of the elements.
    pub mean_square: f32,
    /// Correlation between two positions of a sample. Not used for plain vectors.
    pub same_sample: f32,
    /// Correlation between two samples in the same place.
    pub same_position: f32,
    /// Correlation between two samples in different places. Not used for plain vectors.
    pub neither: f32,
    /// How alike neighbouring positions are: a window of n positions has
    /// `n^(1 - smoothness)` independent values. 0 for noise, near 1 for photographs.
    pub smoothness: f32,
}

impl Inputs {
    /// Independent values of mean 0 and variance 1.
    pub const STANDARD_NORMAL: Self = Self {
        mean_square: 1.0,
        same_sample: 0.0,
        same_position: 0.0,
        neither: 0.0,
        smoothness: 0.0,
    };

    /// Between the two usual cases: centred inputs, which have correlations of 0, and
    /// features after a ReLU, of 1 / pi and more. Images stand there as well: raw digits
    /// have 0.17, 0.40 and 0.15, centred ones 0.02, 0.29 and 0.
    pub const USUAL: Self = Self {
        mean_square: 1.0,
        same_sample: 0.28,
        same_position: 0.3,
        neither: 0.25,
        smoothness: 0.75,
    };
}

impl Default for Inputs {
    fn default() -> Self {
        Self::USUAL
    }
}

/// What is known of a tensor on the way up.
#[derive(Clone, Copy, Debug)]
struct Tensor {
    moments: Moments,
    /// Independent values in one position.
    freedom: f32,
    /// Whether it is the input, as smooth as that is.
    raw: bool,
}

/// Fills `lambdas`, one a weighted layer, from the starting weights in `parameters`
/// (laid out as [`Network::weights`] says), for batches of `batch` samples, so that the
/// top one is `last`. A layer without weights other than zero, or that no gradient
/// reaches, takes the coefficient of the layer above.
pub fn coefficients(
    network: &Network,
    parameters: &[f32],
    batch: usize,
    inputs: &Inputs,
    last: f32,
    lambdas: &mut [f32],
) {
    let net = Net {
        network,
        parameters,
        batch: batch.max(1) as f32,
        smoothness: inputs.smoothness,
    };
    let ratios = net.ratios(&net.forward(inputs));
    measured(&ratios, last, lambdas);
    for l in (0..lambdas.len()).rev() {
        if l + 1 < lambdas.len() && ratios.get(l).is_none_or(|ratio| *ratio == 0.0) {
            lambdas[l] = lambdas[l + 1];
        }
    }
}

struct Net<'n> {
    network: &'n Network,
    parameters: &'n [f32],
    batch: f32,
    smoothness: f32,
}

impl Net<'_> {
    fn layer(&self, index: usize) -> Layer {
        self.network.layers()[index]
    }

    fn weights(&self, index: usize) -> &[f32] {
        &self.parameters[self.network.weights(index)]
    }

    /// Shapes before and after a layer.
    fn shapes(&self, index: usize) -> [Shape; 2] {
        [index, index + 1].map(|tensor| self.network.shape(tensor))
    }

    /// Whether an activation stands beside a maximum that leaves it nothing to cut off.
    fn beside_a_maximum(&self, index: usize) -> bool {
        let layers = self.network.layers();
        let is_maximum = |i: usize| matches!(layers.get(i), Some(Layer::MaxPool(_)));
        is_maximum(index + 1) || (index > 0 && is_maximum(index - 1))
    }

    fn forward(&self, inputs: &Inputs) -> PerTensor<Tensor> {
        let pairs = [
            1.0,
            inputs.same_sample,
            inputs.same_position,
            inputs.neither,
        ];
        let mut tensors = PerTensor::<Tensor>::new();
        // One more tensor than layers: all fit.
        let _ = tensors.push(Tensor {
            moments: pairs.map(|pair| pair * inputs.mean_square),
            freedom: self.network.shape(0).channels as f32,
            raw: true,
        });
        for index in 0..self.network.layers().len() {
            let next = self.after(index, &tensors);
            let _ = tensors.push(next);
        }
        tensors
    }

    /// The output of layer `index`.
    fn after(&self, index: usize, tensors: &[Tensor]) -> Tensor {
        let x = tensors[index];
        let m = x.moments;
        let [input, output] = self.shapes(index);
        match self.layer(index) {
            Layer::Dense { .. } | Layer::Convolution(_) => self.weighted(index, x),
            Layer::Relu | Layer::Relu6 | Layer::HardSwish | Layer::Silu => {
                let keep = self.beside_a_maximum(index);
                let even = EvenPart::of(self.layer(index), m[OWN]);
                let bend = |moment| even.value(correlation(moment, m[OWN])) * m[OWN];
                Tensor {
                    moments: if keep { m } else { m.map(bend) },
                    freedom: output.channels as f32,
                    raw: false,
                }
            }
            Layer::BatchNorm { .. } => {
                let [gain, shared] = self.batch_norm(index, &m);
                let shift = mean_square(&self.parameters[self.network.biases(index)]);
                let moments = m.map(|moment| (moment - shared) * gain + shift);
                Tensor { moments, ..x }
            }
            Layer::GlobalAveragePool => {
                let positions = input.positions() as f32;
                let mean = |one, others| (one + (positions - 1.0) * others) / positions;
                let own = mean(m[OWN], m[SAME_SAMPLE]);
                let other = mean(m[SAME_POSITION], m[NEITHER]);
                let moments = [own, own, other, other];
                Tensor { moments, ..x }
            }
            Layer::MaxPool(window) => Tensor {
                moments: maximum(&m, window.positions()),
                freedom: output.channels as f32,
                raw: false,
            },
            Layer::Flatten => Tensor {
                moments: [m[OWN], m[OWN], m[SAME_POSITION], m[SAME_POSITION]],
                freedom: x.freedom * input.positions() as f32,
                raw: x.raw,
            },
            Layer::Dropout { permille } => {
                let mut moments = m;
                moments[OWN] *= dropout(permille);
                Tensor { moments, ..x }
            }
            Layer::Branch { from } => tensors[usize::from(from)],
            Layer::Add { from } => {
                let other = tensors[usize::from(from)];
                Tensor {
                    moments: pairwise(&m, &other.moments, |a, b| a + b),
                    freedom: x.freedom.max(other.freedom),
                    raw: x.raw && other.raw,
                }
            }
            // Every element becomes one of mean square 1, about as alike as before.
            Layer::RootLength => Tensor {
                moments: m.map(|moment| correlation(moment, m[OWN])),
                ..x
            },
            Layer::Input(_) => x,
        }
    }

    fn weighted(&self, index: usize, x: Tensor) -> Tensor {
        let sharing = Sharing::of(self.network, index);
        let power = mean_square(self.weights(index)) * sharing.fan_in;
        let bias = mean_square(&self.parameters[self.network.biases(index)]);
        let m = x.moments;
        let m = if matches!(self.layer(index), Layer::Dense { .. }) {
            [m[OWN], m[OWN], m[SAME_POSITION], m[SAME_POSITION]]
        } else {
            at_other_positions(&m, sharing.kept_forward)
        };
        let outputs = self.network.shape(index + 1).channels as f32;
        let reach = self.window_freedom(index, &x);
        Tensor {
            moments: m.map(|moment| moment * power + bias),
            freedom: if sharing.groups > 1.0 {
                outputs
            } else {
                outputs.min(reach)
            },
            raw: false,
        }
    }

    /// Independent values that one output element sums over.
    fn window_freedom(&self, index: usize, x: &Tensor) -> f32 {
        let input = self.network.shape(index);
        let Layer::Convolution(convolution) = self.layer(index) else {
            return (x.freedom * input.positions() as f32).min(input.elements() as f32);
        };
        let smoothness = if x.raw { self.smoothness } else { 0.0 };
        let taps = exp((1.0 - smoothness) * ln(convolution.window.positions() as f32));
        let channels = (convolution.inputs / convolution.groups) as f32;
        x.freedom.min(channels) * taps
    }

    /// By what a batch norm multiplies moments, and what it takes away before.
    fn batch_norm(&self, index: usize, m: &Moments) -> [f32; 2] {
        let scales = self.weights(index);
        let constants = &self.parameters[self.network.constants(index)];
        let (means, inverses) = constants.split_at(scales.len());
        if means.iter().all(|mean| *mean == 0.0) {
            let squares = scales.iter().zip(inverses).map(|(s, i)| (s * i) * (s * i));
            return [squares.sum::<f32>() / scales.len().max(1) as f32, 0.0];
        }
        let single = self.network.shape(index).positions() == 1;
        let shared = m[if single { SAME_POSITION } else { NEITHER }];
        let rest = (m[OWN] - shared).max(f32::MIN_POSITIVE);
        [mean_square(scales) / rest, shared]
    }

    /// `|dw| / |w|` of every weighted layer; 0 where there is none.
    fn ratios(&self, tensors: &[Tensor]) -> heapless::Vec<f32, MAX_LAYERS> {
        let layers = self.network.layers().len();
        let mut gradients = [Gradient::default(); MAX_LAYERS + 1];
        gradients[layers] = at_the_logits(&tensors[layers].moments, self.network.classes());
        let mut ratios = heapless::Vec::<f32, MAX_LAYERS>::new();
        for index in (0..layers).rev() {
            let above = gradients[index + 1];
            if matches!(
                self.layer(index),
                Layer::Dense { .. } | Layer::Convolution(_)
            ) {
                let ratio = self.ratio(index, &tensors[index], &above);
                let _ = ratios.push(if ratio.is_finite() { ratio } else { 0.0 });
            }
            if let Layer::Branch { from } = self.layer(index) {
                // The tensor before it gets its gradient from the addition that reads it.
                gradients[usize::from(from)].add(&above);
                continue;
            }
            let mut below = self.below(index, tensors, above);
            if let Layer::Add { from } = self.layer(index) {
                let from = usize::from(from);
                let share = tensors[from].moments[OWN] / tensors[index + 1].moments[OWN];
                gradients[from].add(&Gradient {
                    flow: above.flow * share,
                    ..above
                });
                below.flow = above.flow * (1.0 - share);
            }
            gradients[index].add(&below);
        }
        ratios.reverse();
        ratios
    }

    fn ratio(&self, index: usize, x: &Tensor, above: &Gradient) -> f32 {
        let sharing = Sharing::of(self.network, index);
        let weights = self.weights(index);
        let power = mean_square(weights) * weights.len() as f32;
        let others = self.batch - 1.0;
        let counts = [1.0, sharing.others, others, others * sharing.others];
        let scatter = x.moments[OWN] / self.window_freedom(index, x);
        let terms = (0..counts.len()).map(|kind| {
            counts[kind] * (above.moments[kind] * x.moments[kind] + above.slopes[kind] * scatter)
        });
        let sum = terms.sum::<f32>().max(0.0) * sharing.uses / self.batch;
        let along = above.flow * above.flow / power;
        sqrt((sum * weights.len() as f32 + along) / power)
    }

    /// The gradient by the input of layer `index`, from that by its output.
    fn below(&self, index: usize, tensors: &[Tensor], above: Gradient) -> Gradient {
        let m = &tensors[index].moments;
        let [input, output] = self.shapes(index);
        match self.layer(index) {
            Layer::Dense { .. } | Layer::Convolution(_) => {
                let sharing = Sharing::of(self.network, index);
                let power = mean_square(self.weights(index)) * sharing.fan_out;
                above.map(|d| at_other_positions(&d.map(|d| d * power), sharing.kept_backward))
            }
            Layer::Relu | Layer::Relu6 | Layer::HardSwish | Layer::Silu => {
                let even = EvenPart::of(self.layer(index), m[OWN]);
                even.backward(m, above, self.beside_a_maximum(index))
            }
            Layer::BatchNorm { .. } => {
                let [gain, _] = self.batch_norm(index, m);
                above.map(|d| d.map(|d| d * gain))
            }
            Layer::GlobalAveragePool => {
                let share = 1.0 / (input.positions() * input.positions()) as f32;
                above.map(|d| {
                    let [own, other] = [d[OWN] * share, d[SAME_POSITION] * share];
                    [own, own, other, other]
                })
            }
            Layer::MaxPool(window) => {
                let to_one = 1.0 / window.positions() as f32;
                let alike = correlation(m[SAME_POSITION], m[OWN]).max(0.0);
                let same = to_one + (1.0 - to_one) * alike;
                above.map(|d| below_a_maximum(&d, input, output, same))
            }
            Layer::Flatten => above.map(|d| at_other_positions(&d, 0.0)),
            Layer::Dropout { permille } => above.map(|mut d| {
                d[OWN] *= dropout(permille);
                d
            }),
            // The slope at the rms r of the input: sqrt(1 / r) / (2 sqrt(r)).
            Layer::RootLength => above.map(|d| d.map(|d| d / (4.0 * m[OWN]))),
            Layer::Input(_) | Layer::Add { .. } | Layer::Branch { .. } => above,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decay;
    use crate::random::Random;

    const WIDTHS: [usize; 5] = [40, 160, 80, 120, 10];
    const ELEMENTS: usize = 40 * 160 + 160 + 160 * 80 + 80 + 80 * 120 + 120 + 120 * 10 + 10;

    fn network() -> Network {
        Network::mlp(WIDTHS[0], &WIDTHS[1..4], WIDTHS[4]).expect("sound")
    }

    fn he(network: &Network) -> [f32; ELEMENTS] {
        let mut parameters = [0.0; ELEMENTS];
        let mut random = Random::new(3);
        for layer in network.weighted() {
            let deviation = sqrt(2.0 / network.fan_in(layer) as f32);
            for weight in &mut parameters[network.weights(layer)] {
                *weight = deviation * random.normal();
            }
        }
        parameters
    }

    #[test]
    fn one_sample_gives_the_published_form() {
        let network = network();
        let [mut published, mut own] = [[0.0; 4]; 2];
        decay::structural(&WIDTHS, 0.01, &mut published);
        let inputs = Inputs::STANDARD_NORMAL;
        coefficients(&network, &he(&network), 1, &inputs, 0.01, &mut own);
        for (own, published) in own.iter().zip(published) {
            assert!((own / published - 1.0).abs() < 0.1, "{own} {published}");
        }
    }

    #[test]
    fn likeness_counts_more_in_larger_batches() {
        let network = network();
        let parameters = he(&network);
        let first = |batch| {
            let mut lambdas = [0.0; 4];
            let inputs = Inputs::STANDARD_NORMAL;
            coefficients(&network, &parameters, batch, &inputs, 0.01, &mut lambdas);
            lambdas[0]
        };
        assert!(first(256) < 0.7 * first(16) && first(16) < first(1));
    }

    #[test]
    fn dead_layers_take_the_coefficient_above() {
        let network = network();
        let mut parameters = he(&network);
        let second = network.weighted().nth(1).expect("four layers");
        parameters[network.weights(second)].fill(0.0);
        let mut lambdas = [0.0; 4];
        coefficients(
            &network,
            &parameters,
            32,
            &Inputs::USUAL,
            0.01,
            &mut lambdas,
        );
        assert!(
            lambdas
                .iter()
                .all(|lambda| lambda.is_finite() && *lambda > 0.0)
        );
        assert_eq!(lambdas[0], lambdas[1]);
    }
}

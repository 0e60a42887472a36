//! What single layers do to the moments of values and gradients. The derivation is
//! in the parent module, the walk through a network as well.

use crate::decay::norm;
use crate::layer::{Layer, Shape};
use crate::layers::Axis;
use crate::network::Network;
use core::f32::consts::FRAC_2_PI;
use fieldtune_kernels::{exp, ln, sqrt};
use libm::asinf;

/// Mean products of pairs of elements, by kind of pair: [`OWN`], [`SAME_SAMPLE`],
/// [`SAME_POSITION`], [`NEITHER`].
pub(super) type Moments = [f32; 4];
pub(super) const OWN: usize = 0;
pub(super) const SAME_SAMPLE: usize = 1;
pub(super) const SAME_POSITION: usize = 2;
pub(super) const NEITHER: usize = 3;

/// What is known of the gradient by a tensor on the way down.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gradient {
    pub moments: Moments,
    /// How the moments grow with the correlation of the values, times how much that
    /// scatters where a window has one independent value.
    pub slopes: Moments,
    /// Mean of gradient times value, summed over the tensor.
    pub flow: f32,
}

impl Gradient {
    pub fn map(self, change: impl Fn(Moments) -> Moments) -> Self {
        Self {
            moments: change(self.moments),
            slopes: change(self.slopes),
            ..self
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.moments = pairwise(&self.moments, &other.moments, |a, b| a + b);
        self.slopes = pairwise(&self.slopes, &other.slopes, |a, b| a + b);
        self.flow += other.flow;
    }
}

/// The gradient by the logits, whose moments are `logits`.
pub(super) fn at_the_logits(logits: &Moments, classes: usize) -> Gradient {
    let (classes, variance) = (classes as f32, logits[OWN]);
    let w = variance / (1.0 + variance / ln(classes));
    let peaked = |r: f32| exp(r * w) - 1.0;
    let alike = correlation(logits[SAME_POSITION], variance);
    let scale = (1.0 - 1.0 / classes) / (classes * classes);
    let [own, other] = [scale * (classes + peaked(1.0)), scale * peaked(alike)];
    let sum_of_squares = (1.0 + (1.0 - 1.0 / classes) * peaked(1.0)) / classes;
    Gradient {
        moments: [own, own, other, other],
        slopes: [0.0; 4],
        flow: variance * (1.0 - sum_of_squares),
    }
}

/// The part of an activation beside z/2, relative to the `|z|/2` of ReLU.
pub(super) struct EvenPart {
    /// Its power.
    value: f32,
    /// The power of its slope.
    slope: f32,
}

impl EvenPart {
    /// For normal inputs of mean square `q`.
    pub fn of(layer: Layer, q: f32) -> Self {
        let [value, slope] = match layer {
            Layer::Silu => [q / (4.0 / 3.0 + q), q / (1.0 + q)],
            Layer::HardSwish => [q / sqrt(9.0 + q * q), q / sqrt(81.0 / 16.0 + q * q)],
            _ => [1.0, 1.0],
        };
        Self { value, slope }
    }

    /// Mean product of two outputs, relative to the inputs' mean square.
    pub fn value(&self, rho: f32) -> f32 {
        let square = (1.0 + 2.0 * rho * rho) / 3.0;
        let absolute = FRAC_2_PI * (sqrt(1.0 - rho * rho) + rho * asinf(rho));
        (rho + self.value * mix(self.value * self.value, square, absolute)) / 4.0
    }

    /// How much the slope is a step, and not a line.
    fn step(&self) -> f32 {
        self.slope * self.slope * self.slope
    }

    /// Mean product of two slopes.
    fn slope(&self, rho: f32) -> f32 {
        (1.0 + self.slope * mix(self.step(), rho, FRAC_2_PI * asinf(rho))) / 4.0
    }

    /// Its derivative by rho, times how rho scatters: `(1 - rho^2)^2`.
    fn scatter(&self, rho: f32) -> f32 {
        let rest = 1.0 - rho * rho;
        self.slope / 4.0 * mix(self.step(), rest * rest, FRAC_2_PI * rest * sqrt(rest))
    }

    pub fn backward(&self, x: &Moments, above: Gradient, keep: bool) -> Gradient {
        let mut below = above;
        let passed = self.slope(1.0);
        for kind in 0..x.len() {
            let rho = correlation(x[kind], x[OWN]);
            let own = above.moments[kind] * self.scatter(rho);
            if keep {
                below.slopes[kind] += own;
                continue;
            }
            let slope = self.slope(rho);
            below.moments[kind] *= slope;
            // Correlations above follow those below as the slopes correlate.
            below.slopes[kind] = own + above.slopes[kind] * slope * slope / passed;
        }
        below
    }
}

/// Between the kernel of z^2 and that of `|z|`.
pub(super) fn mix(part: f32, square: f32, absolute: f32) -> f32 {
    (1.0 - part) * square + part * absolute
}

/// How a layer's weights are shared.
pub(super) struct Sharing {
    pub groups: f32,
    /// Inputs that one output element sums over, without padding.
    pub fan_in: f32,
    /// Outputs that one input element reaches.
    pub fan_out: f32,
    /// T, uses of a weight in a sample.
    pub uses: f32,
    /// T', the other uses, as one use sees them.
    pub others: f32,
    /// By what moments of pairs at two positions are multiplied on the way up.
    pub kept_forward: f32,
    /// The same on the way down.
    pub kept_backward: f32,
}

impl Sharing {
    pub fn of(network: &Network, index: usize) -> Self {
        let [input, output] = [index, index + 1].map(|tensor| network.shape(tensor));
        let Some(Layer::Convolution(convolution)) = network.layers().get(index) else {
            return Self {
                groups: 1.0,
                fan_in: input.elements() as f32,
                fan_out: output.elements() as f32,
                uses: 1.0,
                others: 0.0,
                kept_forward: 0.0,
                kept_backward: 0.0,
            };
        };
        let window = &convolution.window;
        let [mut sum, mut squares] = [1.0f32; 2];
        let axes = Axis::both(window, input, output);
        for (axis, kernel) in axes.iter().zip(window.kernel) {
            let uses = (0..usize::from(kernel)).map(|tap| axis.valid(tap).len() as f32);
            sum *= uses.clone().sum::<f32>();
            squares *= uses.map(|n| n * n).sum::<f32>();
        }
        let [below, above] = [input, output].map(|shape| shape.positions() as f32);
        let groups = convolution.groups as f32;
        let others = squares / sum - 1.0;
        Self {
            groups,
            fan_in: convolution.inputs as f32 / groups * sum / above,
            fan_out: convolution.outputs as f32 / groups * sum / below,
            uses: sum / window.positions() as f32,
            others,
            kept_forward: others / (above - 1.0).max(1.0),
            kept_backward: others / (below - 1.0).max(1.0),
        }
    }
}

/// Moments of the largest of `n` equally correlated values.
pub(super) fn maximum(m: &Moments, n: usize) -> Moments {
    let rho = correlation(m[SAME_SAMPLE], m[OWN]).max(0.0);
    // Mean squared (to 5 % up to n = 25) and variance (to 15 %) of the largest of n
    // standard normals.
    let l = ln(n as f32);
    let (mean_squared, variance) = (2.0 * l * l / (l + 2.2), 1.0 / (1.0 + 0.74 * l));
    let common = (1.0 - rho) * mean_squared * m[OWN];
    let spread = (rho + (1.0 - rho) * variance) * m[OWN];
    m.map(|moment| common + correlation(moment, m[OWN]).max(0.0) * spread)
}

/// The gradient below a maximum: each output's goes to one of its inputs, in another
/// sample to the `same` one with that chance.
pub(super) fn below_a_maximum(d: &Moments, input: Shape, output: Shape, same: f32) -> Moments {
    let [below, above] = [input, output].map(|shape| shape.positions() as f32);
    let pairs = (below * (below - 1.0)).max(1.0);
    let apart = above * (above - 1.0);
    [
        d[OWN] * above / below,
        d[SAME_SAMPLE] * apart / pairs,
        d[SAME_POSITION] * above / below * same,
        (d[SAME_POSITION] * above * (1.0 - same) + d[NEITHER] * apart) / pairs,
    ]
}

/// By what dropout raises an element's mean square.
pub(super) fn dropout(permille: u16) -> f32 {
    1000.0 / (1000.0 - f32::from(permille))
}

pub(super) fn at_other_positions(m: &Moments, factor: f32) -> Moments {
    let [own, same_sample, same_position, neither] = *m;
    [own, same_sample * factor, same_position, neither * factor]
}

pub(super) fn pairwise(a: &Moments, b: &Moments, join: impl Fn(f32, f32) -> f32) -> Moments {
    core::array::from_fn(|kind| join(a[kind], b[kind]))
}

/// -1 to 1, and 0 where there is no power.
pub(super) fn correlation(moment: f32, own: f32) -> f32 {
    let rho = moment / own;
    if rho.is_finite() {
        rho.clamp(-1.0, 1.0)
    } else {
        0.0
    }
}

/// 0 for no values.
pub(super) fn mean_square(values: &[f32]) -> f32 {
    let norm = norm(values);
    norm * norm / values.len().max(1) as f32
}

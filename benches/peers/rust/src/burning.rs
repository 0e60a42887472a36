//! The heads in burn, on either of its backends for processors.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::nn::{Linear, LinearConfig};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};

use crate::job::{
    CLASSES, EPSILON, FEATURES, Failure, Head, Job, MAP, MOMENTUM, Peer, WEIGHT_DECAY, XI,
};

#[derive(Module, Debug)]
struct Network {
    low: Option<Linear>,
    convolution: Option<Conv2d>,
    top: Linear,
}

impl Network {
    fn new(head: Head, device: &Device) -> Self {
        let convolution = || Conv2dConfig::new([MAP[0], FEATURES], [1, 1]).init(device);
        let between = if head == Head::Mlp { 128 } else { FEATURES };
        Self {
            low: (head == Head::Mlp).then(|| LinearConfig::new(FEATURES, 128).init(device)),
            convolution: (head == Head::Tail).then(convolution),
            top: LinearConfig::new(between, CLASSES).init(device),
        }
    }

    /// What the top layer sees.
    fn below(&self, inputs: Tensor<2>) -> Tensor<2> {
        if let Some(layer) = &self.low {
            return relu(layer.forward(inputs));
        }
        let Some(layer) = &self.convolution else {
            return inputs;
        };
        let rows = inputs.dims()[0];
        let maps = layer.forward(inputs.reshape([rows, MAP[0], MAP[1], MAP[2]]));
        let flat = maps
            .clamp(0.0, 6.0)
            .reshape([rows, FEATURES, MAP[1] * MAP[2]]);
        flat.mean_dim(2).reshape([rows, FEATURES])
    }

    fn from(&self, lowest: bool, h: Tensor<2>) -> Tensor<2> {
        self.top.forward(if lowest { self.below(h) } else { h })
    }
}

pub struct Burn {
    network: Option<Network>,
    rule: ModuleOptimizer,
    loss: CrossEntropyLoss,
    device: Device,
    job: (Head, bool, f64),
    turn: usize,
}

impl Burn {
    pub fn new(job: &Job, device: Device) -> Self {
        let device = device.autodiff();
        let rule = if job.adamw {
            AdamWConfig::new()
                .with_weight_decay(WEIGHT_DECAY as f32)
                .init()
        } else {
            let momentum = MomentumConfig::new()
                .with_momentum(MOMENTUM)
                .with_dampening(0.0);
            SgdConfig::new()
                .with_momentum(Some(momentum))
                .with_weight_decay(Some(WeightDecayConfig::new(WEIGHT_DECAY as f32)))
                .init()
        };
        Self {
            network: Some(Network::new(job.head, &device)),
            rule,
            loss: CrossEntropyLossConfig::new().init(&device),
            device,
            job: (job.head, job.adversarial, job.learning_rate),
            turn: 0,
        }
    }

    fn tensor(&self, inputs: &[f32]) -> Tensor<2> {
        let width = self.job.0.inputs();
        let data = TensorData::new(inputs.to_vec(), [inputs.len() / width, width]);
        Tensor::from_data(data, &self.device)
    }

    /// `h + r`, with r the direction that changes the output most.
    fn perturbed(
        &self,
        network: &Network,
        lowest: bool,
        h: &Tensor<2>,
        logits: &Tensor<2>,
    ) -> Result<Tensor<2>, Failure> {
        let h = h.clone().detach();
        let [rows, width] = h.dims();
        let norms = h.clone().square().sum_dim(1).sqrt();
        let signs = Tensor::<2>::random(
            [rows, width],
            Distribution::Uniform(-1.0, 1.0),
            &self.device,
        )
        .sign();
        let start = h.clone() + signs * norms.clone().mul_scalar(XI / (width as f64).sqrt());
        let start = start.detach().require_grad();
        let out = network.clone().no_grad().from(lowest, start.clone());
        let clean = log_softmax(logits.clone().detach(), 1);
        let divergence = (clean.clone().exp() * (clean - log_softmax(out, 1))).sum();
        let gradients = divergence.backward();
        let gradient = start.grad(&gradients).ok_or("no gradient of the probe")?;
        let gradient = Tensor::from_inner(gradient);
        let length = gradient
            .clone()
            .square()
            .sum_dim(1)
            .sqrt()
            .add_scalar(1e-30);
        Ok(h + gradient * (norms.mul_scalar(EPSILON) / length))
    }
}

impl Peer for Burn {
    type Batch = (Tensor<2>, Tensor<1, Int>);

    fn batch(&self, inputs: &[f32], labels: &[u16]) -> Result<Self::Batch, Failure> {
        let labels: Vec<i32> = labels.iter().map(|label| i32::from(*label)).collect();
        let count = labels.len();
        let labels = Tensor::from_data(TensorData::new(labels, [count]), &self.device);
        Ok((self.tensor(inputs), labels))
    }

    fn step(&mut self, (inputs, labels): &Self::Batch) -> Result<(), Failure> {
        let network = self.network.take().ok_or("a step failed before")?;
        let (head, adversarial, learning_rate) = self.job;
        let h = network.below(inputs.clone());
        let logits = network.top.forward(h.clone());
        let mut total = self.loss.forward(logits.clone(), labels.clone());
        if adversarial {
            let lowest = self.turn % head.depth() == 0;
            self.turn += 1;
            let below = if lowest { inputs } else { &h };
            let changed = self.perturbed(&network, lowest, below, &logits)?;
            total = total
                + self
                    .loss
                    .forward(network.from(lowest, changed), labels.clone());
        }
        let gradients = GradientsParams::from_grads(total.backward(), &network);
        self.network = Some(self.rule.step(learning_rate, network, gradients));
        Ok(())
    }

    fn logits(&self, inputs: &[f32]) -> Result<Vec<f32>, Failure> {
        let network = self.network.as_ref().ok_or("a step failed before")?;
        let logits = network.from(true, self.tensor(inputs)).into_data();
        logits.try_to_vec().map_err(|error| format!("{error:?}").into())
    }
}

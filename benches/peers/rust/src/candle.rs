//! The heads in candle.

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{
    AdamW, Conv2d, Linear, Module, Optimizer, ParamsAdamW, SGD, VarBuilder, VarMap, conv2d, linear,
    loss, ops,
};

use crate::job::{CLASSES, EPSILON, FEATURES, Failure, Head, Job, MAP, Peer, WEIGHT_DECAY, XI};

/// A layer with weights and what follows it.
enum Stage {
    Dense { layer: Linear, relu: bool },
    Convolution(Conv2d),
}

impl Stage {
    fn forward(&self, h: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Dense { layer, relu } => {
                let out = layer.forward(h)?;
                if *relu { out.relu() } else { Ok(out) }
            }
            Self::Convolution(layer) => layer.forward(h)?.clamp(0.0, 6.0)?.mean((2, 3)),
        }
    }

    /// The same with weights that gradients stop at.
    fn frozen(&self) -> Self {
        match self {
            Self::Dense { layer, relu } => Self::Dense {
                layer: Linear::new(layer.weight().detach(), layer.bias().map(Tensor::detach)),
                relu: *relu,
            },
            Self::Convolution(layer) => Self::Convolution(Conv2d::new(
                layer.weight().detach(),
                layer.bias().map(Tensor::detach),
                *layer.config(),
            )),
        }
    }
}

enum Rule {
    AdamW(AdamW),
    /// candle's has no momentum.
    Sgd(SGD),
}

pub struct Candle {
    stages: Vec<Stage>,
    rule: Rule,
    adversarial: bool,
    head: Head,
    turn: usize,
}

impl Candle {
    pub fn new(job: &Job) -> Result<Self, Failure> {
        let variables = VarMap::new();
        let builder = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
        let dense = |inputs, outputs, relu, name| {
            let layer = linear(inputs, outputs, builder.pp(name))?;
            Ok::<_, candle_core::Error>(Stage::Dense { layer, relu })
        };
        let stages = match job.head {
            Head::Linear => vec![dense(FEATURES, CLASSES, false, "top")?],
            Head::Mlp => vec![
                dense(FEATURES, 128, true, "low")?,
                dense(128, CLASSES, false, "top")?,
            ],
            Head::Tail => vec![
                Stage::Convolution(conv2d(
                    MAP[0],
                    FEATURES,
                    1,
                    Default::default(),
                    builder.pp("low"),
                )?),
                dense(FEATURES, CLASSES, false, "top")?,
            ],
        };
        let trained = variables.all_vars();
        let rule = if job.adamw {
            Rule::AdamW(AdamW::new(
                trained,
                ParamsAdamW {
                    lr: job.learning_rate,
                    weight_decay: WEIGHT_DECAY,
                    ..Default::default()
                },
            )?)
        } else {
            Rule::Sgd(SGD::new(trained, job.learning_rate)?)
        };
        Ok(Self {
            stages,
            rule,
            adversarial: job.adversarial,
            head: job.head,
            turn: 0,
        })
    }

    fn tensor(&self, inputs: &[f32]) -> candle_core::Result<Tensor> {
        let rows = inputs.len() / self.head.inputs();
        if self.head == Head::Tail {
            Tensor::from_slice(inputs, (rows, MAP[0], MAP[1], MAP[2]), &Device::Cpu)
        } else {
            Tensor::from_slice(inputs, (rows, FEATURES), &Device::Cpu)
        }
    }

    /// `h + r`, with r the direction that changes the output most.
    fn perturbed(&self, layer: usize, h: &Tensor, logits: &Tensor) -> candle_core::Result<Tensor> {
        let shape = h.shape().clone();
        let rows = shape.dims()[0];
        let width = shape.elem_count() / rows;
        let flat = h.detach().reshape((rows, width))?;
        let norms = flat.sqr()?.sum_keepdim(1)?.sqrt()?;
        let signs = Tensor::rand(-1f32, 1f32, (rows, width), &Device::Cpu)?.sign()?;
        let probe = signs.broadcast_mul(&(&norms * (XI / (width as f64).sqrt()))?)?;
        let start = Var::from_tensor(&(&flat + probe)?)?;
        let mut out = start.reshape(shape.clone())?;
        for stage in &self.stages[layer..] {
            out = stage.frozen().forward(&out)?;
        }
        let clean = ops::log_softmax(&logits.detach(), 1)?;
        let apart = (&clean - ops::log_softmax(&out, 1)?)?;
        let divergence = (clean.exp()? * apart)?.sum_all()?;
        let gradients = divergence.backward()?;
        let missing = || candle_core::Error::Msg("no gradient of the probe".into());
        let gradient = gradients.get(&start).ok_or_else(missing)?;
        let length = (gradient.sqr()?.sum_keepdim(1)?.sqrt()? + 1e-30)?;
        let scale = (norms * EPSILON)?.div(&length)?;
        (flat + gradient.broadcast_mul(&scale)?)?.reshape(shape)
    }
}

impl Peer for Candle {
    type Batch = (Tensor, Tensor);

    fn batch(&self, inputs: &[f32], labels: &[u16]) -> Result<Self::Batch, Failure> {
        let labels: Vec<u32> = labels.iter().map(|label| u32::from(*label)).collect();
        let labels = Tensor::from_slice(&labels, labels.len(), &Device::Cpu)?;
        Ok((self.tensor(inputs)?, labels))
    }

    fn step(&mut self, (inputs, labels): &Self::Batch) -> Result<(), Failure> {
        let mut tensors = vec![inputs.clone()];
        for stage in &self.stages {
            tensors.push(stage.forward(&tensors[tensors.len() - 1])?);
        }
        let logits = &tensors[tensors.len() - 1];
        let mut total = loss::cross_entropy(logits, labels)?;
        if self.adversarial {
            let layer = self.turn % self.head.depth();
            self.turn += 1;
            let mut out = self.perturbed(layer, &tensors[layer], logits)?;
            for stage in &self.stages[layer..] {
                out = stage.forward(&out)?;
            }
            total = (total + loss::cross_entropy(&out, labels)?)?;
        }
        match &mut self.rule {
            Rule::AdamW(rule) => rule.backward_step(&total)?,
            Rule::Sgd(rule) => rule.backward_step(&total)?,
        }
        Ok(())
    }

    fn logits(&self, inputs: &[f32]) -> Result<Vec<f32>, Failure> {
        let mut out = self.tensor(inputs)?;
        for stage in &self.stages {
            out = stage.forward(&out)?;
        }
        Ok(out.flatten_all()?.to_vec1()?)
    }
}

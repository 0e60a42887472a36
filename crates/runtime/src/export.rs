//! A head, with its backbone or alone, as an ONNX file that other programs run: its
//! output is the probabilities that `predict` gives. How the file is put together is in
//! `backbone/export.rs`; here it is decided what goes in, said in the file's metadata what
//! it is, and made sure that it gives the right numbers.
//!
//! `predict` averages the features of several views of a sample. The mirror image is made
//! inside the file; the near and the far view are cut out of the picture anew, so each is
//! an input of its own, and the metadata says how it is made. A head that reads maps judges
//! each view, and its file averages logits, as `predict` does.

use std::path::Path;

use fieldtune_core::Kernel;
use serde::Serialize;
use serde_json::{Value, json};

use crate::backbone::export::{Merge, Parts, head_alone, taps};

use crate::error::{Error, ErrorKind, Result};
use crate::features::LazyBackbone;
use crate::head::{Head, Prediction};
use crate::manifest::{Input, Layout, Manifest, hexadecimal};
use crate::preprocess::View;
use crate::senses::{Kind, Sense};
use crate::session::{Session, head_identity};
use crate::views::ViewSet;

pub use crate::backbone::export::Runner;

/// Probabilities of an exported file and of `predict` may differ by this much.
pub const TOLERANCE: f32 = 1e-4;

/// Made-up samples on which every export is compared with the head it was made from.
const TRIALS: usize = 3;

/// What is exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Without the backbone: the input is features.
    pub head_only: bool,
    /// Only these of the views that the head predicts from; `None`: all.
    pub views: Option<ViewSet>,
    /// A second output that tells samples of no class.
    pub unknown: bool,
}

/// An input of an exported file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExportInput {
    /// Its name.
    pub name: String,
    /// Which view of the sample it takes, or the features of which; `None`: features,
    /// averaged over all views.
    pub view: Option<&'static str>,
    /// Its shape without the batch axis.
    pub shape: Vec<usize>,
}

/// An exported file.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// The ONNX file.
    pub bytes: Vec<u8>,
    /// Its inputs.
    pub inputs: Vec<ExportInput>,
    /// Names of its outputs: probabilities `[N, K]`, then, if asked for, the score `[N]`.
    pub outputs: Vec<String>,
    /// The views whose features it averages.
    pub views: ViewSet,
    /// Whether it gives what `predict` gives; else it looks at fewer views.
    pub as_predict: bool,
    /// The furthest that a probability was from the head's own in the comparison.
    pub largest_difference: f32,
}

impl Session {
    /// Makes an ONNX file of a head and this session's backbone, and runs it to make sure
    /// that it gives the head's probabilities.
    ///
    /// # Errors
    /// `Mismatch` when the head belongs to another backbone; `Usage` when the head has a
    /// layer that cannot be exported, or knows nothing of unknown samples and should;
    /// `BadInput` when the backbone cannot be read; `Failed` when the file gives other
    /// probabilities.
    pub fn export(&self, head: &Head, head_path: &Path, options: Options) -> Result<Exported> {
        if options.unknown && !head.unknown.as_file().is_known() {
            let what = "does not know where its classes lie, so it cannot tell other samples";
            let remedy = "train it again, or leave --unknown out";
            return Err(Error::at(ErrorKind::Usage, head_path, what, remedy));
        }
        if options.head_only {
            return alone(head, head_path, &options, self.kernel());
        }
        let sense = Sense::of_identity(&head.backbone.preprocessing);
        if sense.kind() != Kind::Picture {
            let what = format_args!(
                "was trained on {}, whose features are not made in an ONNX file",
                sense.kind().plural()
            );
            let remedy = "give --head-only: features in, probabilities out";
            return Err(Error::at(ErrorKind::Usage, head_path, what, remedy));
        }
        let backbone = self.model().cut_at(&head.backbone.cut)?;
        head.require(&head_identity(&backbone, head), head_path)?;
        let job = Job {
            head,
            head_path,
            backbone: &backbone,
            options: &options,
            views: options
                .views
                .map_or(head.views, |only| head.views.intersection(only)),
        };
        job.merged(self.kernel())
    }
}

fn parts<'a>(head: &'a Head, options: &Options) -> Parts<'a> {
    Parts {
        transform: head.fitted.transform(),
        network: &head.network,
        parameters: &head.parameters,
        temperature: head.temperature,
        unknown: options.unknown.then(|| head.unknown.as_file()),
    }
}

/// The inputs of a head alone: averaged features, or one view's for each input.
fn features_in(head: &Head, views: ViewSet) -> Vec<ExportInput> {
    let input = |view: Option<View>| ExportInput {
        name: match view {
            Some(view) if views.count() > 1 => format!("features_{}", view.name()),
            _ => "features".into(),
        },
        view: view.map(|view| view.name()),
        shape: vec![head.backbone.features],
    };
    match head.reads_map() {
        true => views.views().map(|view| input(Some(view))).collect(),
        false => vec![input(None)],
    }
}

fn alone(head: &Head, path: &Path, options: &Options, kernel: Kernel) -> Result<Exported> {
    let views = match options.views {
        Some(only) if head.reads_map() => head.views.intersection(only),
        _ => head.views,
    };
    let inputs = features_in(head, views);
    let mut metadata = said(head, options, &inputs);
    let text = match head.reads_map() {
        true => "features at `backbone.cut` of each view in `views`, one input each",
        false => "features at `backbone.cut`, averaged over the views in `views`",
    };
    metadata.push(("input".into(), text.into()));
    metadata.push(("views".into(), json!(views).to_string()));
    let names: Vec<String> = inputs.iter().map(|input| input.name.clone()).collect();
    let (bytes, outputs) = head_alone(path, &names, &parts(head, options), &metadata)?;
    let mut exported = Exported {
        bytes,
        inputs,
        outputs,
        views,
        as_predict: views == head.views,
        largest_difference: 0.0,
    };
    let runner = Runner::new(&exported.bytes, path, &exported.shapes())?;
    for trial in 0..TRIALS {
        let row = |input: usize| {
            let mut row = noise(trial + TRIALS * input, head.backbone.features);
            // As after a ReLU.
            row.iter_mut().for_each(|value| *value = value.max(0.0));
            row
        };
        let rows: Vec<Vec<f32>> = (0..exported.inputs.len()).map(row).collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let wanted = head.predict_views(&rows, kernel)?;
        exported.compare(path, runner.run(&rows)?, &wanted)?;
    }
    Ok(exported)
}

impl Exported {
    /// Names and shapes of the inputs, with a batch of one.
    pub fn shapes(&self) -> Vec<(&str, Vec<usize>)> {
        let shape = |input: &ExportInput| [&[1], &input.shape[..]].concat();
        let inputs = self.inputs.iter();
        inputs
            .map(|input| (input.name.as_str(), shape(input)))
            .collect()
    }

    /// Whether the file's outputs for a sample are what the head says.
    fn compare(&mut self, path: &Path, found: Vec<Vec<f32>>, wanted: &[Prediction]) -> Result<()> {
        let found = found.first().map_or(&[][..], Vec::as_slice);
        let wanted = wanted.first().map_or(&[][..], |it| &it.probabilities);
        let same_size = found.len() == wanted.len() && !found.is_empty();
        for (found, wanted) in found.iter().zip(wanted) {
            let difference = (found - wanted).abs();
            // Not a number is not within either.
            let within = difference <= TOLERANCE;
            if !within || !same_size {
                let what = format_args!(
                    "its ONNX file gives a probability of {found} where the head gives {wanted}"
                );
                let remedy = "report it, with the backbone and this head";
                return Err(Error::at(ErrorKind::Failed, path, what, remedy));
            }
            self.largest_difference = self.largest_difference.max(difference);
        }
        Ok(())
    }
}

/// One export with its backbone.
struct Job<'a> {
    head: &'a Head,
    head_path: &'a Path,
    backbone: &'a LazyBackbone,
    options: &'a Options,
    views: ViewSet,
}

impl Job<'_> {
    fn merged(&self, kernel: Kernel) -> Result<Exported> {
        let manifest = self.backbone.manifest();
        let input = &manifest.input;
        // Refuses hostile and damaged files before their parts are put together.
        self.backbone.get()?;
        let onnx = self.backbone.bytes()?;
        let file = Path::new(&manifest.file);
        let shape = (input.layout, input.width);
        let taps = taps(&onnx, file, self.backbone.cut())?;
        let merge = Merge::new(&onnx, file, &taps, self.views.views(), shape)?;
        let named = merge.inputs().iter();
        let inputs: Vec<ExportInput> = named
            .map(|(view, name)| ExportInput {
                name: name.clone(),
                view: Some(view.name()),
                shape: input.shape().to_vec(),
            })
            .collect();
        let views: Vec<View> = merge.inputs().iter().map(|(view, _)| *view).collect();
        let mut metadata = said(self.head, self.options, &inputs);
        metadata.push(("views".into(), json!(self.views).to_string()));
        metadata.push(("agreement".into(), self.agreement()));
        metadata.push((
            "preprocessing".into(),
            preprocessing(manifest, &inputs, &views).to_string(),
        ));
        for (key, text) in [
            ("backbone.license", &manifest.license),
            ("backbone.source", &manifest.source),
        ] {
            if !text.is_empty() {
                metadata.push((key.into(), text.clone()));
            }
        }
        let (bytes, outputs) = merge.finish(&parts(self.head, self.options), &metadata)?;
        let mut exported = Exported {
            bytes,
            inputs,
            outputs,
            views: self.views,
            as_predict: self.views == self.head.views,
            largest_difference: 0.0,
        };
        self.try_out(&mut exported, &views, kernel)?;
        Ok(exported)
    }

    /// In words, for the file's metadata.
    fn agreement(&self) -> String {
        let own = self.head.views;
        if self.views == own {
            return format!("gives what `fieldtune predict` gives: from {own}");
        }
        format!(
            "looks at {} only, so that its probabilities differ from those of `fieldtune predict`, which uses {own}",
            self.views
        )
    }

    /// Runs file, backbone and head on made-up samples.
    fn try_out(&self, exported: &mut Exported, views: &[View], kernel: Kernel) -> Result<()> {
        let input = &self.backbone.manifest().input;
        let mut worker = self.backbone.get()?.worker()?;
        let runner = Runner::new(&exported.bytes, self.head_path, &exported.shapes())?;
        for trial in 0..TRIALS {
            let mut rows = Vec::new();
            let mut add = |tensor: &[f32]| -> Result<()> {
                let mut row = vec![0.0; self.head.backbone.features];
                worker.run(tensor, &mut row)?;
                rows.push(row);
                Ok(())
            };
            let mut tensors = Vec::new();
            for view in views {
                let tensor = noise(trial + TRIALS * tensors.len(), input.elements());
                add(&tensor)?;
                if *view == View::Original && self.views.contains(View::Mirrored) {
                    add(&mirrored(&tensor, input))?;
                }
                tensors.push(tensor);
            }
            let tensors: Vec<&[f32]> = tensors.iter().map(Vec::as_slice).collect();
            if !self.head.reads_map() {
                rows = vec![mean(&rows)];
            }
            let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            let wanted = self.head.predict_views(&rows, kernel)?;
            exported.compare(self.head_path, runner.run(&tensors)?, &wanted)?;
        }
        Ok(())
    }
}

fn mean(rows: &[Vec<f32>]) -> Vec<f32> {
    let share = 1.0 / rows.len() as f32;
    let mut mean = vec![0.0; rows.first().map_or(0, Vec::len)];
    for row in rows {
        let pairs = mean.iter_mut().zip(row);
        pairs.for_each(|(mean, value)| *mean += share * value);
    }
    mean
}

/// What metadata says of every export.
fn said(head: &Head, options: &Options, inputs: &[ExportInput]) -> Vec<(String, String)> {
    let trained = &head.trained;
    let samples: Value = head
        .labels
        .iter()
        .zip(&trained.samples)
        .map(|(label, samples)| (label.clone(), json!(samples)))
        .collect();
    let backbone = &head.backbone;
    let mut said = vec![
        ("labels", json!(head.labels).to_string()),
        ("inputs", json!(inputs).to_string()),
        ("program", trained.program.clone()),
        ("recipe", trained.recipe.clone()),
        ("seed", trained.seed.to_string()),
        ("samples", samples.to_string()),
        ("backbone.name", backbone.name.clone()),
        ("backbone.sha256", hexadecimal(&backbone.sha256)),
        ("backbone.cut", backbone.cut.clone()),
        ("backbone.features", backbone.features.to_string()),
        ("backbone.preprocessing", backbone.preprocessing.clone()),
    ];
    if let Some(cv) = trained.cross_validation {
        let text = json!({"accuracy": cv.accuracy, "low": cv.low, "high": cv.high, "n": cv.n});
        said.push(("cross_validation", text.to_string()));
    }
    if options.unknown {
        said.push(("unknown_above", head.unknown.threshold.to_string()));
    }
    said.into_iter()
        .map(|(key, text)| (key.into(), text))
        .collect()
}

/// How a picture becomes the inputs, as JSON.
fn preprocessing(manifest: &Manifest, inputs: &[ExportInput], views: &[View]) -> Value {
    let crops: Value = inputs
        .iter()
        .zip(views)
        .map(|(input, view)| {
            (
                input.name.clone(),
                json!(view.crop(&manifest.preprocessing)),
            )
        })
        .collect();
    json!({
        "layout": manifest.input.layout,
        "height": manifest.input.height,
        "width": manifest.input.width,
        "value": "(level - mean) * scale, of levels 0 to 255",
        "settings": manifest.preprocessing,
        "crops": crops,
    })
}

/// Values like those of a picture around 0, the same for the same seed.
fn noise(seed: usize, elements: usize) -> Vec<f32> {
    let mut state = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        // xorshift64 (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    // Slow changes with a little noise: nearer to pictures than noise alone.
    let period = 40.0 * (seed + 1) as f32;
    (0..elements)
        .map(|i| 0.7 * (i as f32 / period).sin() + 0.3 * next())
        .collect()
}

/// Left and right of one sample swapped.
fn mirrored(tensor: &[f32], input: &Input) -> Vec<f32> {
    let step = match input.layout {
        Layout::Nchw => 1,
        Layout::Nhwc => input.channels,
    };
    let rows = tensor.chunks_exact(input.width * step);
    rows.flat_map(|row| row.chunks_exact(step).rev().flatten())
        .copied()
        .collect()
}

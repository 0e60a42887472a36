//! `fieldtune inspect`.

use std::borrow::Cow;
use std::path::Path;

use fieldtune::budget::format_size;
use fieldtune::error::Result;
use fieldtune::inspect::{Inspection, inspect};
use fieldtune::manifest::{Layout, Manifest};
use fieldtune::model::Model;
use fieldtune::{features, store};
use serde_json::json;

use crate::args::InspectArgs;
use crate::{print, settings};

/// Lists the tensors where a model can be cut.
///
/// # Errors
/// Whatever went wrong.
pub fn run(args: &InspectArgs) -> Result<()> {
    let embedded = args.model == Path::new("embedded");
    let (bytes, manifest) = if embedded {
        (
            Cow::Borrowed(Model::embedded_bytes()),
            Some(Model::embedded()?.manifest().clone()),
        )
    } else {
        let bytes = store::read(&args.model, features::MAX_BACKBONE_BYTES)?;
        (Cow::Owned(bytes), Manifest::beside(&args.model)?)
    };
    let given = args
        .input
        .as_deref()
        .map(|text| settings::input(text, Layout::Nchw))
        .transpose()?;
    let input = given.or(manifest.map(|manifest| manifest.input));
    let found = inspect(&bytes, &args.model, input.as_ref())?;
    if args.json {
        return print::document(&json!({
            "input": found.input,
            "output": found.output,
            "cuts": found.cuts,
            "macs": found.macs,
            "parameters": found.parameters,
        }));
    }
    print::text(&table(&found))
}

fn table(found: &Inspection) -> String {
    let mut out = format!(
        "input {} {:?}, output {}, {:.0} million multiply-adds, {:.2} million parameters\n\n",
        found.input.tensor,
        found.input.shape,
        found.output,
        found.macs as f64 / 1e6,
        found.parameters as f64 / 1e6
    );
    let width = found
        .cuts
        .iter()
        .map(|cut| cut.tensor.len())
        .max()
        .unwrap_or(0)
        .clamp(6, 50);
    out += &format!(
        "{:width$}  {:>16}  {:>10}  {:>9}  tail\n",
        "tensor", "shape", "a sample", "MACs left"
    );
    for cut in &found.cuts {
        let shape = format!("{:?}", cut.shape);
        let left = 100.0 * cut.macs_after as f64 / found.macs.max(1) as f64;
        let size = format_size(cut.bytes_per_sample as u64);
        out += &format!(
            "{:width$}  {shape:>16}  {size:>10}  {left:>8.1}%  {}\n",
            cut.tensor, cut.reason
        );
    }
    out
}

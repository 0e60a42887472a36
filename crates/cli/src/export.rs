//! `fieldtune export`.

use fieldtune::error::{Error, ErrorKind, Result};
use fieldtune::export::{ExportInput, Exported, Options};
use fieldtune::head::Head;
use fieldtune::store;
use serde_json::json;

use crate::args::ExportArgs;
use crate::{print, settings};

/// Writes a head, with or without its backbone, as an ONNX file.
///
/// # Errors
/// Whatever went wrong.
pub fn run(args: &ExportArgs) -> Result<()> {
    if args.output == args.head {
        let what = "-o names the head itself; give the ONNX file another name";
        return Err(Error::new(ErrorKind::Usage, what));
    }
    let head = Head::load(&args.head)?;
    let options = Options {
        head_only: args.head_only,
        views: args.views.and_then(settings::views),
        unknown: args.unknown,
    };
    let exported = settings::using(&args.backbone)?.export(&head, &args.head, options)?;
    store::write_atomically(&args.output, &exported.bytes)?;
    if args.json {
        return print::document(&json!({
            "file": args.output.to_string_lossy(),
            "bytes": exported.bytes.len(),
            "inputs": exported.inputs,
            "outputs": exported.outputs,
            "labels": head.labels,
            "views": exported.views,
            "as_predict": exported.as_predict,
            "largest_difference": exported.largest_difference,
        }));
    }
    print::text(&text(args, &exported, &head))
}

fn text(args: &ExportArgs, exported: &Exported, head: &Head) -> String {
    let megabytes = exported.bytes.len() as f64 / 1e6;
    let name = args.output.display();
    let mut out = print::line(&format!("{name}: {megabytes:.2} MB"));
    for input in &exported.inputs {
        out += &format!("  input {}\n", described(input));
    }
    let classes = head.labels.len();
    for (output, shape) in exported
        .outputs
        .iter()
        .zip([format!("[N, {classes}]"), "[N]".into()])
    {
        out += &format!("  output {output} {shape}\n");
    }
    out += &format!(
        "run on made-up inputs, its probabilities are within {:.0e} of the head's\n",
        exported.largest_difference.max(1e-9)
    );
    if !exported.as_predict {
        out += &format!(
            "it looks at {} only; `fieldtune predict` uses {}, so its probabilities differ\n",
            exported.views, head.views
        );
    }
    out
}

fn described(input: &ExportInput) -> String {
    let sizes: Vec<String> = input.shape.iter().map(ToString::to_string).collect();
    let what = match input.view {
        Some(view) if input.shape.len() == 1 => format!("features of the {view} view"),
        Some(view) => format!("the {view} view"),
        None => "features, averaged over all views".into(),
    };
    format!("{} [N, {}]: {what}", input.name, sizes.join(", "))
}

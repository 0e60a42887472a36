//! Which input takes the sample, and the fixed sizes and values of all inputs. Works on
//! the ONNX file before tract sees it, so that no symbol and no open size is left.

use std::collections::BTreeMap;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto};

use super::graph::elements;
use super::guard::shortened;
use super::onnx::Document;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Input, Layout};

/// What is said about the inputs of a network from outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// The input that takes the sample; without it the file must declare its size.
    pub input: Option<&'a Input>,
    /// Values of the other inputs.
    pub fixed: &'a BTreeMap<String, f32>,
}

/// The input that takes the sample.
#[derive(Clone, Debug)]
pub(super) struct Pinned {
    pub name: String,
    /// With a batch axis of 1.
    pub shape: Vec<usize>,
}

/// Fixes the sample's input to a batch of 1 and makes constants of all others.
pub(super) fn pin(document: &mut Document, wanted: Wanted<'_>) -> Result<Pinned> {
    let file = document.file.clone();
    let wrong = |what: String| {
        let remedy = "correct the manifest's `input` or the flags";
        Error::at(ErrorKind::BadInput, &file, what, remedy)
    };
    let name = sample_input(document, wanted)?;
    let inputs = std::mem::take(&mut document.graph.input);
    let stored = document
        .graph
        .initializer
        .iter()
        .map(|tensor| tensor.name.clone());
    let stored: std::collections::HashSet<String> = stored.collect();
    let mut pinned = None;
    // An initialiser that is listed as an input too is a constant like any other.
    for mut input in inputs
        .into_iter()
        .filter(|input| !stored.contains(&input.name))
    {
        let (element, sizes) = declared(&input);
        if input.name == name {
            let shape = pinned_shape(sizes, wanted.input).map_err(wrong)?;
            input.r#type = Some(tensor_type(element, &shape));
            document.graph.input.push(input);
            pinned = Some(Pinned {
                name: name.clone(),
                shape,
            });
        } else {
            let value = wanted.fixed.get(&input.name).copied();
            let value = value.ok_or_else(|| needs_value(&file, &input.name))?;
            let constant = constant(&input.name, element, sizes, value).map_err(wrong)?;
            document.graph.initializer.push(constant);
        }
    }
    pinned.ok_or_else(|| {
        wrong(format!(
            "makes the cut without its input \"{}\"",
            shortened(&name, 80)
        ))
    })
}

fn needs_value(file: &std::path::Path, name: &str) -> Error {
    let name = shortened(name, 80);
    let what = format_args!("also takes the input \"{name}\"");
    let remedy = format_args!("give it a fixed value, as in --fixed-input {name}=0");
    Error::at(ErrorKind::BadInput, file, what, remedy)
}

/// The name of the input that takes the sample.
fn sample_input(document: &Document, wanted: Wanted<'_>) -> Result<String> {
    let wrong = |what: String, remedy: &str| Err(document.wrong(what, remedy));
    let listed = |names: &[&String]| {
        let names: Vec<String> = names
            .iter()
            .map(|name| format!("\"{}\"", shortened(name, 80)))
            .collect();
        names.join(", ")
    };
    let all: Vec<&String> = document.declared.iter().collect();
    if let Some(unknown) = wanted
        .fixed
        .keys()
        .find(|name| !document.declared.contains(name))
    {
        let unknown = shortened(unknown, 80);
        let what = format!(
            "has the inputs {}, no \"{unknown}\" to give a value",
            listed(&all)
        );
        return wrong(what, "correct `fixed_inputs` or --fixed-input");
    }
    let tensor = wanted.input.map_or("", |input| input.tensor.as_str());
    if !tensor.is_empty() {
        if document.declared.iter().any(|name| name == tensor) {
            return Ok(tensor.into());
        }
        let what = match all.as_slice() {
            [only] => format!("has the input \"{only}\", the manifest says \"{tensor}\""),
            _ => format!(
                "has the inputs {}, the manifest says \"{tensor}\"",
                listed(&all)
            ),
        };
        return wrong(what, "correct the manifest's `input` or the flags");
    }
    let open = |name: &&String| !wanted.fixed.contains_key(name.as_str());
    let used = |name: &&String| {
        document
            .graph
            .input
            .iter()
            .any(|input| input.name == **name)
    };
    let candidates: Vec<&String> = all.iter().copied().filter(open).filter(used).collect();
    match candidates.as_slice() {
        [only] => Ok((*only).clone()),
        [] if all.is_empty() => wrong("has no input".into(), "export the network again"),
        [] => wrong(
            "makes the cut without any of its inputs".into(),
            "choose another cut with `fieldtune inspect`",
        ),
        several => {
            let what = format!("has {} inputs: {}", several.len(), listed(several));
            let remedy = "name the one that takes the sample, as in --input NAME:CxHxW";
            wrong(what, remedy)
        }
    }
}

/// Element type and sizes that a file declares; `None` where it leaves them open.
fn declared(input: &ValueInfoProto) -> (i32, Option<Vec<Option<usize>>>) {
    let value = input.r#type.as_ref().and_then(|it| it.value.as_ref());
    let Some(type_proto::Value::TensorType(tensor)) = value else {
        return (DataType::Float as i32, None);
    };
    let size = |dim: &Dimension| match dim.value {
        Some(dimension::Value::DimValue(size)) => {
            usize::try_from(size).ok().filter(|size| *size > 0)
        }
        _ => None,
    };
    let sizes = tensor
        .shape
        .as_ref()
        .map(|shape| shape.dim.iter().map(size).collect());
    (tensor.elem_type, sizes)
}

fn tensor_type(element: i32, shape: &[usize]) -> TypeProto {
    let dim = |size: &usize| Dimension {
        value: Some(dimension::Value::DimValue(*size as i64)),
        ..Dimension::default()
    };
    let shape = TensorShapeProto {
        dim: shape.iter().map(dim).collect(),
    };
    TypeProto {
        value: Some(type_proto::Value::TensorType(type_proto::Tensor {
            elem_type: element,
            shape: Some(shape),
        })),
        ..TypeProto::default()
    }
}

/// An input that always holds the same: open sizes are 1.
fn constant(
    name: &str,
    element: i32,
    sizes: Option<Vec<Option<usize>>>,
    value: f32,
) -> std::result::Result<TensorProto, String> {
    let shown = shortened(name, 80);
    let sizes: Vec<usize> = sizes
        .into_iter()
        .flatten()
        .map(|size| size.unwrap_or(1))
        .collect();
    let count =
        elements(&sizes).ok_or_else(|| format!("has an input \"{shown}\" that is too large"))?;
    let mut tensor = TensorProto {
        name: name.into(),
        data_type: element,
        dims: sizes.iter().map(|size| *size as i64).collect(),
        ..TensorProto::default()
    };
    match DataType::try_from(element) {
        Ok(DataType::Float) => tensor.float_data = vec![value; count],
        Ok(DataType::Double) => tensor.double_data = vec![f64::from(value); count],
        Ok(DataType::Int64) => tensor.int64_data = vec![value as i64; count],
        Ok(
            DataType::Int32 | DataType::Int16 | DataType::Int8 | DataType::Uint8 | DataType::Bool,
        ) => {
            tensor.int32_data = vec![value as i32; count];
        }
        _ => {
            return Err(format!(
                "has an input \"{shown}\" of a type that takes no fixed value"
            ));
        }
    }
    Ok(tensor)
}

/// The sample input's shape with a batch of 1: from the manifest, which must agree with
/// what the file declares but for axes of 1, or from the file alone.
fn pinned_shape(
    declared: Option<Vec<Option<usize>>>,
    wanted: Option<&Input>,
) -> std::result::Result<Vec<usize>, String> {
    let Some(input) = wanted else {
        let sizes = declared.filter(|sizes| !sizes.is_empty());
        let sizes = sizes.ok_or("declares no shape for its input; write a manifest")?;
        let rest: Option<Vec<usize>> = sizes.iter().skip(1).copied().collect();
        let mut shape = rest.ok_or("leaves the size of its input open; write a manifest")?;
        shape.insert(0, 1);
        return bounded(shape);
    };
    let mut shape = vec![1];
    shape.extend(input.shape());
    if let Some(sizes) = declared {
        shape = fitted(&sizes, &shape).ok_or_else(|| disagreement(&sizes, &shape, input))?;
    }
    bounded(shape)
}

/// `shape` with as many axes as `sizes`, if the two agree. Axes of 1 behind the batch may
/// be missing on either side: a recording of [1, 16000] is an image of one channel and row.
fn fitted(sizes: &[Option<usize>], shape: &[usize]) -> Option<Vec<usize>> {
    let agrees = |size: &Option<usize>, wanted: &usize| size.is_none_or(|size| size == *wanted);
    if sizes.len() == shape.len() {
        let mut pairs = sizes.iter().zip(shape).skip(1);
        return pairs
            .all(|(size, wanted)| agrees(size, wanted))
            .then(|| shape.to_vec());
    }
    let (_, sizes) = sizes.split_first()?;
    let mut wanted = shape.iter().skip(1).filter(|size| **size != 1).copied();
    let open = sizes.iter().filter(|size| size.is_none()).count();
    let long = wanted.clone().count();
    let fixed = sizes.iter().flatten().filter(|size| **size != 1).count();
    let mut spare = (open + fixed).checked_sub(long)?;
    let mut fitted = vec![1];
    for size in sizes {
        let next = match size {
            Some(1) => 1,
            Some(size) => wanted.next().filter(|next| next == size)?,
            None if spare > 0 => {
                spare -= 1;
                1
            }
            None => wanted.next()?,
        };
        fitted.push(next);
    }
    (wanted.next().is_none() && spare == 0).then_some(fitted)
}

fn disagreement(sizes: &[Option<usize>], shape: &[usize], input: &Input) -> String {
    let size = |size: &Option<usize>| size.map_or("?".into(), |size| size.to_string());
    let sizes: Vec<String> = sizes.iter().map(size).collect();
    let layout = match input.layout {
        Layout::Nchw => "nchw",
        Layout::Nhwc => "nhwc",
    };
    let sizes = sizes.join(", ");
    format!("has an input of [{sizes}], the manifest says {shape:?} ({layout})")
}

fn bounded(shape: Vec<usize>) -> std::result::Result<Vec<usize>, String> {
    match elements(&shape) {
        Some(_) => Ok(shape),
        None => Err(format!("has an input of {shape:?}, which is too large")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_of_one_may_be_missing() {
        let fit = |sizes: &[usize], shape: &[usize]| {
            let sizes: Vec<Option<usize>> = sizes
                .iter()
                .map(|size| Some(*size).filter(|size| *size > 0))
                .collect();
            fitted(&sizes, shape)
        };
        assert_eq!(fit(&[0, 3, 8, 8], &[1, 3, 8, 8]), Some(vec![1, 3, 8, 8]));
        assert_eq!(fit(&[0, 3, 0, 0], &[1, 3, 8, 9]), Some(vec![1, 3, 8, 9]));
        assert_eq!(fit(&[0, 16000], &[1, 1, 1, 16000]), Some(vec![1, 16000]));
        assert_eq!(
            fit(&[5, 1, 16000], &[1, 1, 1, 16000]),
            Some(vec![1, 1, 16000])
        );
        assert_eq!(fit(&[0, 0, 0], &[1, 1, 40, 101]), Some(vec![1, 40, 101]));
        assert_eq!(fit(&[0, 40, 101], &[1, 1, 101, 40]), None);
        assert_eq!(fit(&[0, 3, 8], &[1, 3, 8, 8]), None);
        assert_eq!(fit(&[], &[1, 3, 8, 8]), None);
    }
}

//! How large the results of one node can be, from the shapes and constants it reads,
//! before tract works on it: tract computes constants while it infers shapes, and sizes in
//! 64 bits wrap around. Bounds from above; a real network is far below them. Numbers are
//! `f64`, which cannot wrap.

use tract_onnx::pb::NodeProto;

/// What is known of a node's inputs. Positions are those of the ONNX node.
pub(super) trait Known {
    /// Sizes of an input, if they are fixed.
    fn shape(&self, input: usize) -> Option<Vec<f64>>;
    /// Numbers of an input, if it is a constant of at most a few thousand elements.
    fn values(&self, input: usize) -> Option<Vec<f64>>;
    /// Whether every input is a constant.
    fn constant(&self) -> bool;
}

/// Operators whose result has the broadcast shape of their inputs.
const BROADCAST: [&str; 25] = [
    "Add",
    "And",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Div",
    "Equal",
    "Expand",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Sub",
    "Sum",
    "Where",
    "Xor",
];

/// Operators that are bounded by a product of everything they read, where they read
/// constants only.
const PRODUCT: [&str; 9] = [
    "ArrayFeatureExtractor",
    "Attention",
    "GatherND",
    "GridSample",
    "MelWeightMatrix",
    "MultiHeadAttention",
    "NonMaxSuppression",
    "STFT",
    "Scan",
];

/// Most elements that one result of `node` can have; `None` where nothing speaks for more
/// than it reads.
pub(super) fn most_elements(node: &NodeProto, known: &dyn Known) -> Option<f64> {
    let elements = |input: usize| known.shape(input).map(|shape| product(&shape));
    let values = |input: usize| known.values(input);
    match node.op_type.as_str() {
        "ConstantOfShape" | "RandomNormal" | "RandomUniform" => {
            let shape = values(0).or_else(|| ints(node, "shape"))?;
            Some(product(&shape))
        }
        "Expand" => Some(broadcast(&[known.shape(0)?, values(1)?])),
        "Tile" => Some(elements(0)? * product(&values(1)?)),
        "Range" => {
            let ends = [0, 1, 2].map(|input| values(input)?.first().copied());
            let [Some(start), Some(limit), Some(step)] = ends else {
                return None;
            };
            Some(((limit - start) / step).abs())
        }
        "OneHot" => Some(elements(0)? * values(1)?.first()?.abs()),
        "BlackmanWindow" | "HammingWindow" | "HannWindow" => Some(values(0)?.first()?.abs()),
        "Pad" => {
            let pads = values(1)
                .or_else(|| ints(node, "pads"))
                .or_else(|| ints(node, "paddings"))?;
            Some(padded(&known.shape(0)?, &pads))
        }
        "Resize" | "Upsample" => resized(node, known),
        "Conv" | "ConvInteger" => window(node, &known.shape(0)?, *known.shape(1)?.first()?),
        "QLinearConv" => window(node, &known.shape(0)?, *known.shape(3)?.first()?),
        "AveragePool" | "MaxPool" | "LpPool" => {
            window(node, &known.shape(0)?, *known.shape(0)?.get(1)?)
        }
        "ConvTranspose" => transposed(node, known),
        "MatMul" | "MatMulInteger" => matrix_product(&known.shape(0)?, &known.shape(1)?),
        "QLinearMatMul" => matrix_product(&known.shape(0)?, &known.shape(3)?),
        "Gemm" => Some(largest(&known.shape(0)?) * largest(&known.shape(1)?)),
        "Gather" => Some(elements(1)? * elements(0)?),
        "Einsum" => {
            let all = (0..node.input.len()).map(elements);
            all.collect::<Option<Vec<f64>>>().map(|all| product(&all))
        }
        operator if BROADCAST.contains(&operator) => {
            let shapes = (0..node.input.len()).filter_map(|input| known.shape(input));
            Some(broadcast(&shapes.collect::<Vec<_>>()))
        }
        operator if PRODUCT.contains(&operator) && known.constant() => {
            let all = (0..node.input.len()).filter_map(elements);
            Some(product(&all.collect::<Vec<_>>()))
        }
        _ => None,
    }
    // Indices and equations pick from a product, so their bound counts for constants only.
    .filter(|_| known.constant() || !matches!(node.op_type.as_str(), "Gather" | "Einsum" | "Gemm"))
}

fn ints(node: &NodeProto, name: &str) -> Option<Vec<f64>> {
    let attribute = node.attribute.iter().find(|it| it.name == name)?;
    Some(attribute.ints.iter().map(|value| *value as f64).collect())
}

fn product(sizes: &[f64]) -> f64 {
    sizes.iter().map(|size| size.abs()).product()
}

fn largest(sizes: &[f64]) -> f64 {
    sizes.iter().copied().fold(1.0, f64::max)
}

/// Elements of the common shape, aligned at the last axis.
fn broadcast(shapes: &[Vec<f64>]) -> f64 {
    let rank = shapes.iter().map(Vec::len).max().unwrap_or(0);
    let axis = |from_end: usize| {
        let size = |shape: &Vec<f64>| shape.iter().rev().nth(from_end).map(|size| size.abs());
        shapes.iter().filter_map(size).fold(0.0, f64::max)
    };
    (0..rank).map(axis).product()
}

/// `pads` holds what is added in front of each axis, then behind each.
fn padded(shape: &[f64], pads: &[f64]) -> f64 {
    let half = pads.len() / 2;
    let added = |axis: usize| {
        let ends = [pads.get(axis), pads.get(axis + half)];
        ends.iter().flatten().map(|pad| pad.max(0.0)).sum::<f64>()
    };
    if half == shape.len() {
        let sizes: Vec<f64> = shape
            .iter()
            .enumerate()
            .map(|(axis, size)| size + added(axis))
            .collect();
        return product(&sizes);
    }
    // Of named axes only: whichever they are, this is more.
    product(shape) * (0..half).map(|axis| 1.0 + added(axis)).product::<f64>()
}

fn resized(node: &NodeProto, known: &dyn Known) -> Option<f64> {
    if let Some(sizes) = known.values(3).filter(|sizes| !sizes.is_empty()) {
        return Some(product(&sizes));
    }
    let scales = match node.input.len() {
        0 | 1 => {
            let attribute = node.attribute.iter().find(|it| it.name == "scales")?;
            attribute
                .floats
                .iter()
                .map(|scale| f64::from(*scale))
                .collect()
        }
        2 => known.values(1)?,
        _ => known.values(2)?,
    };
    let scale: f64 = scales.iter().map(|scale| scale.abs().max(1.0)).product();
    Some(product(&known.shape(0)?) * scale)
}

/// A convolution or pool with a stride of 1 gives at most its padded input.
fn window(node: &NodeProto, input: &[f64], channels: f64) -> Option<f64> {
    let spatial = input.get(2..)?;
    let pads = ints(node, "pads").unwrap_or_else(|| vec![0.0; 2 * spatial.len()]);
    Some(input.first()? * channels * padded(spatial, &pads))
}

fn transposed(node: &NodeProto, known: &dyn Known) -> Option<f64> {
    let (input, weights) = (known.shape(0)?, known.shape(1)?);
    let spatial = input.get(2..)?;
    let axis = |name: &str, axis: usize, usual: f64| {
        ints(node, name)
            .and_then(|all| all.get(axis).copied())
            .unwrap_or(usual)
    };
    let group = node
        .attribute
        .iter()
        .find(|it| it.name == "group")
        .map_or(1.0, |it| it.i as f64);
    let size = |(index, size): (usize, &f64)| {
        let kernel = weights.get(index + 2).copied().unwrap_or(1.0);
        let made = size * axis("strides", index, 1.0).abs()
            + kernel * axis("dilations", index, 1.0).abs()
            + axis("output_padding", index, 0.0).abs();
        made.max(axis("output_shape", index, 0.0))
    };
    let sizes: Vec<f64> = spatial.iter().enumerate().map(size).collect();
    Some(input.first()? * weights.get(1)? * group.abs().max(1.0) * product(&sizes))
}

fn matrix_product(left: &[f64], right: &[f64]) -> Option<f64> {
    let rows = if left.len() < 2 {
        1.0
    } else {
        *left.get(left.len() - 2)?
    };
    let columns = if right.len() < 2 { 1.0 } else { *right.last()? };
    let outer = |shape: &[f64]| {
        shape
            .get(..shape.len().saturating_sub(2))
            .unwrap_or_default()
            .to_vec()
    };
    let batches = [outer(left), outer(right)];
    let batch = if batches.iter().all(Vec::is_empty) {
        1.0
    } else {
        broadcast(&batches)
    };
    Some(batch * rows * columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::AttributeProto;

    struct Fixed(Vec<Vec<f64>>, Vec<Vec<f64>>);

    impl Known for Fixed {
        fn shape(&self, input: usize) -> Option<Vec<f64>> {
            self.0.get(input).cloned()
        }
        fn values(&self, input: usize) -> Option<Vec<f64>> {
            self.1.get(input).cloned()
        }
        fn constant(&self) -> bool {
            true
        }
    }

    fn most(operator: &str, shapes: &[&[f64]], values: &[&[f64]], pads: &[i64]) -> Option<f64> {
        let owned = |all: &[&[f64]]| all.iter().map(|one| one.to_vec()).collect();
        let node = NodeProto {
            op_type: operator.into(),
            input: vec!["x".into(); shapes.len()],
            attribute: vec![AttributeProto {
                name: "pads".into(),
                ints: pads.to_vec(),
                ..AttributeProto::default()
            }],
            ..NodeProto::default()
        };
        most_elements(&node, &Fixed(owned(shapes), owned(values)))
    }

    #[test]
    fn results_are_bounded_before_they_exist() {
        let none: &[f64] = &[];
        assert_eq!(
            most("ConstantOfShape", &[&[2.0]], &[&[1e6, 1e6]], &[]),
            Some(1e12)
        );
        assert_eq!(
            most("Tile", &[&[3.0, 2.0], &[2.0]], &[none, &[4.0, 5.0]], &[]),
            Some(120.0)
        );
        assert_eq!(most("Add", &[&[1e6, 1.0], &[1e6]], &[], &[]), Some(1e12));
        assert_eq!(most("Add", &[&[4.0, 3.0], &[3.0]], &[], &[]), Some(12.0));
        assert_eq!(
            most("MatMul", &[&[1e6, 1.0], &[1.0, 1e6]], &[], &[]),
            Some(1e12)
        );
        assert_eq!(
            most("MatMul", &[&[5.0, 2.0, 3.0], &[3.0, 4.0]], &[], &[]),
            Some(40.0)
        );
        let conv: &[&[f64]] = &[&[1.0, 3.0, 8.0, 8.0], &[16.0, 3.0, 3.0, 3.0]];
        assert_eq!(most("Conv", conv, &[], &[1, 1, 1, 1]), Some(1600.0));
        assert_eq!(most("Pad", &[&[2.0, 3.0]], &[], &[0, 1, 0, 1]), Some(10.0));
        assert_eq!(
            most("Range", &[&[], &[], &[]], &[&[0.0], &[1e9], &[1.0]], &[]),
            Some(1e9)
        );
        assert_eq!(most("Relu", &[&[4.0]], &[], &[]), None);
    }
}

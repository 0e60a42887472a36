//! Small ONNX files written byte by byte, so that tests need no network from elsewhere.
//! Only the fields that readers need; numbers of fields are those of `onnx.proto`.

use fieldtune_core::random::Random;

/// Bytes of a protobuf message.
#[derive(Clone, Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(mut self, field: u64, value: i64) -> Self {
        self.varint(field << 3);
        self.varint(value as u64);
        self
    }

    fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn message(self, field: u64, message: &Message) -> Self {
        self.bytes(field, &message.0)
    }
}

/// A setting of a node.
#[derive(Clone, Copy, Debug)]
pub enum Setting<'a> {
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f32),
    /// A list of whole numbers.
    Integers(&'a [i64]),
    /// A word.
    Text(&'a str),
}

/// An ONNX network in the making. Random weights are the same every time.
#[derive(Debug)]
pub struct Onnx {
    opset: i64,
    graph: Message,
    random: Random,
    /// Whether weights are stored as f16 and cast.
    half: bool,
    made: usize,
}

const FLOAT: i64 = 1;
const INT64: i64 = 7;
const FLOAT16: i64 = 10;

impl Onnx {
    /// A network with the input `x`, `[batch, channels, rows, columns]`; the batch is open.
    pub fn new(opset: i64, input: [i64; 3]) -> Self {
        let open = Message::default().text(2, "batch");
        let mut shape = Message::default().message(1, &open);
        for size in input {
            shape = shape.message(1, &Message::default().number(1, size));
        }
        let tensor = Message::default().number(1, FLOAT).message(2, &shape);
        let value = Message::default()
            .text(1, "x")
            .message(2, &Message::default().message(1, &tensor));
        Self {
            opset,
            graph: Message::default().text(2, "small").message(11, &value),
            random: Random::new(5),
            half: false,
            made: 0,
        }
    }

    /// Stores the weights that follow as f16, each with a cast to f32.
    pub fn half(mut self) -> Self {
        self.half = true;
        self
    }

    fn add(&mut self, field: u64, message: &Message) {
        self.graph = std::mem::take(&mut self.graph).message(field, message);
    }

    fn initializer(&mut self, name: &str, kind: i64, shape: &[i64], data: &[u8]) {
        let mut tensor = Message::default();
        for size in shape {
            tensor = tensor.number(1, *size);
        }
        let tensor = tensor.number(2, kind).text(8, name).bytes(9, data);
        self.add(5, &tensor);
    }

    /// A constant of numbers.
    pub fn numbers(&mut self, name: &str, shape: &[i64], values: &[f32]) {
        if !self.half {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            return self.initializer(name, FLOAT, shape, &bytes);
        }
        let bytes: Vec<u8> = values.iter().flat_map(|v| half(*v).to_le_bytes()).collect();
        let stored = format!("{name}.f16");
        self.initializer(&stored, FLOAT16, shape, &bytes);
        self.node("Cast", &[&stored], name, &[("to", Setting::Integer(FLOAT))]);
    }

    /// A constant of whole numbers.
    pub fn integers(&mut self, name: &str, values: &[i64]) {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initializer(name, INT64, &[values.len() as i64], &bytes);
    }

    /// A constant of noise with this deviation around `centre`.
    pub fn noise(&mut self, name: &str, shape: &[i64], centre: f32, deviation: f32) {
        let elements: i64 = shape.iter().product();
        let values: Vec<f32> = (0..elements)
            .map(|_| centre + deviation * self.random.normal())
            .collect();
        self.numbers(name, shape, &values);
    }

    /// A node with one output.
    pub fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        settings: &[(&str, Setting<'_>)],
    ) {
        let mut node = Message::default();
        for input in inputs {
            node = node.text(1, input);
        }
        self.made += 1;
        let name = format!("{operator}_{}", self.made);
        node = node.text(2, output).text(3, &name).text(4, operator);
        for (name, setting) in settings {
            let attribute = Message::default().text(1, name);
            node = node.message(
                5,
                &match setting {
                    Setting::Float(value) => attribute.float(2, *value).number(20, 1),
                    Setting::Integer(value) => attribute.number(3, *value).number(20, 2),
                    Setting::Text(value) => attribute.text(4, value).number(20, 3),
                    Setting::Integers(values) => values
                        .iter()
                        .fold(attribute, |all, value| all.number(8, *value))
                        .number(20, 7),
                },
            );
        }
        self.add(1, &node);
    }

    /// A convolution with a bias; `kernel` `[outputs, inputs / groups, rows, columns]`.
    pub fn convolution(
        &mut self,
        input: &str,
        output: &str,
        kernel: [i64; 4],
        settings: &[(&str, Setting<'_>)],
    ) {
        let [weights, bias] = ["w", "b"].map(|part| format!("{output}.{part}"));
        let fan_in = (kernel[1] * kernel[2] * kernel[3]) as f32;
        self.noise(&weights, &kernel, 0.0, (2.0 / fan_in).sqrt());
        self.noise(&bias, &kernel[..1], 0.0, 0.2);
        self.node("Conv", &[input, &weights, &bias], output, settings);
    }

    /// A batch norm.
    pub fn batch_norm(&mut self, input: &str, output: &str, channels: i64) {
        let parts = ["scale", "shift", "mean", "variance"];
        let names = parts.map(|part| format!("{output}.{part}"));
        for (name, [centre, deviation]) in
            names
                .iter()
                .zip([[1.0, 0.2], [0.0, 0.3], [0.1, 0.3], [1.0, 0.1]])
        {
            self.noise(name, &[channels], centre, deviation);
        }
        let [scale, shift, mean, variance] = &names;
        let inputs = [input, scale, shift, mean, variance];
        let epsilon = Setting::Float(1e-3);
        self.node(
            "BatchNormalization",
            &inputs,
            output,
            &[("epsilon", epsilon)],
        );
    }

    /// The file, with this output.
    pub fn finish(mut self, output: &str) -> Vec<u8> {
        let tensor = Message::default().number(1, FLOAT);
        let value = Message::default()
            .text(1, output)
            .message(2, &Message::default().message(1, &tensor));
        self.add(12, &value);
        let opset = Message::default().text(1, "").number(2, self.opset);
        let model = Message::default().number(1, 8).message(7, &self.graph);
        model.message(8, &opset).0
    }
}

/// The nearest f16 below in size, for values that f16 holds with a full mantissa.
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let exponent = (bits >> 23 & 0xff) as i32 - 127 + 15;
    let sign = (bits >> 16 & 0x8000) as u16;
    match exponent {
        1..31 => sign | (exponent as u16) << 10 | (bits >> 13 & 0x3ff) as u16,
        _ => sign,
    }
}

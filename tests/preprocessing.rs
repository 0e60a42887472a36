//! Promise: a manifest's preprocessing gives what Pillow and torchvision give, to within 2
//! grey levels, for every format, colour model, orientation and way of resizing.
//! `golden/preprocessing/make.py` made the golden levels.

use std::path::PathBuf;

use fieldtune::manifest::{Input, Layout};
use fieldtune::preprocess::{Colour, Decoded, Interpolation, Preprocessing, Resize, View, decode};
use fieldtune_tests::repository;
use image::RgbImage;
use serde_json::Value;

/// Grey levels by which a value may be off.
const TOLERANCE: f32 = 2.0;

/// In a JPEG with halved colour one value in so many may be off by 3 levels: the decoder
/// rounds twice where it enlarges colour, libjpeg once.
const EXCEPTIONS: usize = 250;

fn golden() -> PathBuf {
    repository().join("tests/golden/preprocessing")
}

/// One way of preprocessing that the golden file knows.
struct Way {
    name: String,
    input: Input,
    preprocessing: Preprocessing,
}

fn way(name: &str, value: &Value) -> Way {
    let number = |key: &str| value[key].as_u64().unwrap();
    let numbers = |key: &str| -> Vec<f32> {
        let values = value[key].as_array().unwrap().iter();
        values.map(|value| value.as_f64().unwrap() as f32).collect()
    };
    let colour = match value["colour"].as_str().unwrap() {
        "rgb" => Colour::Rgb,
        "bgr" => Colour::Bgr,
        "grey" => Colour::Grey,
        other => panic!("{other}"),
    };
    Way {
        name: name.into(),
        input: Input {
            tensor: String::new(),
            layout: match value["layout"].as_str().unwrap() {
                "nchw" => Layout::Nchw,
                "nhwc" => Layout::Nhwc,
                other => panic!("{other}"),
            },
            channels: colour.channels(),
            height: number("height") as usize,
            width: number("width") as usize,
        },
        preprocessing: Preprocessing {
            resize: match value["resize"].as_str().unwrap() {
                "short-side" => Resize::ShortSide,
                "stretch" => Resize::Stretch,
                "letterbox" => Resize::Letterbox,
                other => panic!("{other}"),
            },
            resize_to: number("resize_to") as u32,
            crop: value["crop"].as_f64().map(|crop| crop as f32),
            interpolation: match value["interpolation"].as_str().unwrap() {
                "bilinear" => Interpolation::Bilinear,
                "bicubic" => Interpolation::Bicubic,
                other => panic!("{other}"),
            },
            colour,
            mean: numbers("mean"),
            scale: numbers("scale"),
        },
    }
}

/// An image of the golden file: generated ones lie beside it, others in the repository.
fn opened(name: &str) -> Decoded {
    let path = match name.starts_with("images/") {
        true => golden().join(name),
        false => repository().join(name),
    };
    decode(&std::fs::read(&path).unwrap(), &path).unwrap()
}

/// Grey level of one value of the tensor.
fn level(way: &Way, tensor: &[f32], y: usize, x: usize, channel: usize) -> f32 {
    let input = &way.input;
    let index = match input.layout {
        Layout::Nchw => (channel * input.height + y) * input.width + x,
        Layout::Nhwc => (y * input.width + x) * input.channels + channel,
    };
    let at = |values: &[f32]| values[channel.min(values.len() - 1)];
    let settings = &way.preprocessing;
    tensor[index] / at(&settings.scale) + at(&settings.mean)
}

/// Distances of the tensor of one image from its golden levels.
fn distances(way: &Way, image: &Decoded, sheet: &RgbImage, grid: usize, row: usize) -> Vec<f32> {
    let mut tensor = vec![f32::NAN; way.input.elements()];
    let (input, view) = (&way.input, View::Original);
    way.preprocessing
        .tensor(image, input, view, &mut tensor)
        .unwrap();
    let place = |i: usize, size: usize| (2 * i + 1) * size / (2 * grid);
    let mut found = Vec::new();
    for y in 0..grid {
        for x in 0..grid {
            let pixel = sheet.get_pixel(x as u32, (row * grid + y) as u32);
            for channel in 0..input.channels {
                let (y, x) = (place(y, input.height), place(x, input.width));
                let level = level(way, &tensor, y, x, channel);
                found.push((level - f32::from(pixel.0[channel])).abs());
            }
        }
    }
    found
}

/// What is wrong with these distances, if anything is.
fn complaint(name: &str, distances: &[f32]) -> Option<String> {
    let beyond = |limit: f32| {
        let within = |distance: &&f32| **distance <= limit + 0.01;
        distances.len() - distances.iter().filter(within).count()
    };
    let exceptions = match name.ends_with(".jpg") {
        true => distances.len() / EXCEPTIONS,
        false => 0,
    };
    let (some, far) = (beyond(TOLERANCE), beyond(TOLERANCE + 1.0));
    (some > exceptions || far > 0).then(|| {
        let largest = distances
            .iter()
            .fold(0.0f32, |most, distance| most.max(*distance));
        format!("{name}: {some} values beyond {TOLERANCE} levels, the furthest {largest:.2}")
    })
}

#[test]
fn fifty_images_are_preprocessed_as_pillow_does() {
    let text = std::fs::read_to_string(golden().join("settings.json")).unwrap();
    let settings: Value = serde_json::from_str(&text).unwrap();
    let grid = settings["grid"].as_u64().unwrap() as usize;
    let names: Vec<&str> = settings["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    assert_eq!(names.len(), 50);
    let images: Vec<Decoded> = names.iter().map(|name| opened(name)).collect();
    let ways: Vec<Way> = settings["ways"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| way(name, value))
        .collect();
    assert_eq!(ways.len(), 8);
    let mut wrong = Vec::new();
    for way in &ways {
        let path = golden().join(format!("levels-{}.png", way.name));
        let sheet = image::open(&path).unwrap().into_rgb8();
        assert_eq!(
            (sheet.width() as usize, sheet.height() as usize),
            (grid, grid * names.len())
        );
        for (row, (name, image)) in names.iter().zip(&images).enumerate() {
            let distances = distances(way, image, &sheet, grid, row);
            assert_eq!(distances.len(), grid * grid * way.input.channels);
            if let Some(complaint) = complaint(name, &distances) {
                wrong.push(format!("{}: {complaint}", way.name));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

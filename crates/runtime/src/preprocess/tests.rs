use super::*;

/// An image of `height` x `width`; `level` gives the grey levels at (x, y).
fn image(width: u32, height: u32, level: impl Fn(u32, u32) -> [u8; 3]) -> Decoded {
    let pixels = (0..height)
        .flat_map(|y| (0..width).map(move |x| (x, y)))
        .flat_map(|(x, y)| level(x, y))
        .collect();
    Decoded {
        width,
        height,
        pixels,
    }
}

fn input(layout: Layout, channels: usize, height: usize, width: usize) -> Input {
    let tensor = String::new();
    Input {
        tensor,
        layout,
        channels,
        height,
        width,
    }
}

fn settings(resize: Resize, resize_to: u32) -> Preprocessing {
    Preprocessing {
        resize,
        resize_to,
        crop: None,
        interpolation: Interpolation::Bilinear,
        colour: Colour::Rgb,
        mean: vec![0.0],
        scale: vec![1.0],
    }
}

fn tensor(settings: &Preprocessing, image: &Decoded, input: &Input, view: View) -> Vec<f32> {
    let mut output = vec![f32::NAN; input.elements()];
    settings.tensor(image, input, view, &mut output).unwrap();
    output
}

#[test]
fn channels_layout_and_scale_go_where_the_manifest_says() {
    let picture = image(2, 1, |x, _| [10 + x as u8, 20 + x as u8, 30 + x as u8]);
    let mut settings = settings(Resize::Stretch, 0);
    let planes = input(Layout::Nchw, 3, 1, 2);
    let found = tensor(&settings, &picture, &planes, View::Original);
    assert_eq!(found, [10.0, 11.0, 20.0, 21.0, 30.0, 31.0]);
    let found = tensor(&settings, &picture, &planes, View::Mirrored);
    assert_eq!(found, [11.0, 10.0, 21.0, 20.0, 31.0, 30.0]);
    settings.colour = Colour::Bgr;
    settings.mean = vec![30.0, 20.0, 10.0];
    settings.scale = vec![1.0, 2.0, 3.0];
    let pixels = input(Layout::Nhwc, 3, 1, 2);
    let found = tensor(&settings, &picture, &pixels, View::Original);
    assert_eq!(found, [0.0, 0.0, 0.0, 1.0, 2.0, 3.0]);
    let grey = Preprocessing {
        colour: Colour::Grey,
        mean: vec![0.0],
        scale: vec![1.0],
        ..settings
    };
    let white = image(2, 1, |x, _| [[255, 0, 0], [0, 255, 0]][x as usize]);
    let one = input(Layout::Nchw, 1, 1, 2);
    // 0.299 and 0.587 of 255.
    assert_eq!(tensor(&grey, &white, &one, View::Original), [76.0, 150.0]);
}

#[test]
fn short_side_keeps_the_middle_and_stretch_keeps_all() {
    // 8 x 4, each column its own level; the middle 4 columns are 2 to 5.
    let picture = image(8, 4, |x, _| [x as u8 * 10; 3]);
    let square = input(Layout::Nchw, 3, 4, 4);
    let found = tensor(
        &settings(Resize::ShortSide, 4),
        &picture,
        &square,
        View::Original,
    );
    assert_eq!(&found[..4], [20.0, 30.0, 40.0, 50.0]);
    let found = tensor(
        &settings(Resize::Stretch, 0),
        &picture,
        &square,
        View::Original,
    );
    assert!(found[0] < 15.0 && found[3] > 55.0, "{:?}", &found[..4]);
}

#[test]
fn a_crop_is_the_same_as_resizing_everything_and_cutting() {
    let picture = image(37, 61, |x, y| [(x * 7) as u8, (y * 4) as u8, (x * y) as u8]);
    let (wide, high) = resize::short_side_size(&picture, 24);
    assert_eq!((wide, high), (24, 39));
    let whole = input(Layout::Nhwc, 3, high as usize, wide as usize);
    let whole = tensor(
        &settings(Resize::Stretch, 0),
        &picture,
        &whole,
        View::Original,
    );
    let part = input(Layout::Nhwc, 3, 16, 16);
    let part = tensor(
        &settings(Resize::ShortSide, 24),
        &picture,
        &part,
        View::Original,
    );
    // torchvision: top = round(23 / 2), to even = 12; left = 4.
    for (row, values) in part.chunks_exact(16 * 3).enumerate() {
        let start = ((12 + row) * 24 + 4) * 3;
        let pairs = values.iter().zip(&whole[start..start + 48]);
        assert!(
            pairs.clone().all(|(one, other)| (one - other).abs() <= 1.0),
            "row {row}"
        );
    }
}

#[test]
fn brighter_and_darker_change_levels_alone() {
    let picture = image(5, 1, |x, _| [[0, 10, 101, 196, 255][x as usize]; 3]);
    let settings = settings(Resize::Stretch, 0);
    let row = input(Layout::Nchw, 3, 1, 5);
    let seen = |view| tensor(&settings, &picture, &row, view)[..5].to_vec();
    assert_eq!(seen(View::Original), [0.0, 10.0, 101.0, 196.0, 255.0]);
    assert_eq!(seen(View::Brighter), [0.0, 13.0, 131.0, 255.0, 255.0]);
    assert_eq!(seen(View::Darker), [0.0, 8.0, 78.0, 151.0, 196.0]);
}

#[test]
fn near_shows_a_part_of_the_original_and_far_shows_more() {
    // Each column its own level: the first and last level tell how much is seen.
    let picture = image(64, 64, |x, _| [x as u8 * 3; 3]);
    let square = input(Layout::Nchw, 3, 32, 32);
    let settings = settings(Resize::ShortSide, 40);
    let ends = |view| {
        let found = tensor(&settings, &picture, &square, view);
        (found[0], found[31])
    };
    let (near, original, far) = (ends(View::Near), ends(View::Original), ends(View::Far));
    assert!(
        far.0 < original.0 && original.0 < near.0,
        "{far:?} {original:?} {near:?}"
    );
    assert!(
        far.1 > original.1 && original.1 > near.1,
        "{far:?} {original:?} {near:?}"
    );
    let share = (near.1 - near.0) / (original.1 - original.0);
    assert!((share - 1.0 / NEARER as f32).abs() < 0.02, "{share}");
    assert!(settings.has_far_view(&square));
    let tight = Preprocessing {
        resize_to: 32,
        ..settings.clone()
    };
    assert!(!tight.has_far_view(&square));
    let stretched = Preprocessing {
        resize: Resize::Stretch,
        ..settings
    };
    assert!(!stretched.has_far_view(&square));
}

#[test]
fn letterbox_bars_hold_the_mean() {
    let picture = image(8, 4, |_, _| [200; 3]);
    let mut settings = settings(Resize::Letterbox, 0);
    settings.mean = vec![100.0];
    let square = input(Layout::Nchw, 3, 4, 4);
    let found = tensor(&settings, &picture, &square, View::Original);
    let rows: Vec<f32> = found[..16].chunks_exact(4).map(|row| row[0]).collect();
    assert_eq!(rows, [0.0, 100.0, 100.0, 0.0]);
}

#[test]
fn a_line_of_pixels_works_in_every_way_of_resizing() {
    let square = input(Layout::Nchw, 3, 32, 32);
    for (width, height) in [(1, 5000), (5000, 1), (1, 1)] {
        let picture = image(width, height, |_, _| [90; 3]);
        for resize in [Resize::ShortSide, Resize::Stretch, Resize::Letterbox] {
            for view in View::ALL {
                let found = tensor(&settings(resize, 40), &picture, &square, view);
                let level = match view {
                    View::Brighter => 117.0,
                    View::Darker => 69.0,
                    _ => 90.0,
                };
                assert!(found.iter().all(|&value| value == level || value == 0.0));
                assert!(found.contains(&level), "{resize:?} {width} x {height}");
            }
        }
    }
}

#[test]
fn a_crop_says_the_same_as_the_side_it_makes() {
    let input = input(Layout::Nchw, 3, 224, 224);
    let by_side = settings(Resize::ShortSide, 256);
    let by_crop = Preprocessing {
        crop: Some(0.875),
        ..settings(Resize::ShortSide, 0)
    };
    assert_eq!(by_crop.problem(&input), None);
    assert_eq!(by_crop.identity(&input), by_side.identity(&input));
    let stretched = Preprocessing {
        crop: Some(0.7),
        ..settings(Resize::Stretch, 0)
    };
    assert!(stretched.identity(&input).contains(" stretch:320x320 "));
    assert!(stretched.has_far_view(&input));
    let wrong = [
        (Resize::ShortSide, 256, 0.875, "give one of them"),
        (Resize::Letterbox, 0, 0.875, "a letterbox keeps all"),
        (Resize::Stretch, 0, 0.0, "must be above 0"),
        (Resize::Stretch, 0, 1.5, "at most 1"),
        (Resize::Stretch, 0, f32::NAN, "must be above 0"),
        (Resize::Stretch, 0, 0.001, "too small"),
        (Resize::ShortSide, 0, 0.001, "`crop` makes the short side"),
    ];
    for (resize, side, crop, wanted) in wrong {
        let wrong = Preprocessing {
            crop: Some(crop),
            ..settings(resize, side)
        };
        let problem = wrong.problem(&input).expect("a problem");
        assert!(problem.contains(wanted), "{problem}");
    }
}

#[test]
fn whatever_changes_a_tensor_changes_the_identity() {
    let base = settings(Resize::ShortSide, 40);
    let small = input(Layout::Nchw, 3, 32, 32);
    let text = base.identity(&small);
    assert_eq!(
        text,
        "v1 nchw 3x32x32 rgb short-side:40 bilinear mean=0,0,0 scale=1,1,1"
    );
    let spelled = Preprocessing {
        mean: vec![0.0; 3],
        ..base.clone()
    };
    assert_eq!(spelled.identity(&small), text);
    let changed = [
        Preprocessing {
            resize_to: 41,
            ..base.clone()
        },
        Preprocessing {
            interpolation: Interpolation::Bicubic,
            ..base.clone()
        },
        Preprocessing {
            colour: Colour::Bgr,
            ..base.clone()
        },
        Preprocessing {
            scale: vec![0.5],
            ..base.clone()
        },
    ];
    assert!(changed.iter().all(|other| other.identity(&small) != text));
    assert_ne!(base.identity(&input(Layout::Nhwc, 3, 32, 32)), text);
}

//! Promise: the report is one file that a browser shows as it should on a phone and on a
//! desktop, light and dark, with every part and without the network.
//!
//! Needs Chromium; `.ci/install-packages` installs it. What the page says is tested in the
//! runtime's `report/tests.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fieldtune_tests::{fieldtune, not_tested, run, scratch};
use image::{Rgb, RgbImage};
use serde_json::Value;

const LARGEST_REPORT_BYTES: u64 = 5 * 1024 * 1024;
const PHONE: [u32; 2] = [390, 844];
const DESKTOP: [u32; 2] = [1200, 900];

/// What the browser made of the page, written by it into the page itself.
const MEASURE: &str = "<script>
    const pictures = [...document.images];
    const measured = {
        width: innerWidth,
        needed: document.documentElement.scrollWidth,
        pictures: pictures.length,
        broken: pictures.filter(one => !one.complete || one.naturalWidth === 0).length,
        plots: [...document.querySelectorAll('svg')].filter(one => one.getBoundingClientRect().width > 50).length,
        requests: performance.getEntriesByType('resource').filter(one => !one.name.startsWith('data:')).length,
        headings: [...document.querySelectorAll('h1, h2')].map(one => one.innerText),
    };
    const element = document.createElement('pre');
    element.id = 'measured';
    element.textContent = JSON.stringify(measured);
    document.body.appendChild(element);
</script>";

/// Parts that somebody looks for who asks whether the head is good enough.
const PARTS: [&str; 8] = [
    "Cross-validation",
    "Enough samples?",
    "How far its probabilities can be trusted",
    "Worst mistakes",
    "Suspects",
    "What was tried",
    "Memory and time",
    "The same again",
];

#[test]
fn a_browser_shows_the_whole_report_on_a_phone_and_on_a_desktop_light_and_dark() {
    let Some(browser) = browser() else {
        return not_tested("no Chromium; install the package `chromium`, or name one in $CHROMIUM");
    };
    let report = report();
    let text = fs::read_to_string(&report).expect("the report is UTF-8");
    assert!(text.len() as u64 <= LARGEST_REPORT_BYTES, "{}", text.len());

    for size in [PHONE, DESKTOP] {
        let measured = measured(&browser, &text, size);
        let number = |name: &str| {
            measured[name]
                .as_u64()
                .unwrap_or_else(|| panic!("{measured}"))
        };
        assert!(
            number("needed") <= number("width"),
            "it scrolls sideways at {size:?}: {measured}"
        );
        assert!(
            number("pictures") >= 1 && number("broken") == 0,
            "{measured}"
        );
        assert!(number("plots") >= 3, "{measured}");
        assert_eq!(number("requests"), 0, "{measured}");
        let headings = measured["headings"].to_string();
        for part in PARTS {
            assert!(headings.contains(part), "{part} is missing: {headings}");
        }
    }

    for size in [PHONE, DESKTOP] {
        let [light, dark] = [false, true].map(|dark| screenshot(&browser, &report, size, dark));
        for (picture, shades) in [(&light, "light"), (&dark, "dark")] {
            let background = brightness(picture.get_pixel(3, 3));
            let wanted = if shades == "light" { 200..=255 } else { 0..=55 };
            assert!(
                wanted.contains(&background),
                "{shades}: background {background}"
            );
            let share = share_unlike(picture, *picture.get_pixel(3, 3));
            assert!(
                share > 0.02,
                "{shades} at {size:?}: {share} of the page is drawn"
            );
        }
    }
}

/// A report on samples among which two labels are exchanged, so that it has mistakes and
/// suspects to show.
fn report() -> PathBuf {
    let samples = scratch().join("samples");
    let demo = fieldtune_tests::demo_samples();
    for (class, other) in [("brick", "grass"), ("grass", "brick"), ("gravel", "gravel")] {
        fs::create_dir_all(samples.join(class)).expect("scratch is writable");
        for entry in fs::read_dir(demo.join(class)).expect("the demo has the class") {
            let file = entry.expect("a readable folder").path();
            let name = file
                .file_name()
                .expect("files have names")
                .to_string_lossy()
                .into_owned();
            let label = if name == "01.jpg" { other } else { class };
            fs::create_dir_all(samples.join(label)).expect("scratch is writable");
            fs::copy(&file, samples.join(label).join(format!("{class}-{name}"))).expect("a copy");
        }
    }
    let report = scratch().join("report.html");
    let mut command = fieldtune();
    command.arg("train").arg(&samples);
    command.arg("-o").arg(scratch().join("ground.head"));
    command.arg("--report").arg(&report);
    let ran = run(&mut command);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    report
}

fn browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CHROMIUM") {
        return Some(named.into());
    }
    let folders = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&folders)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|path| path.is_file())
}

/// The browser without a window, which keeps nothing and asks nobody.
fn headless(browser: &Path, size: [u32; 2]) -> Command {
    let mut command = Command::new(browser);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
    ]);
    let profile = scratch().join("profile");
    command.arg(format!("--user-data-dir={}", profile.display()));
    command.arg(format!("--window-size={},{}", size[0], size[1]));
    command
}

fn measured(browser: &Path, page: &str, size: [u32; 2]) -> Value {
    // The page forbids scripts, and this copy needs one.
    let start = page
        .find("<meta http-equiv")
        .expect("the page has a policy");
    let end = start + page[start..].find('>').expect("tags end") + 1;
    let page = format!("{}{}", &page[..start], &page[end..]);
    let copy = scratch().join("measured.html");
    fs::write(&copy, page.replace("</body>", &format!("{MEASURE}</body>"))).expect("a copy");
    let mut command = headless(browser, size);
    command
        .arg("--dump-dom")
        .arg(format!("file://{}", copy.display()));
    let ran = run(&mut command);
    let mark = "id=\"measured\">";
    let start = ran
        .stdout
        .find(mark)
        .unwrap_or_else(|| panic!("not measured: {ran:?}"));
    let rest = &ran.stdout[start + mark.len()..];
    // Neither figures nor headings hold what HTML would escape.
    let text = &rest[..rest.find('<').expect("the element ends")];
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn screenshot(browser: &Path, report: &Path, size: [u32; 2], dark: bool) -> RgbImage {
    let picture = scratch().join(format!("{}-{dark}.png", size[0]));
    let mut command = headless(browser, size);
    // 0 is dark, 1 light.
    command.arg(format!(
        "--blink-settings=preferredColorScheme={}",
        u8::from(!dark)
    ));
    command.arg(format!("--screenshot={}", picture.display()));
    command.arg(format!("file://{}", report.display()));
    run(&mut command);
    image::open(&picture)
        .expect("the browser writes a picture")
        .to_rgb8()
}

fn brightness(pixel: &Rgb<u8>) -> u32 {
    pixel.0.iter().map(|level| u32::from(*level)).sum::<u32>() / 3
}

fn share_unlike(picture: &RgbImage, background: Rgb<u8>) -> f64 {
    let unlike = picture
        .pixels()
        .filter(|pixel| **pixel != background)
        .count();
    unlike as f64 / f64::from(picture.width() * picture.height())
}

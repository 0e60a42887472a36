//! What kind of thing a sample is, and how samples of that kind become numbers. All samples
//! of one job are of one kind, decided by the names of their files; a head remembers it in
//! the text of its preprocessing. Everything behind the features is the same for every kind.

use std::path::Path;

use crate::manifest::Manifest;
use crate::preprocess::{Decoded, View, decode};
use crate::series::{self, Series};
use crate::sound::{self, Ear, Sound, USUAL_RATE_HZ};

/// Kinds of samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An image file.
    #[default]
    Picture,
    /// A recording.
    Sound,
    /// Values of a sensor over time.
    Series,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Picture, Self::Sound, Self::Series];

    /// By the extension of a file's name; `None` for a file of something else.
    pub fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_lowercase();
        let kinds = Self::ALL.into_iter();
        kinds
            .into_iter()
            .find(|kind| kind.extensions().contains(&extension.as_str()))
    }

    /// Extensions of its files, in lower case.
    pub fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Picture => &["jpg", "jpeg", "png", "webp", "bmp"],
            Self::Sound => &["wav", "flac", "ogg", "mp3"],
            Self::Series => &["csv"],
        }
    }

    /// In a word, for "is a ...".
    pub fn name(self) -> &'static str {
        match self {
            Self::Picture => "picture",
            Self::Sound => "recording",
            Self::Series => "sensor file",
        }
    }

    /// Several of them, in a word.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Picture => "pictures",
            Self::Sound => "recordings",
            Self::Series => "sensor files",
        }
    }
}

/// How samples of one kind become what a head or a backbone takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Sense {
    /// As the manifest's `[preprocessing]` says.
    #[default]
    Picture,
    /// Through a spectrogram.
    Sound(Sound),
    /// As numbers that describe a window.
    Series(Box<Series>),
}

impl Sense {
    /// Of what kind the samples are.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Picture => Kind::Picture,
            Self::Sound(_) => Kind::Sound,
            Self::Series(_) => Kind::Series,
        }
    }

    /// The one that a head was trained with, by its preprocessing.
    pub fn of_identity(text: &str) -> Self {
        if let Some(sound) = Sound::of_identity(text) {
            return Self::Sound(sound);
        }
        let series = Series::of_identity(text);
        series.map_or(Self::Picture, |series| Self::Series(Box::new(series)))
    }

    /// Canonical text of everything that decides the numbers, with a backbone or without.
    pub fn identity(&self, manifest: Option<&Manifest>) -> String {
        let network = manifest.map(Manifest::identity).unwrap_or_default();
        match self {
            Self::Picture => network,
            Self::Sound(sound) => format!("{} {network}", sound.identity()).trim_end().into(),
            Self::Series(series) => series.identity(),
        }
    }

    /// How recordings are heard, if they are.
    pub fn sound(&self) -> Option<&Sound> {
        match self {
            Self::Picture | Self::Series(_) => None,
            Self::Sound(sound) => Some(sound),
        }
    }
}

/// A sample as a picture for people: itself, a recording's spectrogram, or a series' lines;
/// `None` when it cannot be read.
pub fn shown(bytes: &[u8], path: &Path) -> Option<Decoded> {
    match Kind::of(path) {
        Some(Kind::Sound) => {}
        Some(Kind::Series) => return series::picture(bytes, path),
        Some(Kind::Picture) | None => return decode(bytes, path).ok(),
    }
    let ear = Ear::new(&Sound::usual(USUAL_RATE_HZ)).ok()?;
    let recording = ear.decode(bytes, path).ok()?;
    let samples = &recording.samples;
    let plain = ear.plain(samples).ok()?;
    let log_mel = ear.heard(samples, &plain, View::Original, path).ok()?;
    Some(sound::picture(&log_mel))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_s_name_says_its_kind() {
        let kind = |name: &str| Kind::of(Path::new(name));
        assert_eq!(kind("a.JPG"), Some(Kind::Picture));
        assert_eq!(kind("x/b.Wav"), Some(Kind::Sound));
        assert_eq!(kind("c.csv"), Some(Kind::Series));
        for other in ["notes.txt", "wav", ".mp3", "a.jsonl", ""] {
            assert_eq!(kind(other), None, "{other}");
        }
    }

    #[test]
    fn a_head_s_text_says_its_kind() {
        let sense = Sense::Sound(Sound::usual(8_000));
        assert_eq!(Sense::of_identity(&sense.identity(None)), sense);
        assert_eq!(Sense::of_identity("v1 nchw 3x8x8"), Sense::Picture);
    }
}

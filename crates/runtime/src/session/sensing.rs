//! What kind of samples a job is about, and how they are sensed: decided from the files when
//! a head is trained, from the head when it is used.

use std::path::Path;

use super::{Progress, Session, Stage};
use crate::candidates::Wishes;
use crate::error::{Error, ErrorKind, Result};
use crate::features::{LazyBackbone, Source};
use crate::samples::SampleSet;
use crate::senses::{Kind, Sense};
use crate::sound::windows::{CutUp, common_rate_hz, cut_up};
use crate::sound::{Feed, Sound, USUAL_RATE_HZ};
use crate::views::ViewSet;

impl Session {
    /// How the samples of `set` are to be sensed: as the backbone's manifest says, else as is
    /// usual for their kind. The usual spectrogram has the lowest rate among the recordings,
    /// so that no band is empty in some of them.
    pub(super) fn sense(&self, set: &SampleSet, sources: &[Source<'_>]) -> Result<Sense> {
        let manifest = self.model().manifest();
        if set.kind() == Kind::Picture {
            let hears = manifest.sound.as_ref();
            if hears.is_some_and(|sound| sound.feed == Feed::Values) {
                let what = format_args!("hears sound, but {} holds pictures", set.source.display());
                let path = Path::new(&manifest.file);
                let remedy = "give recordings or another --backbone";
                return Err(Error::at(ErrorKind::Mismatch, path, what, remedy));
            }
            if self.settings().window_seconds.is_some() {
                let what = "--window is for recordings; leave it out";
                return Err(Error::new(ErrorKind::Usage, what));
            }
            return Ok(Sense::Picture);
        }
        let views = self.settings().wishes.views;
        if views == Some(ViewSet::MIRRORED) {
            let what = "a recording has no mirror image; give another --views";
            return Err(Error::new(ErrorKind::Usage, what));
        }
        let mut sound = match &manifest.sound {
            Some(sound) => sound.clone(),
            None => {
                let rate_hz = self
                    .pool()?
                    .install(|| common_rate_hz(sources, USUAL_RATE_HZ));
                Sound::usual(rate_hz.unwrap_or(USUAL_RATE_HZ))
            }
        };
        sound.window_seconds = self
            .settings()
            .window_seconds
            .unwrap_or(sound.window_seconds);
        match sound.problem(Some(&manifest.input)) {
            Some(problem) => {
                let what = format_args!("--window: {problem}; give another length");
                Err(Error::new(ErrorKind::Usage, what))
            }
            None => Ok(Sense::Sound(sound)),
        }
    }

    /// Whether samples are of the kind that a head knows.
    ///
    /// # Errors
    /// `Mismatch` when not.
    pub(crate) fn require_kind(&self, sense: &Sense, set: &SampleSet) -> Result<()> {
        let (wanted, found) = (sense.kind(), set.kind());
        if wanted == found || set.samples.is_empty() {
            return Ok(());
        }
        let what = format_args!(
            "holds {}, but the head was trained on {}",
            found.plural(),
            wanted.plural()
        );
        let remedy = format_args!("give {}", wanted.plural());
        Err(Error::at(ErrorKind::Mismatch, &set.source, what, remedy))
    }

    /// The set with a sample for every window of its recordings; pictures stay as they are.
    pub(crate) fn cut_up(
        &self,
        sense: &Sense,
        set: &SampleSet,
        sources: &[Source<'_>],
        progress: &dyn Progress,
    ) -> Result<CutUp> {
        match sense {
            Sense::Picture => Ok(CutUp {
                set: set.clone(),
                recordings: (0..sources.len()).collect(),
            }),
            Sense::Sound(sound) => {
                let tell = |done| progress.at(Stage::Windows, done, sources.len());
                self.pool()?.install(|| cut_up(sound, set, sources, &tell))
            }
        }
    }

    /// The user's wishes, with what follows from the samples' kind.
    pub(super) fn heard_wishes(&self, backbone: &LazyBackbone, wishes: Wishes) -> Wishes {
        match backbone.sense().kind() {
            Kind::Picture => wishes,
            Kind::Sound => Wishes {
                held: Some(backbone.views(ViewSet::ALL)),
                statistics: backbone.statistics() > 0,
                ..wishes
            },
        }
    }
}

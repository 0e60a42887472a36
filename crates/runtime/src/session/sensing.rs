//! What kind of samples a job is about, and how they are sensed: decided from the files when
//! a head is trained, from the head when it is used.

use std::path::Path;

use super::{Progress, Session, Stage};
use crate::candidates::{List, Wishes};
use crate::error::{Error, ErrorKind, Result};
use crate::features::{LazyBackbone, Source};
use crate::samples::SampleSet;
use crate::senses::{Kind, Sense};
use crate::series::fit::{self, Wanted};
use crate::series::{Made, VALUES};
use crate::sound::windows::{common_rate_hz, cut_up};
use crate::sound::{Feed, Sound, USUAL_RATE_HZ};
use crate::views::ViewSet;
use crate::windows::{self, CutUp};

impl Session {
    /// How the samples of `set` are to be sensed: as the backbone's manifest says, else as is
    /// usual for their kind. The usual spectrogram has the lowest rate among the recordings,
    /// so that no band is empty in some of them.
    pub(super) fn sense(
        &self,
        set: &SampleSet,
        sources: &[Source<'_>],
        cut: &str,
    ) -> Result<Sense> {
        self.require_flags(set)?;
        match set.kind() {
            Kind::Picture => Ok(Sense::Picture),
            Kind::Sound => self.sound(sources).map(Sense::Sound),
            Kind::Series => {
                let made = Made::of_cut(cut)?;
                let wanted = Wanted {
                    window_seconds: self.settings().window_seconds,
                    step_seconds: self.settings().step_seconds,
                };
                let series = self.pool()?.install(|| fit::fit(sources, wanted, made))?;
                Ok(Sense::Series(Box::new(series)))
            }
        }
    }

    /// Whether the flags make sense for samples of this kind.
    fn require_flags(&self, set: &SampleSet) -> Result<()> {
        let wrong = |what: &str| Err(Error::new(ErrorKind::Usage, what));
        let settings = self.settings();
        let kind = set.kind();
        if kind == Kind::Picture {
            let manifest = self.model().manifest();
            let hears = manifest.sound.as_ref();
            if hears.is_some_and(|sound| sound.feed == Feed::Values) {
                let what = format_args!("hears sound, but {} holds pictures", set.source.display());
                let path = Path::new(&manifest.file);
                let remedy = "give recordings or another --backbone";
                return Err(Error::at(ErrorKind::Mismatch, path, what, remedy));
            }
            if settings.window_seconds.is_some() {
                return wrong("--window is for recordings and sensors; leave it out");
            }
        }
        if kind != Kind::Series && settings.step_seconds.is_some() {
            return wrong("--step is for sensors; leave it out");
        }
        let views = settings.wishes.views;
        let of_pictures = match views {
            Some(ViewSet::MIRRORED) => Some("mirror image"),
            Some(ViewSet::LIT) => Some("brighter view"),
            _ => None,
        };
        if let Some(view) = of_pictures.filter(|_| kind != Kind::Picture) {
            let name = kind.name();
            return wrong(&format!("a {name} has no {view}; give another --views"));
        }
        let convolutions = settings.wishes.convolutions();
        if convolutions && kind != Kind::Series {
            return wrong("--head convolution is for sensor files; give another --head");
        }
        if convolutions && settings.cut.as_deref().is_some_and(|cut| cut != VALUES) {
            return wrong("--head convolution reads the values themselves; leave --cut out");
        }
        if kind == Kind::Series && settings.wishes.tail {
            return wrong(
                "--head tail trains layers of a network, which series do not pass; leave it out",
            );
        }
        Ok(())
    }

    fn sound(&self, sources: &[Source<'_>]) -> Result<Sound> {
        let manifest = self.model().manifest();
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
            None => Ok(sound),
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
            Sense::Series(series) => {
                let tell = |done| progress.at(Stage::Windows, done, sources.len());
                let parts = |(): &mut (), source: &Source<'_>| {
                    let read = source
                        .read()
                        .and_then(|bytes| series.read(&bytes, source.path));
                    let points = read.map_or(0, |channels| channels.first().map_or(0, Vec::len));
                    series.windows(points)
                };
                let cut = || windows::cut_up(set, sources, || (), parts, &tell);
                Ok(self.pool()?.install(cut))
            }
        }
    }

    /// The user's wishes, with what follows from the samples' kind.
    pub(super) fn heard_wishes(&self, backbone: &LazyBackbone, wishes: Wishes) -> Wishes {
        match backbone.sense().kind() {
            Kind::Picture => wishes,
            Kind::Sound => Wishes {
                held: Some(backbone.views(ViewSet::ALL)),
                list: match backbone.statistics() {
                    0 => List::Network,
                    _ => List::Statistics,
                },
                ..wishes
            },
            Kind::Series => Wishes {
                held: Some(backbone.views(ViewSet::ALL)),
                list: List::Series,
                ..wishes
            },
        }
    }
}

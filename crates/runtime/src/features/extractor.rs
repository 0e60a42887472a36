//! One sample's features on one thread of the pool: from the cache, else from its bytes.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{Digest32, LazyBackbone, Source};
use crate::backbone::Worker;
use crate::cache::{Cache, Key};
use crate::error::{Error, ErrorKind, Result};
use crate::preprocess::{self, Decoded, View};
use crate::senses::{Kind, Sense};
use crate::series::{self, Analyst, Made};
use crate::sound::decode::Recording;
use crate::sound::spectrum::LogMel;
use crate::sound::{self, Ear, Feed, Sound, statistics};
use crate::views::ViewSet;
use crate::windows::Part;

/// What became of one sample.
pub(super) enum Outcome {
    Read {
        digest: Digest32,
        /// How many of its views were in the cache.
        cached: usize,
        /// The first that could not be kept there.
        failure: Option<Error>,
    },
    Skipped(String),
}

/// What computes features, for all threads.
pub(super) struct Extractor<'a> {
    backbone: &'a LazyBackbone,
    views: Vec<View>,
    cache: &'a Cache,
    /// One a thread, made when that thread first needs it.
    benches: Vec<Mutex<Bench>>,
    /// Whether the views of a sample are for several threads: there are more than samples.
    views_apart: bool,
}

/// Why a view has no features.
enum Fault {
    /// This sample cannot be used.
    Sample(Error),
    /// Nor can others.
    Job(Error),
}

/// What one thread of the pool works with.
#[derive(Default)]
struct Bench {
    /// The network, and the tensor it reads.
    network: Option<(Worker, Vec<f32>)>,
    ear: Option<Ear>,
    analyst: Option<Analyst>,
    /// The file of which a part came last: the next part is mostly of the same.
    last: Option<Kept>,
}

/// A file that several samples are parts of.
struct Kept {
    /// Its path, and where its bytes lie if they were given.
    file: (PathBuf, Option<usize>),
    digest: Digest32,
    whole: Whole,
}

/// A whole file, decoded.
enum Whole {
    Sound(Recording),
    /// The values of each channel.
    Series(Vec<Vec<f32>>),
}

/// A sample's file, as far as it was read.
struct File<'a> {
    sample: &'a Source<'a>,
    bytes: Option<Cow<'a, [u8]>>,
    digest: Digest32,
}

/// A sample in memory, before the head or the network.
enum Content {
    Picture(Decoded),
    /// Samples of a recording, and their spectrogram, which every view begins with.
    Sound {
        samples: Vec<f32>,
        plain: LogMel,
    },
    /// The values of each channel in a window.
    Series(Vec<Vec<f32>>),
}

impl<'a> Extractor<'a> {
    pub(super) fn new(
        backbone: &'a LazyBackbone,
        views: ViewSet,
        cache: &'a Cache,
        threads: usize,
        samples: usize,
    ) -> Self {
        Self {
            backbone,
            views: views.views().collect(),
            cache,
            benches: (0..threads).map(|_| Mutex::default()).collect(),
            views_apart: threads > samples,
        }
    }

    /// What this thread works with. Not held while the pool is waited for: then the thread
    /// may begin another task, which needs it too.
    fn bench(&self) -> Result<MutexGuard<'_, Bench>> {
        let thread = rayon::current_thread_index().unwrap_or(0);
        let bench = self.benches.get(thread).ok_or_else(|| {
            let what = "more threads than were asked for";
            Error::new(ErrorKind::Failed, what)
        })?;
        Ok(bench.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Fills the rows of one sample, one a view.
    pub(super) fn sample(&self, sample: &Source<'_>, rows: &mut [&mut [f32]]) -> Result<Outcome> {
        let skipped = |error| Ok(Outcome::Skipped(reason(sample, &error)));
        let mut bench = self.bench()?;
        let file = match File::open(sample, bench.last.as_ref()) {
            Ok(file) => file,
            Err(error) => return skipped(error),
        };
        let digest = of_part(file.digest, sample.part);
        let mut missing = Vec::new();
        for (view, row) in self.views.iter().zip(rows) {
            let key = self.backbone.key(&digest, *view);
            let cached = self.cache.get(&key, row) && row.iter().all(|value| value.is_finite());
            if !cached {
                missing.push((*view, key, row));
            }
        }
        let cached = self.views.len() - missing.len();
        let mut failure = None;
        if !missing.is_empty() {
            let content = match self.content(&mut bench, file) {
                Ok(content) => content,
                // What is wrong with the program or its settings stops the job.
                Err(error) if error.kind() != ErrorKind::BadInput => return Err(error),
                Err(error) => return skipped(error),
            };
            drop(bench);
            let run = |(view, key, row): (View, Key, &mut &mut [f32])| {
                self.view(sample.path, &content, view, row)?;
                Ok(self.cache.put(&key, row).err())
            };
            let kept: std::result::Result<Vec<_>, Fault> = match self.views_apart {
                true => missing.into_par_iter().with_max_len(1).map(run).collect(),
                false => missing.into_iter().map(run).collect(),
            };
            match kept {
                Ok(kept) => failure = kept.into_iter().flatten().next(),
                Err(Fault::Sample(error)) => return skipped(error),
                Err(Fault::Job(error)) => return Err(error),
            }
        }
        Ok(Outcome::Read {
            digest,
            cached,
            failure,
        })
    }

    /// The features of one view, all of them finite.
    fn view(
        &self,
        path: &Path,
        content: &Content,
        view: View,
        row: &mut [f32],
    ) -> std::result::Result<(), Fault> {
        let mut bench = self.bench().map_err(Fault::Job)?;
        self.run(&mut bench, path, content, view, row)
            .map_err(|error| match error.kind() {
                ErrorKind::BadInput => Fault::Sample(error),
                _ => Fault::Job(error),
            })?;
        if row.iter().all(|value| value.is_finite()) {
            return Ok(());
        }
        let what = "the backbone gives features that are not finite numbers for it";
        let remedy = "check the manifest's `mean` and `scale`, or cut elsewhere";
        Err(Fault::Job(Error::at(
            ErrorKind::BadInput,
            path,
            what,
            remedy,
        )))
    }

    /// Decodes a sample; its bytes are dropped.
    fn content(&self, bench: &mut Bench, file: File<'_>) -> Result<Content> {
        let sample = file.sample;
        require_kind(sample.path, self.backbone.sense().kind())?;
        if self.backbone.sense().kind() == Kind::Picture {
            let image = preprocess::decode(&file.read()?, sample.path)?;
            return Ok(Content::Picture(image));
        }
        let wanted = sample.part.is_some().then(|| place(sample));
        let kept = bench
            .last
            .take_if(|kept| wanted.as_ref() == Some(&kept.file));
        let (digest, whole) = match kept {
            Some(Kept { digest, whole, .. }) => (digest, whole),
            None => (file.digest, self.whole(bench, file)?),
        };
        let content = match (&whole, self.backbone.sense(), &bench.ear) {
            (Whole::Sound(recording), _, Some(ear)) => {
                let samples = sound::samples_of(recording, sample.part).to_vec();
                let plain = ear.plain(&samples)?;
                Content::Sound { samples, plain }
            }
            (Whole::Series(channels), Sense::Series(series), _) => {
                let points = channels.first().map_or(0, Vec::len);
                let range = series.range(sample.part, points);
                let channels = channels.iter().map(|values| values[range.clone()].to_vec());
                Content::Series(channels.collect())
            }
            _ => return Err(Error::new(ErrorKind::Failed, "nobody hears this sound")),
        };
        if let Some(file) = wanted {
            bench.last = Some(Kept {
                file,
                digest,
                whole,
            });
        }
        Ok(content)
    }

    /// Decodes a recording or a series.
    fn whole(&self, bench: &mut Bench, file: File<'_>) -> Result<Whole> {
        let path = file.sample.path;
        match self.backbone.sense() {
            Sense::Picture => Err(Error::new(ErrorKind::Failed, "a picture has no parts")),
            Sense::Series(series) => Ok(Whole::Series(series.read(&file.read()?, path)?)),
            Sense::Sound(sound) => {
                let ear = ear(&mut bench.ear, sound)?;
                Ok(Whole::Sound(ear.decode(&file.read()?, path)?))
            }
        }
    }

    /// The features of one view.
    fn run(
        &self,
        bench: &mut Bench,
        path: &Path,
        content: &Content,
        view: View,
        row: &mut [f32],
    ) -> Result<()> {
        let (samples, plain) = match content {
            Content::Picture(image) => {
                let (worker, input) = network(&mut bench.network, self.backbone)?;
                self.tensor(image, view, input)?;
                return worker.run(input, row);
            }
            Content::Series(channels) => return self.described(bench, channels, view, row),
            Content::Sound { samples, plain } => (samples, plain),
        };
        let Some(sound) = self.backbone.sense().sound() else {
            return Err(Error::new(ErrorKind::Failed, "nobody hears this sound"));
        };
        let ear = ear(&mut bench.ear, sound)?;
        let heard = ear.heard(samples, plain, view, path)?;
        let (first, rest) = row.split_at_mut(self.backbone.statistics().min(row.len()));
        if !first.is_empty() {
            first.copy_from_slice(&statistics::statistics(&heard));
        }
        if !self.backbone.has_network() {
            return Ok(());
        }
        let (worker, input) = network(&mut bench.network, self.backbone)?;
        match sound.feed {
            Feed::Values => ear.values(samples, plain, path, input)?,
            Feed::Picture => self.tensor(&sound::picture(&heard), view, input)?,
        }
        worker.run(input, rest)
    }

    /// The features of a window of a series.
    fn described(
        &self,
        bench: &mut Bench,
        channels: &[Vec<f32>],
        view: View,
        row: &mut [f32],
    ) -> Result<()> {
        let Sense::Series(series) = self.backbone.sense() else {
            return Err(Error::new(ErrorKind::Failed, "nobody reads this series"));
        };
        let analyst = match &mut bench.analyst {
            Some(analyst) => analyst,
            none => none.insert(Analyst::new(series, Made::of_cut(self.backbone.cut())?)?),
        };
        let channels: Vec<Vec<f32>> = channels
            .iter()
            .map(|values| series::viewed(values, view))
            .collect();
        let channels: Vec<&[f32]> = channels.iter().map(Vec::as_slice).collect();
        analyst.features(series, &channels, row)
    }

    fn tensor(&self, image: &Decoded, view: View, input: &mut [f32]) -> Result<()> {
        let manifest = self.backbone.manifest();
        let view = match self.backbone.sense() {
            Sense::Picture => view,
            // Its view was heard: nothing is cut off the picture.
            Sense::Sound(_) | Sense::Series(_) => View::Original,
        };
        let preprocessing = &manifest.preprocessing;
        preprocessing.tensor(image, &manifest.input, view, input)
    }
}

/// What a thread hears with, made at the first call.
fn ear<'b>(ear: &'b mut Option<Ear>, sound: &Sound) -> Result<&'b Ear> {
    Ok(match ear {
        Some(ear) => ear,
        none => none.insert(Ear::new(sound)?),
    })
}

/// The network of a thread, made at the first call.
fn network<'b>(
    network: &'b mut Option<(Worker, Vec<f32>)>,
    backbone: &LazyBackbone,
) -> Result<(&'b mut Worker, &'b mut [f32])> {
    let (worker, input) = match network {
        Some(network) => network,
        none => {
            let input = vec![0.0; backbone.manifest().input.elements()];
            none.insert((backbone.get()?.worker()?, input))
        }
    };
    Ok((worker, input))
}

impl<'a> File<'a> {
    /// Reads a sample's file, unless it was the last one.
    fn open(sample: &'a Source<'a>, last: Option<&Kept>) -> Result<Self> {
        let known = last.filter(|kept| sample.part.is_some() && kept.file == place(sample));
        if let Some(kept) = known {
            return Ok(Self {
                sample,
                bytes: None,
                digest: kept.digest,
            });
        }
        let bytes = sample.read()?;
        Ok(Self {
            sample,
            digest: Sha256::digest(&bytes).into(),
            bytes: Some(bytes),
        })
    }

    fn read(self) -> Result<Cow<'a, [u8]>> {
        self.bytes.map_or_else(|| self.sample.read(), Ok)
    }
}

/// What tells one file from another while a job runs.
fn place(sample: &Source<'_>) -> (PathBuf, Option<usize>) {
    let address = sample.bytes.map(|bytes| bytes.as_ptr() as usize);
    (sample.path.to_path_buf(), address)
}

/// The digest that a part of a file is known by in the cache.
fn of_part(file: Digest32, part: Option<Part>) -> Digest32 {
    let Some(part) = part else {
        return file;
    };
    let mut hasher = Sha256::new();
    hasher.update(b"fieldtune: part of a file");
    hasher.update(file);
    hasher.update(part.start_ms.to_le_bytes());
    hasher.update(part.end_ms.to_le_bytes());
    hasher.finalize().into()
}

/// A file whose name says another kind is told so; one whose name says nothing is tried.
fn require_kind(path: &Path, wanted: Kind) -> Result<()> {
    match Kind::of(path) {
        Some(kind) if kind != wanted => {
            let what = format_args!("is a {}, not a {}", kind.name(), wanted.name());
            let remedy = format_args!("give {}", wanted.plural());
            Err(Error::at(ErrorKind::BadInput, path, what, remedy))
        }
        _ => Ok(()),
    }
}

/// The error's line without the path, which stands beside it.
fn reason(sample: &Source<'_>, error: &Error) -> String {
    let line = error.to_string();
    let path = Error::new(error.kind(), sample.path.display()).to_string();
    match line
        .strip_prefix(&path)
        .and_then(|rest| rest.strip_prefix(": "))
    {
        Some(rest) => rest.into(),
        None => line,
    }
}

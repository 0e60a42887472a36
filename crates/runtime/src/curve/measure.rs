//! How good heads are that are trained on a part of the samples: subsets of several
//! sizes, several draws of each, judged on the rest. What follows from it is `curve.rs`'s.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fieldtune_core::Kernel;
use fieldtune_core::random::Random;
use rayon::prelude::*;

use crate::data::Data;
use crate::error::Result;
use crate::recipe::{Recipe, train};
use crate::search::{Unit, best, units};

/// Parts of each class that are trained on.
const PARTS: [f64; 5] = [0.25, 1.0 / 3.0, 0.5, 2.0 / 3.0, 0.75];
/// Subsets of each size.
const DRAWS: usize = 4;
/// Keeps these random numbers apart from those of the search.
const SEED: u64 = 0x0c02_7e00;

/// What is measured, and with what.
#[derive(Clone, Copy)]
pub struct Study<'a> {
    /// The samples.
    pub data: Data<'a>,
    /// How each head is trained.
    pub recipe: &'a Recipe,
    /// Seed of subsets and training.
    pub seed: u64,
    /// Kernel of the matrix products.
    pub kernel: Kernel,
    /// Time that all trainings together may take.
    pub time: Duration,
}

/// What heads trained on as many samples said about the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Samples trained on, all classes together.
    pub trained: usize,
    /// Heads trained.
    pub heads: usize,
    /// Judgements of each class.
    pub judged: Vec<usize>,
    /// Wrong ones among them.
    pub wrong: Vec<usize>,
}

/// Which samples are trained on; the others are judged.
struct Job {
    size: usize,
    draw: usize,
    trained: Vec<usize>,
}

impl Tally {
    /// Without any judgement yet.
    pub fn new(classes: usize, trained: usize) -> Self {
        Self {
            trained,
            heads: 0,
            judged: vec![0; classes],
            wrong: vec![0; classes],
        }
    }

    /// Counts one judgement.
    pub fn add(&mut self, truth: u16, logits: &[f32]) {
        let class = usize::from(truth);
        self.judged[class] += 1;
        self.wrong[class] += usize::from(best(logits) != class);
    }

    /// Share called wrong, every judgement counting alike.
    pub fn error(&self) -> f64 {
        let judged: usize = self.judged.iter().sum();
        self.wrong.iter().sum::<usize>() as f64 / judged.max(1) as f64
    }
}

impl Study<'_> {
    /// One tally a size, the smallest first; `None` when the time would not do for one head
    /// of each size. With little time there are fewer draws, and which ones is all that
    /// time decides.
    ///
    /// # Errors
    /// Those of [`train`].
    pub fn run(&self) -> Result<Option<Vec<Tally>>> {
        let start = Instant::now();
        let mut jobs = self.jobs();
        let Some(largest) = jobs
            .iter()
            .position(|job| job.draw == 0 && job.size + 1 == sizes(&jobs))
        else {
            return Ok(Some(Vec::new()));
        };
        if self.time.is_zero() {
            return Ok(None);
        }
        let first = jobs.swap_remove(largest);
        let mut tallies: BTreeMap<usize, Tally> = BTreeMap::new();
        add(&mut tallies, &first, self.judge(&first)?);
        let steps = |job: &Job| self.steps(job) / self.steps(&first);
        let threads = rayon::current_num_threads().max(1) as f64;
        let taken = start.elapsed();
        let round = taken.as_secs_f64() / threads;
        let left = self.time.saturating_sub(taken).as_secs_f64();
        // A draw after another, while all of it still fits in.
        let mut seconds = 0.0;
        let mut draws = 0;
        for draw in 0..DRAWS {
            seconds += jobs
                .iter()
                .filter(|job| job.draw == draw)
                .map(steps)
                .sum::<f64>()
                * round;
            if seconds > left {
                break;
            }
            draws = draw + 1;
        }
        if draws == 0 {
            return Ok(None);
        }
        jobs.retain(|job| job.draw < draws);
        let outputs: Vec<Tally> = jobs
            .par_iter()
            .map(|job| self.judge(job))
            .collect::<Result<_>>()?;
        for (job, tally) in jobs.iter().zip(outputs) {
            add(&mut tallies, job, tally);
        }
        Ok(Some(tallies.into_values().collect()))
    }

    /// Steps of one training, up to a factor that is the same for all.
    fn steps(&self, job: &Job) -> f64 {
        let rows = job.trained.len() * self.data.views.len();
        f64::from(self.recipe.epochs_for(rows)) * rows.div_ceil(self.recipe.batch.max(1)) as f64
    }

    /// Every draw of every size that trains on another number of samples than the size
    /// before it.
    fn jobs(&self) -> Vec<Job> {
        let mut jobs = Vec::new();
        let (mut size, mut before) = (0, 0);
        for (index, part) in PARTS.into_iter().enumerate() {
            let classes = self.shuffled(index as u64);
            let first = subset(&classes, part, 0);
            if first.len() == before {
                continue;
            }
            before = first.len();
            for draw in 0..DRAWS {
                let trained = subset(&classes, part, draw);
                jobs.push(Job {
                    size,
                    draw,
                    trained,
                });
            }
            size += 1;
        }
        jobs
    }

    /// The groups of each class in random order.
    fn shuffled(&self, size: u64) -> Vec<Vec<Unit>> {
        let mut random = Random::new(self.seed.wrapping_add(SEED + size));
        let mut all = units(&self.data, 0..self.data.len());
        random.shuffle(&mut all);
        let mut classes: Vec<Vec<Unit>> = (0..self.data.classes).map(|_| Vec::new()).collect();
        for unit in all {
            classes[unit.label].push(unit);
        }
        classes
    }

    fn judge(&self, job: &Job) -> Result<Tally> {
        let mut trained = job.trained.clone();
        trained.sort_unstable();
        let held_out: Vec<usize> = (0..self.data.len())
            .filter(|row| trained.binary_search(row).is_err())
            .collect();
        let seed = self
            .seed
            .wrapping_add(SEED + 100 * job.size as u64 + job.draw as u64);
        let head = train(self.recipe, &self.data, &trained, seed, self.kernel)?;
        let logits = head.judge(&self.data, &held_out, self.kernel)?;
        let mut tally = Tally::new(self.data.classes, trained.len());
        tally.heads = 1;
        for (row, logits) in held_out.iter().zip(logits.chunks_exact(self.data.classes)) {
            tally.add(self.data.labels[*row], logits);
        }
        Ok(tally)
    }
}

fn sizes(jobs: &[Job]) -> usize {
    jobs.iter().map(|job| job.size + 1).max().unwrap_or(0)
}

fn add(tallies: &mut BTreeMap<usize, Tally>, job: &Job, found: Tally) {
    let sum = tallies
        .entry(job.size)
        .or_insert_with(|| Tally::new(found.judged.len(), found.trained));
    sum.heads += found.heads;
    for (sum, one) in sum.judged.iter_mut().zip(&found.judged) {
        *sum += one;
    }
    for (sum, one) in sum.wrong.iter_mut().zip(&found.wrong) {
        *sum += one;
    }
}

/// About `part` of the samples of each class, whole groups: one at least, and where there
/// is more than one, not all. Draws start at other places of the class's order, so that
/// every sample is judged about as often.
fn subset(classes: &[Vec<Unit>], part: f64, draw: usize) -> Vec<usize> {
    let mut chosen = Vec::new();
    for units in classes {
        let all: usize = units.iter().map(|unit| unit.rows.len()).sum();
        let wanted = (part * all as f64).round() as usize;
        let most = units.len().saturating_sub(1).max(1);
        let start = draw * units.len() / DRAWS;
        let mut taken = 0;
        for unit in units.iter().cycle().skip(start).take(most) {
            if taken > 0 && taken >= wanted {
                break;
            }
            taken += unit.rows.len();
            chosen.extend_from_slice(&unit.rows);
        }
    }
    chosen
}

/// At most how many heads are trained, each on half of the samples on average.
pub fn fits() -> usize {
    PARTS.len() * DRAWS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn study_units(groups: &[usize], labels: &[u16], classes: usize) -> Vec<Vec<Unit>> {
        let data = Data::of_labels(labels, groups, classes);
        let mut found: Vec<Vec<Unit>> = (0..classes).map(|_| Vec::new()).collect();
        for unit in units(&data, 0..labels.len()) {
            found[unit.label].push(unit);
        }
        found
    }

    #[test]
    fn subsets_hold_every_class_whole_groups_and_leave_some_to_judge() {
        // Two classes of 6 groups of 2 samples, one class of a single sample.
        let labels: Vec<u16> = (0..24).map(|row| row / 12).chain([2]).collect();
        let groups: Vec<usize> = (0..24).map(|row| row / 2).chain([99]).collect();
        let classes = study_units(&groups, &labels, 3);
        for part in PARTS {
            for draw in 0..DRAWS {
                let rows = subset(&classes, part, draw);
                let of = |class: u16| rows.iter().filter(|row| labels[**row] == class).count();
                let wanted = ((12.0 * part).round() as usize).next_multiple_of(2);
                assert_eq!((of(0), of(1), of(2)), (wanted, wanted, 1), "{part} {draw}");
                for row in &rows {
                    let together = |other: &usize| groups[*other] == groups[*row];
                    let whole = (0..25).filter(together).count();
                    assert_eq!(rows.iter().copied().filter(|r| together(r)).count(), whole);
                }
            }
        }
        // The draws of one size judge different samples.
        let [one, other] = [0, 2].map(|draw| subset(&classes, 0.5, draw));
        assert!(one.iter().filter(|row| other.contains(row)).count() <= 1);
    }
}

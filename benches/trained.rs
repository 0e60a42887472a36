//! Heads trained as the command trains them, on frozen features.

use std::time::Duration;

use fieldtune::candidates::{Wishes, candidates};
use fieldtune::data::Data;
use fieldtune::error::Error;
use fieldtune::recipe::{Trained, train};
use fieldtune::search::{Found, Search};
use fieldtune_core::Kernel;

/// Time enough for every search and curve in a bench.
pub const TIME: Duration = Duration::from_secs(600);

/// What a Raspberry Pi 4 does in the minute that `train` searches for without flags takes two
/// x86-64 processors a few seconds: a picture passes the backbone twenty times as fast by the
/// counts of `targets/measure`, and the board has twice as many processors. With room for
/// other work beside.
pub const BOARD_TIME: Duration = Duration::from_secs(10);

/// Searches among what fits the wishes, and trains what was found on all of `data`.
///
/// # Errors
/// As [`Search::run`] and [`train`].
pub fn searched(data: &Data<'_>, wishes: &Wishes, seed: u64) -> Result<(Found, Trained), Error> {
    searched_within(TIME, data, wishes, seed)
}

/// As [`searched`], with a limit of its time.
///
/// # Errors
/// As [`searched`].
pub fn searched_within(
    time: Duration,
    data: &Data<'_>,
    wishes: &Wishes,
    seed: u64,
) -> Result<(Found, Trained), Error> {
    let kernel = Kernel::best();
    let search = Search {
        data: *data,
        seed,
        kernel,
        time,
    };
    let all: Vec<usize> = (0..data.len()).collect();
    let counts = data.counts(all.iter().copied());
    let found = search.run(&candidates(wishes, &counts), &|_, _| {})?;
    let head = train(&found.recipe, data, &all, seed, kernel)?;
    Ok((found, head))
}

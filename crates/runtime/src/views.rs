//! Which views of a sample a head is trained on and predicts from. How a view is cut out
//! of a picture is in `preprocess.rs`.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::preprocess::View;

/// A set of views that holds [`View::Original`]. In a head file it is one number: bit 0
/// for the mirrored view, bit 1 for the near one, bit 2 for the far one, bit 3 for the
/// brighter one, bit 4 for the darker one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ViewSet(u8);

impl ViewSet {
    /// Each sample as it is.
    pub const ORIGINAL: Self = Self(0);
    /// With its mirror image.
    pub const MIRRORED: Self = Self(0b00001);
    /// Nearer and farther, never mirrored.
    pub const ZOOMED: Self = Self(0b00110);
    /// Brighter and darker, never mirrored.
    pub const LIT: Self = Self(0b11000);
    /// Every view.
    pub const ALL: Self = Self(0b11111);

    /// The set with this number in a head file; `None` for an unknown number.
    pub fn from_number(number: u8) -> Option<Self> {
        (number <= Self::ALL.0).then_some(Self(number))
    }

    /// Its number in a head file.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Whether it holds a view.
    pub fn contains(self, view: View) -> bool {
        view == View::Original || self.0 & bit(view) != 0
    }

    /// The views in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The views in both sets.
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Without one view; the original always stays.
    pub fn without(self, view: View) -> Self {
        Self(self.0 & !bit(view))
    }

    /// Its views, in the order of [`View::ALL`].
    pub fn views(self) -> impl Iterator<Item = View> {
        View::ALL
            .into_iter()
            .filter(move |view| self.contains(*view))
    }

    /// How many views.
    pub fn count(self) -> usize {
        self.views().count()
    }
}

/// What stands for a view in a set's number; nothing for the one that is always there.
fn bit(view: View) -> u8 {
    match view {
        View::Original => 0,
        View::Mirrored => 0b00001,
        View::Near => 0b00010,
        View::Far => 0b00100,
        View::Brighter => 0b01000,
        View::Darker => 0b10000,
    }
}

/// As words that go on after "on".
impl fmt::Display for ViewSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.views().map(View::name).collect();
        match names.as_slice() {
            [one] => write!(f, "the {one} view"),
            [others @ .., last] => write!(f, "{} and {last} views", others.join(", ")),
            [] => Ok(()),
        }
    }
}

impl Serialize for ViewSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.views().map(View::name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_sets_and_heads_from_before_keep_their_meaning() {
        for number in 0..32 {
            let set = ViewSet::from_number(number).expect("known");
            assert_eq!(set.number(), number);
            assert!(set.contains(View::Original));
            assert_eq!(set.count(), 1 + number.count_ones() as usize);
        }
        assert_eq!(ViewSet::from_number(32), None);
        // Formats 1 and 2 had one bit: whether the mirror image counts.
        let views: Vec<View> = ViewSet::from_number(1).expect("known").views().collect();
        assert_eq!(views, [View::Original, View::Mirrored]);
    }

    #[test]
    fn sets_are_said_in_words() {
        assert_eq!(ViewSet::ORIGINAL.to_string(), "the original view");
        assert_eq!(ViewSet::MIRRORED.to_string(), "original and mirrored views");
        assert_eq!(ViewSet::ZOOMED.to_string(), "original, near and far views");
        assert_eq!(ViewSet::ALL.without(View::Near).count(), 5);
    }
}

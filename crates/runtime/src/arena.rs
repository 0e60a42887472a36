//! Memory of trainings, used again by the next one of the same thread. How large it is says
//! the memory plan in `fieldtune-core`.

use std::cell::Cell;

thread_local! {
    /// The arena of the last training of a search's thread.
    static ARENA: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// The arena of one training. The threads of a search, which end with it, use theirs again:
/// allocators do not give back what lies between others, and the peak would be a multiple.
pub(crate) struct Arena(Vec<f32>);

impl Arena {
    /// So many zeros.
    pub fn take(elements: usize) -> Self {
        let mut arena = ARENA.take();
        if arena.capacity() < elements {
            // Freed before the larger one is allocated.
            arena = Vec::new();
        }
        arena.clear();
        arena.resize(elements, 0.0);
        Self(arena)
    }

    /// All of it.
    pub fn elements(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if rayon::current_thread_index().is_some() {
            ARENA.set(std::mem::take(&mut self.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_of_a_search_uses_its_arena_again_and_finds_zeros() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let places = pool.expect("a thread").install(|| {
            [900, 1000, 500, 1000].map(|elements| {
                let mut arena = Arena::take(elements);
                assert!(arena.elements().iter().all(|value| *value == 0.0));
                assert_eq!(arena.elements().len(), elements);
                arena.elements().fill(1.0);
                arena.elements().as_ptr() as usize
            })
        });
        assert_eq!(places[1..], [places[1]; 3]);
        // Elsewhere nothing stays.
        drop(Arena::take(10));
        assert_eq!(ARENA.take().capacity(), 0);
    }
}

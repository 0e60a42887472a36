//! Promise: when a device's power goes, at whatever step of whatever writing to its flash,
//! it has the old head or the new one afterwards, whole, and takes the next. Tried on a
//! simulated flash that is cut after every step, the step itself torn at random.

use fieldtune_core::device::{Broken, Slots, Storage, WORD_BYTES};
use fieldtune_tests::devices::{Desk, Flash, job, rows};
use fieldtune_tests::small_heads::small_head_bytes;

/// Random tears of each cut.
const TEARS: u64 = 20;

fn flash() -> Flash {
    Flash::new(2048, 256)
}

/// The number of the head in use.
fn number(slots: &Slots<Flash>) -> Option<u64> {
    let head = slots.head()?;
    let head = fieldtune_core::head::Head::decode(head).expect("half a head is in use");
    Some(head.trained.seed)
}

/// Flash that holds the heads before `next`, written one after another.
fn with_heads(before: u8) -> Flash {
    let mut slots = Slots::new(flash());
    for head in 1..=before {
        slots.write(&small_head_bytes(head)).expect("written");
    }
    slots.into_storage()
}

#[test]
fn a_cut_anywhere_leaves_the_old_head_or_the_new() {
    for before in 0..4u8 {
        let start = with_heads(before);
        let old = (before > 0).then_some(u64::from(before));
        let new = Some(u64::from(before) + 1);
        let mut cuts = 0;
        loop {
            let mut finished = false;
            for tear in 0..TEARS {
                let mut cut = start.restarted();
                (cut.left, cut.random) = (Some(cuts), fieldtune_core::random::Random::new(tear));
                let mut slots = Slots::new(cut);
                finished = slots.write(&small_head_bytes(before + 1)).is_ok();
                let mut slots = Slots::new(slots.into_storage().restarted());
                let found = number(&slots);
                assert!(found == old || found == new, "{before} {cuts}: {found:?}");
                assert!(!finished || found == new, "a head that was kept is gone");
                // Work goes on.
                slots.write(&small_head_bytes(99)).expect("written");
                assert_eq!(number(&slots), Some(99));
            }
            if finished {
                break;
            }
            cuts += 1;
        }
        assert!(cuts > 5, "the cuts were not where the writing was");
    }
}

#[test]
fn a_cut_while_a_device_keeps_what_it_trained_leaves_the_old_head() {
    let mut desk = Desk::new(flash());
    let trained = |reply: fieldtune_core::link::Reply<'_>| format!("{reply:?}");
    assert!(desk.train(&job(), &rows(8), trained).starts_with("Trained"));
    let old = desk.head();
    let start = desk.device.into_storage();
    let mut cuts = 0;
    loop {
        let mut cut = start.restarted();
        cut.left = Some(cuts);
        let mut desk = Desk::new(cut);
        let said = desk.train(&job(), &rows(12), trained);
        let finished = said.starts_with("Trained");
        assert!(finished || said == "Refused(Flash)", "{said}");
        let mut desk = Desk::new(desk.device.into_storage().restarted());
        let found = desk.head();
        assert!(finished || found == old, "after {cuts} steps");
        if finished {
            assert_ne!(found, old);
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 6, "the cuts were not where the writing was");
}

#[test]
fn a_damaged_slot_is_not_used() {
    let start = with_heads(2);
    for at in 0..2 * WORD_BYTES {
        for bit in 0..8 {
            let mut hurt = start.restarted();
            // The second slot holds the head in use; not all of its first word has meaning.
            hurt.bytes[2048 + at] ^= 1 << bit;
            let found = number(&Slots::new(hurt));
            let unread = (16..WORD_BYTES).contains(&at);
            assert_eq!(found, Some(if unread { 2 } else { 1 }), "byte {at}");
        }
    }
}

#[test]
fn flash_that_does_not_keep_is_noticed() {
    /// Writes nothing and says that all is well.
    struct Dead(Flash);
    impl Storage for Dead {
        fn bytes(&self) -> &[u8] {
            self.0.bytes()
        }
        fn page_bytes(&self) -> usize {
            self.0.page_bytes()
        }
        fn erase(&mut self, _: usize) -> Result<(), Broken> {
            Ok(())
        }
        fn program(&mut self, _: usize, _: &[u8; WORD_BYTES]) -> Result<(), Broken> {
            Ok(())
        }
    }
    let mut slots = Slots::new(Dead(with_heads(1)));
    assert_eq!(slots.write(&small_head_bytes(2)), Err(Broken));
    assert!(slots.head().is_some_and(|head| head == small_head_bytes(1)));
    let mut small = Slots::new(Flash::new(128, 128));
    assert_eq!(small.write(&small_head_bytes(1)), Err(Broken), "no room");
}

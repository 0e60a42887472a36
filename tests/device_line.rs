//! Promise: a device trains what the host would have trained, bit for bit; whatever the line
//! does to frames, the device and the host notice and go on; and what cannot be done is
//! refused with its reason.

use fieldtune_core::Kernel;
use fieldtune_core::head::{Floats, Head};
use fieldtune_core::link::{self, Fault, Place, Receiver, Refusal, Reply, Request, UNREADABLE};
use fieldtune_core::network::Network;
use fieldtune_core::predict::{logits, probabilities, workspace_elements};
use fieldtune_core::prototype::{class_means, imprint};
use fieldtune_core::train::{Samples, Trainer, fit};
use fieldtune_tests::devices::{Desk, Flash, floats, frame, job, rows};
use proptest::prelude::*;

fn desk() -> Desk {
    Desk::new(Flash::new(4096, 256))
}

/// Rows of a matrix.
struct Rows(Vec<f32>, Vec<u16>);

impl Samples for Rows {
    fn len(&self) -> usize {
        self.1.len()
    }

    fn read(&self, index: usize, features: &mut [f32]) -> u16 {
        features.copy_from_slice(&self.0[6 * index..6 * index + 6]);
        self.1[index]
    }
}

/// The parameters that the host finds for `job` and `rows`.
fn trained_here(given: &[(Vec<f32>, u16)]) -> Vec<f32> {
    let job = job();
    let network = job.network().expect("sound");
    let mut matrix = Rows(Vec::new(), given.iter().map(|(_, label)| *label).collect());
    for (row, _) in given {
        let mut row = row.clone();
        job.transform.apply(&mut row);
        matrix.0.extend(row);
    }
    let options = job.options();
    let plan = options.plan(&network).expect("sound");
    let mut arena = vec![0.0; plan.elements()];
    let mut trainer = Trainer::new(&network, options, &mut arena, job.training.seed);
    let trainer = trainer.as_mut().expect("sound");
    let (mut means, mut counts) = (vec![0.0; 12], vec![0; 2]);
    class_means(&matrix.0, &matrix.1, &mut means, &mut counts);
    let (weights, biases) = trainer.parameters_mut().split_at_mut(12);
    imprint(&means, job.training.imprint_gain, weights, &mut biases[..2]);
    let (mut order, mut labels) = (vec![0; given.len()], vec![0; options.batch]);
    let (epochs, rate) = (job.training.epochs, job.training.learning_rate);
    fit(trainer, &matrix, epochs, rate, &mut order, &mut labels).expect("trains");
    trainer.parameters().to_vec()
}

#[test]
fn a_device_trains_and_predicts_what_the_host_does() {
    let given = rows(11);
    let mut desk = desk();
    desk.train(&job(), &given, |reply| match reply {
        Reply::Trained(trained) => {
            let plan = job().options().plan(&job().network().expect("sound"));
            assert_eq!(u64::from(trained.arena_bytes), plan.expect("sound").bytes());
            assert!(trained.loss < 0.2, "{trained:?}");
        }
        other => panic!("{other:?}"),
    });
    let file = desk.head();
    let head = Head::decode(&file).expect("a whole head");
    let here = trained_here(&given);
    assert_eq!(head.parameters, Floats::new(&floats(&here)));
    assert_eq!(head.trained.samples, [6, 5]);
    assert_eq!(
        (head.trained.program, head.trained.recipe),
        ("test", "a test")
    );
    assert_eq!(
        (&head.labels, head.backbone),
        (&job().labels, job().backbone)
    );
    let network = head.network().expect("sound");
    for (row, label) in rows(20) {
        let mut features = row.clone();
        head.transform.apply(&mut features);
        let kernel = Kernel::lanes();
        let mut work = vec![0.0; workspace_elements(&network, 1, kernel)];
        let mut wanted = [0.0; 2];
        logits(&network, &here, kernel, &features, &mut work, &mut wanted).expect("fits");
        probabilities(&mut wanted, 2, 1.5);
        desk.write(Place::Sample, &floats(&row));
        desk.ask(&Request::Predict, |reply| match reply {
            Reply::Prediction(found) => {
                assert_eq!(found.label, label);
                assert_eq!(found.probabilities, floats(&wanted));
                assert!(!found.unknown && found.unknown_score.is_none());
            }
            other => panic!("{other:?}"),
        });
    }
}

#[test]
fn what_cannot_be_done_is_refused_with_its_reason() {
    let mut desk = desk();
    let mut refused = |request: Request<'_>, wanted: Refusal| {
        desk.ask(&request, |reply| assert_eq!(reply, Reply::Refused(wanted)));
    };
    refused(Request::Predict, Refusal::NoHead);
    refused(Request::Train, Refusal::NoJob);
    refused(Request::Add { index: 0, label: 0 }, Refusal::NoJob);
    refused(Request::Begin { job_bytes: 9 }, Refusal::Job);
    let (need, have) = (2000, 1000);
    refused(
        Request::Begin { job_bytes: 2000 },
        Refusal::NoRoom { need, have },
    );
    refused(Request::Install { head_bytes: 400 }, Refusal::Head);
    let (need, have) = (9000, 4096 - 32);
    refused(
        Request::Install { head_bytes: 9000 },
        Refusal::NoRoom { need, have },
    );
    let far = Request::Write {
        place: Place::Sample,
        offset_bytes: u32::MAX,
        bytes: &[1],
    };
    let (need, have) = (u32::MAX, 2000);
    refused(far, Refusal::NoRoom { need, have });
    let nothing = |reply: Reply<'_>| format!("{reply:?}");
    assert!(desk.train(&job(), &[], nothing).contains("SampleMissing"));
    let mut refused = |request: Request<'_>, wanted: Refusal| {
        desk.ask(&request, |reply| assert_eq!(reply, Reply::Refused(wanted)));
    };
    refused(Request::Add { index: 0, label: 2 }, Refusal::Label);
    let (need, have) = (61, 60);
    refused(
        Request::Add {
            index: 60,
            label: 0,
        },
        Refusal::NoRoom { need, have },
    );
    desk.write(Place::Sample, &floats(&[f32::NAN; 6]));
    let add = Request::Add { index: 3, label: 0 };
    desk.ask(&add, |reply| {
        assert_eq!(reply, Reply::Refused(Refusal::Sample))
    });
    desk.write(Place::Sample, &floats(&[1.0; 6]));
    desk.ask(&add, |reply| assert_eq!(reply, Reply::Done));
    let missing = Refusal::SampleMissing { index: 0 };
    desk.ask(&Request::Train, |reply| {
        assert_eq!(reply, Reply::Refused(missing))
    });
}

#[test]
fn jobs_that_contradict_themselves_or_do_not_fit_are_refused() {
    let mut desk = desk();
    let limits = desk.ask(&Request::Info, |reply| match reply {
        Reply::Info(info) => info.limits,
        other => panic!("{other:?}"),
    });
    assert!(fieldtune_core::device::fit(&job(), &limits).is_ok());
    let mut bytes = [0; 1000];
    let broken: [fn(&mut link::Job<'_>); 8] = [
        |job| job.backbone.features = 7,
        |job| job.labels.truncate(1),
        |job| job.training.epochs = 0,
        |job| job.training.batch = 0,
        |job| job.training.learning_rate = f32::NAN,
        |job| job.training.temperature = 0.0,
        |job| job.training.decay.lambda = -1.0,
        |job| job.transform.length = f32::INFINITY,
    ];
    for (index, breaks) in broken.iter().enumerate() {
        let mut job = job();
        breaks(&mut job);
        assert!(job.encode(&mut bytes).is_err(), "{index}");
    }
    let mut wide = job();
    let network = Network::mlp(6, &[400], 2).expect("sound");
    wide.layers = network.layers().iter().copied().collect();
    wide.training.imprint_gain = 0.0;
    let refused = fieldtune_core::device::fit(&wide, &limits);
    assert!(
        matches!(refused, Err(Refusal::NoRoom { .. })),
        "{refused:?}"
    );
    wide.training.batch = 100;
    let refused = fieldtune_core::device::fit(&wide, &limits);
    let (need, have) = (100, 16);
    assert_eq!(refused, Err(Refusal::NoRoom { need, have }));
}

#[test]
fn an_answer_that_was_lost_is_sent_again_without_doing_the_work_again() {
    let mut desk = desk();
    let counter = |reply: Reply<'_>| match reply {
        Reply::Trained(trained) => trained.slot.counter,
        other => panic!("{other:?}"),
    };
    assert_eq!(desk.train(&job(), &rows(8), counter), 1);
    // As the host sent it: samples are gone, so that a second training would be refused.
    let again = frame(desk.sequence(), &Request::Train);
    let messages = desk.say(&again);
    let (_, reply) = link::decode::<Reply<'_>>(&messages[0]).expect("a reply");
    assert_eq!(counter(reply), 1);
}

/// What a line may do to a frame.
#[derive(Clone, Debug)]
enum Harm {
    Flip { at: usize, bits: u8 },
    Cut { at: usize },
    Drop { at: usize },
    Insert { at: usize, bytes: Vec<u8> },
}

fn harm() -> impl Strategy<Value = Harm> {
    let at = 0usize..2000;
    prop_oneof![
        (at.clone(), 1u8..).prop_map(|(at, bits)| Harm::Flip { at, bits }),
        at.clone().prop_map(|at| Harm::Cut { at }),
        at.clone().prop_map(|at| Harm::Drop { at }),
        (at, prop::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(at, bytes)| Harm::Insert { at, bytes }),
    ]
}

/// The frame's inside, after harm; its first byte only ends what was before.
fn harmed(frame: &[u8], harm: &Harm) -> Vec<u8> {
    let mut harmed = frame.to_vec();
    let place = |at: usize| 1 + at % (frame.len() - 1);
    match harm {
        Harm::Flip { at, bits } => harmed[place(*at)] ^= bits,
        Harm::Cut { at } => harmed.truncate(place(*at)),
        Harm::Drop { at } => drop(harmed.remove(place(*at))),
        Harm::Insert { at, bytes } => {
            let place = place(*at);
            harmed.splice(place..place, bytes.iter().copied());
        }
    }
    harmed
}

proptest! {
    #[test]
    fn no_harm_passes_for_a_message_and_the_next_frame_is_read(
        data in prop::collection::vec(any::<u8>(), 0..=1024),
        sequence in 1u8..,
        harm in harm(),
    ) {
        let write = Request::Write { place: Place::Job, offset_bytes: 3, bytes: &data };
        let sent = frame(sequence, &write);
        let mut line = harmed(&sent, &harm);
        let next = frame(9, &Request::Slots);
        let extra = line.len();
        line.extend(&next);
        let mut receiver = Receiver::new();
        let mut last = None;
        for (index, byte) in line.iter().enumerate() {
            if let Some(Ok(message)) = receiver.push(*byte) {
                let decoded = link::decode::<Request<'_>>(message);
                // Only the end was harmed, or only what stands before or behind it.
                let same = decoded == Ok((sequence, write));
                prop_assert!(same || index > extra, "{decoded:?}");
                let said = decoded.ok();
                last = said.map(|(sequence, request)| (sequence, request == Request::Slots));
            }
        }
        prop_assert_eq!(last, Some((9, true)));
    }

    #[test]
    fn any_bytes_at_all_harm_neither_device_nor_host(
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
    ) {
        let mut desk = desk();
        for message in desk.say(&bytes) {
            let reply = link::decode::<Reply<'_>>(&message).expect("a reply");
            prop_assert_eq!(reply, (UNREADABLE, Reply::Refused(Refusal::Unreadable)));
        }
        desk.say(&[0]);
        desk.ask(&Request::Slots, |reply| assert!(matches!(reply, Reply::Slots { .. })));
    }

    #[test]
    fn any_message_at_all_is_answered(
        message in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut desk = desk();
        let mut sent = vec![0; 300];
        // The message as it is, with the right checksum.
        let length = link::encode_bytes(&message, &mut sent).expect("fits");
        let answers = desk.say(&sent[..length]);
        prop_assert!(!answers.is_empty());
        desk.ask(&Request::Slots, |reply| assert!(matches!(reply, Reply::Slots { .. })));
    }
}

#[test]
fn a_frame_without_end_is_given_up() {
    let mut receiver = Receiver::new();
    assert!((0..5000).all(|_| receiver.push(7).is_none()));
    assert_eq!(receiver.push(0), Some(Err(Fault::TooLong)));
    assert_eq!(receiver.push(0), None);
}

//! Turns, clocks and wakings of the compute workers, without their threads.

use network::{NamedTensor, Signature, Tensor, TensorSpec};
use tokio::sync::oneshot;

use super::*;
use crate::executor::Identity;
use crate::scheduler::settings::QueueSettings;
use crate::scheduler::waiting::Rules;

fn core(weight: u32) -> Arc<Core> {
    core_with(1, QueueSettings { weight, ..QueueSettings::default() })
}

fn core_with(most: usize, settings: QueueSettings) -> Arc<Core> {
    let spec = vec![TensorSpec::batched_f32("x", &[1])];
    Arc::new(Core {
        model: "m".to_owned(),
        version: 1,
        executor: Arc::new(Identity(Signature { inputs: spec.clone(), outputs: spec })),
        rules: Rules { most, joins: true, settings },
        stats: Default::default(),
        health: Arc::default(),
    })
}

type Answers = Vec<oneshot::Receiver<Result<crate::served::Answer, crate::served::AskError>>>;

/// Queues one row. Who wants the answer must be kept.
fn push(shared: &Shared, queue: u64, answers: &mut Answers) {
    let (reply, answer) = oneshot::channel();
    answers.push(answer);
    let tensor = Tensor::from_f32(vec![1, 1], vec![0.0]).unwrap();
    let inputs = vec![NamedTensor { name: "x".to_owned(), tensor }];
    shared.push(queue, 1, Arc::new(Request::new(inputs, 1, Instant::now(), None, reply))).unwrap();
}

/// Takes batches, which take so many nanoseconds, and counts them by queue. There is always more of each.
fn turns(shared: &Shared, took: &[(u64, u64)], turns: usize, answers: &mut Answers) -> Vec<usize> {
    let (mut counts, mut done) = (vec![0; took.len()], None);
    for _ in 0..turns {
        for (queue, _) in took {
            if shared.waiting(*queue).0 == 0 {
                push(shared, *queue, answers);
            }
        }
        let job = shared.next(done.take()).unwrap();
        let place = took.iter().position(|(queue, _)| *queue == job.queue).unwrap();
        counts[place] += 1;
        let Job { queue, rows, charged, .. } = job;
        done = Some(Done { queue, rows, took: took[place].1, charged });
    }
    shared.lock().settle(&done.unwrap());
    counts
}

#[test]
fn models_share_the_time_by_weight() {
    let (shared, mut answers) = (Shared::default(), Vec::new());
    let (a, b) = (shared.add(core(100)), shared.add(core(300)));
    let counts = turns(&shared, &[(a, 1_000), (b, 1_000)], 400, &mut answers);
    assert!(counts[0].abs_diff(100) <= 3, "{counts:?}");
    // What counts is time: a batch that takes ten times as long comes a tenth as often.
    let counts = turns(&shared, &[(a, 10_000), (b, 3_000)], 440, &mut answers);
    assert!(counts[0].abs_diff(40) <= 3, "{counts:?}");
}

#[test]
fn nobody_saves_up_time() {
    let (shared, mut answers) = (Shared::default(), Vec::new());
    let (a, b) = (shared.add(core(1)), shared.add(core(1)));
    turns(&shared, &[(a, 1_000)], 1_000, &mut answers);
    let counts = turns(&shared, &[(a, 1_000), (b, 1_000)], 100, &mut answers);
    assert!(counts[0].abs_diff(50) <= 2, "{counts:?}");
}

#[test]
fn a_clock_does_not_end() {
    let (shared, mut answers) = (Shared::default(), Vec::new());
    shared.lock().clock = u64::MAX.into();
    let (a, b) = (shared.add(core(1)), shared.add(core(1)));
    let counts = turns(&shared, &[(a, 1_000), (b, 1_000)], 100, &mut answers);
    assert!(counts[0].abs_diff(50) <= 2, "{counts:?}");
}

#[test]
fn whoever_knew_of_a_delay_tells_of_it_before_it_computes() {
    let (shared, mut answers) = (Shared::default(), Vec::new());
    let patient = QueueSettings { max_delay_us: 20_000, ..QueueSettings::default() };
    let (other, patient) = (shared.add(core(1)), shared.add(core_with(2, patient)));
    std::thread::scope(|scope| {
        let (sender, taken) = std::sync::mpsc::channel();
        let shared = &shared;
        scope.spawn(move || sender.send(shared.next(None).map(|job| job.queue)));
        while shared.lock().asleep == 0 {
            std::thread::yield_now();
        }
        // Neither wakes the worker that sleeps: this thread is the one that was woken.
        shared.lock().looking += 1;
        push(shared, patient, &mut answers);
        push(shared, other, &mut answers);
        shared.lock().looking -= 1;
        assert_eq!(shared.next(None).unwrap().queue, other);
        let next = taken.recv_timeout(Duration::from_secs(60));
        shared.stop();
        assert_eq!(next, Ok(Some(patient)), "the other worker does not know when it is due");
    });
}

#[test]
fn workers_that_are_told_to_stop_finish_what_waits() {
    let (shared, mut answers) = (Shared::default(), Vec::new());
    let queue = shared.add(core(1));
    push(&shared, queue, &mut answers);
    shared.stop();
    let (reply, _answer) = oneshot::channel();
    let late = Arc::new(Request::new(Vec::new(), 1, Instant::now(), None, reply));
    assert_eq!(shared.push(queue, 1, late), Err(Refused::Stopped));
    shared.work();
    assert!(answers[0].try_recv().unwrap().is_ok());
}

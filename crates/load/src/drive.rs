//! Many connections in one thread.
//!
//! The generator shares the processors with the server that it measures. A thread for each connection would be woken
//! for each answer; here one thread is woken once for all answers that came meanwhile.

use std::io::{self, Write as _};
use std::net::TcpStream;
use std::ops::Range;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::generate::{Target, Turn};
use crate::http::{Head, Incoming, open};

/// A thread that waits until a request is due is woken this much too late as a rule, which is not the server's time.
/// What is more is counted: the processors that woke it late were busy with the server.
const OVERSLEEP: Duration = Duration::from_micros(100);
/// A server that refuses is not made busier by asking it without a pause.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// When requests are sent.
pub(crate) enum Plan<'a> {
    /// The next one when the last is answered, until then.
    Closed { until: Instant },
    /// At these times after `start`, whether or not the earlier ones are answered.
    Open { start: Instant, arrivals: &'a [Duration] },
}

/// One connection and what it does.
#[derive(Default)]
struct Lane {
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
    busy: Option<Busy>,
    /// Not before then.
    pause: Option<Instant>,
}

struct Busy {
    /// From when the time of the answer counts.
    since: Instant,
    /// Bytes of the request that are on their way.
    sent: usize,
    answer: Incoming,
}

/// Connections to one target.
pub(crate) struct Drive<'a> {
    target: &'a Target,
    lanes: Vec<Lane>,
}

impl<'a> Drive<'a> {
    pub(crate) fn new(target: &'a Target, connections: usize) -> Self {
        Self { target, lanes: (0..connections.max(1)).map(|_| Lane::default()).collect() }
    }

    /// Connects all, and has each ask once.
    pub(crate) fn warm_up(&mut self) {
        let until = Instant::now();
        let mut sent = vec![false; self.lanes.len()];
        // Whoever cannot connect now fails when it counts.
        let mut nothing = Tally { turn: Turn::default(), counted: until..until, by_arrival: false };
        self.run(&mut nothing, &mut |lane, now| match sent.get_mut(lane) {
            Some(sent) if !*sent => {
                *sent = true;
                Next::Now(now)
            }
            _ => Next::Never,
        });
    }

    /// Sends what the plan says and waits for all answers. Those within `counted` are counted: by when they are there
    /// where the plan is closed, by when they were due where it is open.
    pub(crate) fn send(&mut self, plan: &Plan<'_>, counted: Range<Instant>) -> Turn {
        let by_arrival = matches!(plan, Plan::Open { .. });
        let mut tally = Tally { turn: Turn::default(), counted, by_arrival };
        match plan {
            Plan::Closed { until } => {
                self.run(&mut tally, &mut |_, now| if now < *until { Next::Now(now) } else { Next::Never });
            }
            Plan::Open { start, arrivals } => {
                let mut waiting = arrivals.iter().map(|arrival| *start + *arrival).peekable();
                self.run(&mut tally, &mut |_, now| match waiting.peek() {
                    None => Next::Never,
                    Some(due) if *due > now => Next::At(*due),
                    Some(_) => waiting.next().map_or(Next::Never, |due| Next::Now(now.min(due + OVERSLEEP))),
                });
            }
        }
        tally.turn
    }

    /// Works until all connections are idle and `next` has no more for any of them.
    fn run(&mut self, tally: &mut Tally, next: &mut dyn FnMut(usize, Instant) -> Next) {
        let target = self.target;
        loop {
            let now = Instant::now();
            let mut wake = None::<Instant>;
            for (index, lane) in self.lanes.iter_mut().enumerate() {
                if lane.busy.is_some() {
                    continue;
                }
                let when = match lane.pause.filter(|until| *until > now) {
                    Some(until) => Next::At(until),
                    None => next(index, now),
                };
                match when {
                    Next::Now(since) => {
                        tally.turn.sent += 1;
                        lane.pause = None;
                        lane.busy = Some(Busy { since, sent: 0, answer: Incoming::new(&mut lane.buffer) });
                        let connected = lane.connect(target);
                        let sent = connected.and_then(|()| lane.write(target));
                        lane.settle(sent.map(|()| None), target, tally);
                    }
                    Next::At(when) => wake = Some(wake.map_or(when, |wake| wake.min(when))),
                    Next::Never => {}
                }
            }
            let (mut places, mut waits) = (Vec::new(), Vec::new());
            for (index, lane) in self.lanes.iter().enumerate() {
                if let (Some(stream), Some(busy)) = (&lane.stream, &lane.busy) {
                    let more = busy.sent < target.request.len();
                    let flags = if more { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
                    places.push(index);
                    waits.push(PollFd::new(stream, flags));
                }
            }
            if waits.is_empty() && wake.is_none() {
                return;
            }
            let patience = wake.map_or(SILENCE, |wake| wake.saturating_duration_since(Instant::now()));
            let timeout = Timespec {
                tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: patience.subsec_nanos().into(),
            };
            let ready = match poll(&mut waits, Some(&timeout)) {
                Err(rustix::io::Errno::INTR) => continue,
                ready => ready.unwrap_or(0),
            };
            let events: Vec<(usize, PollFlags)> =
                places.into_iter().zip(waits.iter().map(PollFd::revents)).collect();
            if ready == 0 && wake.is_none() {
                // Silent for so long: nobody is answered any more.
                for lane in self.lanes.iter_mut().filter(|lane| lane.busy.is_some()) {
                    lane.settle(Err(io::ErrorKind::TimedOut.into()), target, tally);
                }
            }
            for (index, events) in events {
                let Some(lane) = self.lanes.get_mut(index).filter(|_| !events.is_empty()) else { continue };
                let mut result = Ok(None);
                if events.contains(PollFlags::OUT) {
                    result = lane.write(target).map(|()| None);
                }
                if result.is_ok() && events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                    result = lane.read();
                }
                lane.settle(result, target, tally);
            }
        }
    }
}

/// What an idle connection does next.
enum Next {
    /// It sends a request, whose time counts from then.
    Now(Instant),
    At(Instant),
    Never,
}

/// What is counted.
struct Tally {
    turn: Turn,
    counted: Range<Instant>,
    /// Whether a request belongs to the time when it was due, and not to that when it is answered.
    by_arrival: bool,
}

impl Lane {
    fn connect(&mut self, target: &Target) -> io::Result<()> {
        if self.stream.is_none() {
            let stream = open(target.address)?;
            stream.set_nonblocking(true)?;
            self.stream = Some(stream);
        }
        Ok(())
    }

    /// Sends as much as there is room for.
    fn write(&mut self, target: &Target) -> io::Result<()> {
        let (Some(mut stream), Some(busy)) = (self.stream.as_ref(), self.busy.as_mut()) else {
            return Ok(());
        };
        while let Some(rest) = target.request.get(busy.sent..).filter(|rest| !rest.is_empty()) {
            match stream.write(rest) {
                Ok(count) => busy.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<Option<Head>> {
        let (Some(stream), Some(busy)) = (self.stream.as_ref(), self.busy.as_mut()) else { return Ok(None) };
        match busy.answer.read(stream, &mut self.buffer) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(None)
            }
            result => result,
        }
    }

    /// Counts a request that is over.
    fn settle(&mut self, result: io::Result<Option<Head>>, target: &Target, tally: &mut Tally) {
        let right = match &result {
            Ok(None) => return,
            Ok(Some(head)) => target.is_right(head.status, self.buffer.get(head.body..).unwrap_or_default()),
            Err(_) => false,
        };
        let Some(busy) = self.busy.take() else { return };
        let done = Instant::now();
        if tally.counted.contains(&if tally.by_arrival { busy.since } else { done }) {
            tally.turn.count(right, done.saturating_duration_since(busy.since));
        }
        if !right {
            self.pause = Some(done + PAUSE);
        }
        if !matches!(result, Ok(Some(head)) if !head.is_last()) {
            self.stream = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::{SocketAddr, TcpListener};

    use super::*;

    /// A server that answers `hi` on every connection, and `no` each fifth time; after that it ends the connection.
    fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    stream.set_nodelay(true).unwrap();
                    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                    for round in 1..=5 {
                        while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
                        let (close, body) = if round == 5 { ("close", "no") } else { ("keep-alive", "hi") };
                        let head =
                            format!("HTTP/1.1 200 OK\r\nconnection: {close}\r\ncontent-length: 2\r\n\r\n");
                        let _ = stream.write_all(head.as_bytes());
                        std::thread::sleep(Duration::from_millis(1));
                        let _ = stream.write_all(body.as_bytes());
                    }
                });
            }
        });
        address
    }

    fn target() -> Target {
        Target {
            address: server(),
            request: b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            expected: Some(b"hi".to_vec()),
        }
    }

    #[test]
    fn every_request_is_answered_and_the_wrong_ones_are_counted() {
        let target = target();
        let mut drive = Drive::new(&target, 3);
        drive.warm_up();
        let start = Instant::now();
        // Two of them were due before what counts.
        let arrivals: Vec<_> = (0..42).map(Duration::from_millis).collect();
        let plan = Plan::Open { start, arrivals: &arrivals };
        let from = start + Duration::from_micros(1_500);
        let turn = drive.send(&plan, from..from + Duration::from_secs(3600));
        assert_eq!((turn.sent, turn.times.len() + turn.failed), (42, 40));
        // Each connection gave an answer already, and each fifth is wrong.
        assert!((6..=9).contains(&turn.failed), "{}", turn.failed);
        assert!(turn.times.iter().all(|time| *time >= Duration::from_millis(1)), "{:?}", turn.times);
    }

    #[test]
    fn a_closed_load_ends_in_time() {
        let target = target();
        let start = Instant::now();
        let until = start + Duration::from_millis(100);
        let turn = Drive::new(&target, 4).send(&Plan::Closed { until }, start..until);
        assert!(turn.sent > 8 && turn.failed > 0 && turn.times.len() + turn.failed <= turn.sent, "{turn:?}");
        // Who is not there fails, and does not stop the others.
        let nobody = Target { address: "127.0.0.1:1".parse().unwrap(), ..target };
        let until = Instant::now() + Duration::from_millis(20);
        let turn = Drive::new(&nobody, 2).send(&Plan::Closed { until }, start..until);
        assert!(turn.failed > 0 && turn.times.is_empty(), "{turn:?}");
    }
}

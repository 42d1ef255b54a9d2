//! What requests and connections may cost: the settings under `[limits]`.
//!
//! Where each is kept: bodies in [`crate::body`] and [`crate::grpc::body`], values in [`crate::front`] and
//! [`crate::json`], pictures in [`crate::payload`], connections in [`crate::connections`] and
//! [`crate::grpc::incoming`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::json::DEPTH;

/// What requests and connections may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a request's body, unpacked.
    pub max_body_bytes: usize,
    /// Inputs in one request.
    pub max_rows: usize,
    /// Elements of one tensor.
    pub max_tensor_elements: usize,
    /// How deep the arrays and objects of JSON may nest.
    pub max_json_depth: usize,
    /// Pixels of all pictures in one request.
    pub max_image_pixels: u64,
    /// Requests that may wait for a thread that prepares them; the next is answered 503.
    pub queue: usize,
    /// Seconds within which the head of a request must have arrived.
    pub header_timeout_s: u64,
    /// Seconds within which a body must have arrived.
    pub body_timeout_s: u64,
    /// Bytes a second of a body, in the mean since it began; what is slower for longer than [`GRACE`] is refused. 0 refuses
    /// none.
    pub min_body_bytes_per_s: u64,
    /// Seconds within which a client must take the next part of an answer.
    pub write_timeout_s: u64,
    /// Seconds that a connection may wait for its next request.
    pub keep_alive_s: u64,
    /// Bytes of all bodies that are in memory at a time; what comes beyond is answered 503.
    pub max_bytes_in_flight: usize,
    /// Megabytes that the process may have ([`crate::memory`]); 0: as many as its control group may.
    pub max_memory_mb: u64,
    /// Connections at a time, of HTTP and of gRPC each.
    pub max_connections: usize,
    /// Whether a client may end its half of a connection of HTTP before it has the answer. If not, its request is dropped
    /// then, for that is what clients that have gone look like.
    pub allow_half_closed: bool,
    /// Calls of one connection of gRPC at a time.
    pub max_grpc_streams: u32,
    /// Seconds of silence after which a client of gRPC is asked whether it is there.
    pub grpc_keep_alive_s: u64,
    /// Seconds after which a connection of gRPC is ended, and the client makes a new one.
    pub grpc_connection_age_s: u64,
}

/// How long a body may be slower than it should be.
pub const GRACE: Duration = Duration::from_secs(5);

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: 16 << 20,
            max_rows: 1024,
            max_tensor_elements: 1 << 24,
            max_json_depth: DEPTH,
            max_image_pixels: 1 << 26,
            queue: 128,
            header_timeout_s: 10,
            body_timeout_s: 30,
            min_body_bytes_per_s: 1024,
            write_timeout_s: 30,
            keep_alive_s: 75,
            max_bytes_in_flight: 256 << 20,
            max_memory_mb: 0,
            max_connections: 1024,
            allow_half_closed: false,
            max_grpc_streams: 256,
            grpc_keep_alive_s: 60,
            grpc_connection_age_s: 3600,
        }
    }
}

impl Limits {
    /// The first limit that cannot work: its key, and what would.
    #[must_use]
    pub fn fault(&self) -> Option<(&'static str, &'static str)> {
        const HOUR: u64 = 3600;
        let second = |seconds: u64| (1..=HOUR).contains(&seconds);
        let works = [
            ((1..=1 << 30).contains(&self.max_body_bytes), "max_body_bytes", "must be from 1 to 1073741824"),
            ((1..=1 << 20).contains(&self.max_rows), "max_rows", "must be from 1 to 1048576"),
            (
                (1..=1 << 30).contains(&self.max_tensor_elements),
                "max_tensor_elements",
                "must be from 1 to 1073741824",
            ),
            ((1..=DEPTH).contains(&self.max_json_depth), "max_json_depth", "must be from 1 to 100"),
            (
                (1..=1 << 32).contains(&self.max_image_pixels),
                "max_image_pixels",
                "must be from 1 to 4294967296",
            ),
            ((1..=1 << 16).contains(&self.queue), "queue", "must be from 1 to 65536"),
            (second(self.header_timeout_s), "header_timeout_s", SECONDS),
            (second(self.body_timeout_s), "body_timeout_s", SECONDS),
            (
                self.min_body_bytes_per_s <= 1 << 30,
                "min_body_bytes_per_s",
                "must be at most 1073741824, and 0 for none",
            ),
            (second(self.write_timeout_s), "write_timeout_s", SECONDS),
            (second(self.keep_alive_s), "keep_alive_s", SECONDS),
            (
                self.max_bytes_in_flight >= self.max_body_bytes,
                "max_bytes_in_flight",
                "must be at least `limits.max_body_bytes`",
            ),
            (
                self.max_memory_mb <= 1 << 24,
                "max_memory_mb",
                "must be at most 16777216, and 0 for what the control group may have",
            ),
            ((1..=1 << 16).contains(&self.max_connections), "max_connections", "must be from 1 to 65536"),
            ((1..=1 << 16).contains(&self.max_grpc_streams), "max_grpc_streams", "must be from 1 to 65536"),
            (second(self.grpc_keep_alive_s), "grpc_keep_alive_s", SECONDS),
            (
                (1..=24 * HOUR).contains(&self.grpc_connection_age_s),
                "grpc_connection_age_s",
                "must be from 1 to 86400",
            ),
        ];
        works.into_iter().find_map(|(works, key, message)| (!works).then_some((key, message)))
    }

    /// How long after its beginning the next part of a body may come, when so many bytes of it are there.
    #[must_use]
    pub fn body_patience(&self, received: usize) -> Duration {
        let whole = Duration::from_secs(self.body_timeout_s);
        match self.min_body_bytes_per_s {
            0 => whole,
            rate => whole.min(GRACE.max(Duration::from_secs_f64(received as f64 / rate as f64))),
        }
    }
}

const SECONDS: &str = "must be from 1 to 3600";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_bounds() {
        assert_eq!(Limits::default().fault(), None);
        let good = serde_json::to_value(Limits::default()).unwrap();
        for (key, value) in good.as_object().unwrap() {
            // A limit of 0 or of more than there can be would be none.
            let wrong: &[u64] = match key.as_str() {
                "allow_half_closed" => continue,
                "min_body_bytes_per_s" | "max_memory_mb" => &[u64::from(u32::MAX)],
                "max_grpc_streams" => &[0, 1 << 20],
                "max_bytes_in_flight" => &[0, 1],
                _ => &[0, u64::MAX],
            };
            assert!(value.is_u64(), "{key}");
            for wrong in wrong {
                let mut limits = good.clone();
                limits[key] = (*wrong).into();
                let fault = serde_json::from_value::<Limits>(limits).unwrap().fault();
                assert_eq!(fault.map(|(key, _)| key), Some(key.as_str()), "{wrong}");
            }
        }
    }

    #[test]
    fn a_body_has_its_grace_and_then_a_rate() {
        let limits = Limits { min_body_bytes_per_s: 100, body_timeout_s: 30, ..Limits::default() };
        for (received, seconds) in [(0, 5), (500, 5), (1000, 10), (3000, 30), (1 << 30, 30)] {
            assert_eq!(limits.body_patience(received), Duration::from_secs(seconds), "{received}");
        }
        let short = Limits { body_timeout_s: 1, ..limits };
        assert_eq!(short.body_patience(0), Duration::from_secs(1));
        let none = Limits { min_body_bytes_per_s: 0, ..limits };
        assert_eq!(none.body_patience(0), Duration::from_secs(30));
    }
}

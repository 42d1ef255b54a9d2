//! How fast the server is: a load generator, and the bench that puts the server beside the bare predictor, a bare HTTP
//! server, and servers of others.
//!
//! Everything runs on the same processors as the server, so the generator is small: one or two threads for all
//! connections, requests that are bytes from the start. It measures and asserts nothing; `cargo xtask bench serve`
//! is how it is called.

pub mod bench;
pub mod chaos;
pub mod cold;
mod drive;
pub mod echo;
pub mod generate;
pub mod http;
pub mod peers;
pub mod process;
pub mod requests;
pub mod soak;
pub mod subject;
pub mod trial;

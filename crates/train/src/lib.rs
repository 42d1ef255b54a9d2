//! From data to a package: data sets, fitting, evaluation, reports.
//!
//! [`pipeline::train`] is the whole way; its steps can be used alone: [`data::load`], [`prepare::prepare`],
//! [`fit::fit`], [`evaluate::evaluate`], [`report::render`], [`pack::draft`]. The crate deliberately prints
//! nothing, reads no clock but to measure, and picks no device and no seed by itself: its caller does.

pub mod bench;
pub mod config;
pub mod data;
pub mod device;
pub mod evaluate;
pub mod fit;
pub mod init;
pub mod observed;
pub mod pack;
pub mod pipeline;
pub mod prepare;
pub mod report;
pub mod run;

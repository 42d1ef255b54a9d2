//! Makes models small and fast, and measures what that costs.
//!
//! Methods take a model of floats with the data that it was trained on, and give a smaller or faster one:
//!
//! | module | what it does |
//! |---|---|
//! | [`quantize`], [`qat`] | int8 after training, and trained for it |
//! | [`prune::structured`] | channels and neurons removed |
//! | [`magnitude`] | single weights made zero |
//! | [`cluster`] | weights that share a few values |
//! | [`distill`] | a student learns from a teacher |
//! | [`recipe`], [`pipeline`] | several of them: as a file says, or searched within a budget |
//!
//! Each result becomes a [`finish::Candidate`]; [`finish::finish`] scores and times it beside its parent.
//! [`compare::compare`] puts any models side by side, [`significance`] says whether they really differ, and [`page`]
//! draws that. The crate deliberately prints nothing and publishes nothing by itself.

pub mod bench;
pub mod calibrate;
pub mod cluster;
pub mod compare;
pub mod config;
pub mod distill;
pub mod finetune;
pub mod finish;
pub mod judge;
mod kmeans;
pub mod magnitude;
pub mod names;
pub mod page;
pub mod pipeline;
pub mod prune;
pub mod qat;
pub mod quantize;
pub mod recipe;
pub mod report;
pub mod side;
pub mod significance;
mod speed;
